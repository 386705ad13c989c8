/* Vectors of one type of values, REAL, of which a comparison makes INTEGER: channels of a pixel. */

typedef REAL NAME(vector) __attribute__((vector_size(WIDTH)));
typedef INTEGER NAME(mask) __attribute__((vector_size(WIDTH)));

enum { NAME(LANES) = WIDTH / sizeof(REAL) };

INLINE NAME(vector) NAME(load)(const void *values, struct lanes lanes)
{
    NAME(vector) loaded = {0};
    memcpy(&loaded, (const REAL *)values + lanes.first, (size_t)lanes.count * sizeof(REAL));
    return loaded;
}

INLINE void NAME(store)(void *values, struct lanes lanes, NAME(vector) stored)
{
    memcpy((REAL *)values + lanes.first, &stored, (size_t)lanes.count * sizeof(REAL));
}

INLINE REAL *NAME(pixel)(const struct map *map, int64_t pixel)
{
    return (REAL *)map->values + pixel * map->stride;
}

INLINE NAME(vector) NAME(select)(NAME(mask) mask, NAME(vector) yes, NAME(vector) no)
{
    return (NAME(vector))(((NAME(mask))yes & mask) | ((NAME(mask))no & ~mask));
}

/* A gradient of what was activated, from that behind the activation. */
INLINE NAME(vector) NAME(let_through)(
    NAME(vector) grad, NAME(vector) value, REAL slope, enum activation activation)
{
    if (activation == RELU) /* that of a NaN passes, too */
        return (NAME(vector))((NAME(mask))grad & ~(NAME(mask))(value <= 0));
    if (activation == LEAKY_RELU)
        return NAME(select)((NAME(mask))(value > 0), grad, grad * slope);
    return grad;
}

/* As PyTorch's: a ReLU keeps -0.0 and NaN as they are. */
INLINE NAME(vector) NAME(activated)(NAME(vector) value, REAL slope, enum activation activation)
{
    if (activation == RELU)
        return (NAME(vector))((NAME(mask))value & ~(NAME(mask))(value < 0));
    return NAME(let_through)(value, value, slope, activation);
}
