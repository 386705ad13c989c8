/* The gradient of a ReLU or LeakyReLU from bits, for values of type REAL and their masks, INTEGER. */

enum { NAME(WIDTH) = EIGHT * sizeof(REAL) };
typedef REAL NAME(eight) __attribute__((vector_size(NAME(WIDTH))));
typedef INTEGER NAME(masks) __attribute__((vector_size(NAME(WIDTH))));

/* Where a bit is set, all of the gradient passes. */
INLINE NAME(eight) NAME(let_through)(
    NAME(eight) grads, NAME(masks) masks, REAL slope, enum activation activation)
{
    NAME(masks) passed = (NAME(masks))grads & masks;
    if (activation == RELU)
        return (NAME(eight))passed;
    return (NAME(eight))(passed | ((NAME(masks))(grads * slope) & ~masks));
}

INLINE void NAME(rectify_as)(
    const struct bits_call *call, struct share bytes, enum activation activation)
{
    const INTEGER *table = call->table;
    for (int64_t i = bytes.first; i < bytes.end; i++) {
        int64_t count = smaller(EIGHT, call->count - i * EIGHT);
        const REAL *from = (const REAL *)call->grads + i * EIGHT;
        REAL *to = (REAL *)call->values + i * EIGHT;
        NAME(eight) grads = {0};
        NAME(masks) masks;
        memcpy(&masks, table + call->bits[i] * EIGHT, NAME(WIDTH));
        if (count == EIGHT) { /* of a size known when compiling */
            memcpy(&grads, from, NAME(WIDTH));
            grads = NAME(let_through)(grads, masks, (REAL)call->slope, activation);
            memcpy(to, &grads, NAME(WIDTH));
        } else {
            memcpy(&grads, from, (size_t)count * sizeof(REAL));
            grads = NAME(let_through)(grads, masks, (REAL)call->slope, activation);
            memcpy(to, &grads, (size_t)count * sizeof(REAL));
        }
    }
}

static void NAME(rectify_share)(void *argument)
{
    const struct bits_call *call = argument;
    struct share bytes = share_of(bytes_of(call));
    if (activation_of(call->slope) == RELU)
        NAME(rectify_as)(call, bytes, RELU);
    else
        NAME(rectify_as)(call, bytes, LEAKY_RELU);
}

/* `grads` and `bits` -> `values` */
int NAME(rectify_backward)(const struct bits_call *call, unsigned threads)
{
    return run_bits(NAME(rectify_share), call, threads);
}
