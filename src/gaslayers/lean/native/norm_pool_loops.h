/* Norm, activation and 2x2 max pooling in one pass, for one type of values: part of norm_loops.h. */

/* Digits between bytes in memory and a vector's lanes. GCC converts vectors of bytes one by one; by
   changing places within a vector it takes an instruction or two. */

INLINE NAME(mask) NAME(load_digits)(const uint8_t *digits, struct lanes lanes)
{
    uint64_t bytes = 0;
    byte_vector from;
    memcpy(&bytes, digits, (size_t)lanes.count);
    for (int i = 0; i < WIDTH; i++) /* after the lanes' bytes there are zeros */
        from[i] = i % sizeof(REAL) ? WIDTH - 1 : i / sizeof(REAL);
    return (NAME(mask))__builtin_shuffle((byte_vector)(word_vector){bytes}, from);
}

INLINE void NAME(store_digits)(uint8_t *digits, struct lanes lanes, NAME(mask) stored)
{
    byte_vector from;
    for (int i = 0; i < WIDTH; i++)
        from[i] = (uint8_t)(i * sizeof(REAL)); /* modulo the width, as only the first ones count */
    from = __builtin_shuffle((byte_vector)stored, from);
    memcpy(digits, &from, (size_t)lanes.count);
}

INLINE uint8_t *NAME(digits_at)(const struct norm_call *call, int64_t window, struct lanes lanes)
{
    return call->digits + window * call->channels + lanes.first;
}

/* The larger one and its place; of equal values the first, of NaNs the last. */
INLINE void NAME(take_larger)(
    NAME(vector) *best, NAME(mask) *best_place, NAME(vector) value, INTEGER place)
{
    NAME(mask) is_larger = (NAME(mask))(value > *best) | (NAME(mask))(value != value);
    *best = NAME(select)(is_larger, value, *best);
    *best_place = (is_larger & place) | (~is_larger & *best_place);
}

/* The pixels of a window, of which the right and lower ones may be over the edge. */
struct NAME(window) {
    int64_t number, upper_left, right, below;
};

INLINE void NAME(pool_lanes)(
    struct lanes lanes, const struct norm_call *call, struct NAME(window) window,
    enum activation activation)
{
    /* A ReLU keeps order, and is applied to what is pooled. */
    enum activation inner = activation == RELU ? IDENTITY : activation;
    NAME(vector) first = {0}, best = {0};
    NAME(mask) places = {0};
    for (int place = 0; place < 4; place++) {
        /* A window over an edge reads its last row or column twice. */
        int64_t right = place % 2 ? window.right : 0, below = place / 2 ? window.below : 0;
        int64_t pixel = window.upper_left + right + below * call->width;
        NAME(vector) x = NAME(load)(NAME(pixel)(&call->x, pixel), lanes);
        x = NAME(activated)(NAME(normed)(lanes, call, x), (REAL)call->slope_behind, inner);
        if (place)
            NAME(take_larger)(&best, &places, x, (INTEGER)(right + 2 * below));
        else
            first = best = x;
    }
    if (activation == RELU) {
        NAME(mask) passes = ~(NAME(mask))(best <= 0); /* the gradient of a NaN, too */
        /* Of zeros, whose signs differ, the first is taken: that is what the first value becomes. */
        best = NAME(select)(passes, best, NAME(activated)(first, 0, RELU));
        places = (passes & places) | (~passes & NOWHERE);
    } else if (activation == LEAKY_RELU) {
        places += (NAME(mask))(best > 0) & POSITIVE;
    }
    NAME(store)(NAME(pixel)(&call->y, window.number), lanes, best);
    NAME(store_digits)(NAME(digits_at)(call, window.number, lanes), lanes, places);
}

/* `x` -> `y` and `digits` */
INLINE void NAME(pool_windows)(const struct norm_call *call, enum activation activation)
{
    int64_t count = call->pixels / (call->height * call->width);
    struct share bands = share_of(count * call->rows);
    for (int64_t band = bands.first; band < bands.end; band++) {
        int64_t y = 2 * (band % call->rows);
        int64_t row = (band / call->rows * call->height + y) * call->width;
        for (int64_t column = 0; column < call->columns; column++) {
            struct NAME(window) window = {
                band * call->columns + column, row + 2 * column,
                2 * column + 1 < call->width, y + 1 < call->height};
            FOR_LANES(call->channels, pool_lanes, call, window, activation);
        }
    }
}

INLINE void NAME(pack)(const struct norm_call *call, enum activation activation)
{
    pack_digits(call->digits, call->packed, windows_of(call), activation);
}

INLINE void NAME(unpack)(const struct norm_call *call, enum activation activation)
{
    unpack_digits(call->packed, call->digits, windows_of(call), activation);
}

/* The gradient of a window, before the activation, and its digits. */
struct NAME(window_gradient) {
    NAME(vector) grad;
    NAME(mask) places;
};

INLINE struct NAME(window_gradient) NAME(load_window)(
    struct lanes lanes, const struct norm_call *call, int64_t window, enum activation activation)
{
    struct NAME(window_gradient) of = {{0}, {0}};
    if (window < 0)
        return of;
    /* As where a gradient is added to zeros: -0.0 becomes 0.0. */
    of.grad = NAME(load)(NAME(pixel)(&call->grad, window), lanes) + 0;
    of.places = NAME(load_digits)(NAME(digits_at)(call, window, lanes), lanes);
    if (activation == LEAKY_RELU) {
        NAME(mask) passes = of.places >= POSITIVE;
        of.grad = NAME(select)(passes, of.grad, of.grad * (REAL)call->slope_behind);
        of.places &= POSITIVE - 1;
    }
    return of;
}

/* What a pixel at this place gets of it. */
INLINE NAME(vector) NAME(unpooled)(struct NAME(window_gradient) of, int32_t place)
{
    return (NAME(vector))((NAME(mask))of.grad & (of.places == place));
}
