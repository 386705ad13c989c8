/* Norm, activation and 2x2 max pooling in one pass, for one type of values: part of norm_loops.h. */

typedef uint8_t NAME(bytes) __attribute__((vector_size(WIDTH / sizeof(REAL))));

INLINE uint8_t *NAME(codes_of)(const struct norm_call *call, int64_t window, struct lanes lanes)
{
    return call->codes + window * call->channels + lanes.first;
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
    NAME(vector) best = {0};
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
            best = x;
    }
    if (activation == RELU) {
        NAME(mask) passes = ~(NAME(mask))(best <= 0); /* the gradient of a NaN, too */
        best = (NAME(vector))((NAME(mask))best & passes);
        places += passes & SIGN;
    } else if (activation == LEAKY_RELU) {
        places += (NAME(mask))(best > 0) & SIGN;
    }
    NAME(store)(NAME(pixel)(&call->y, window.number), lanes, best);
    NAME(bytes) codes = __builtin_convertvector(places, NAME(bytes));
    memcpy(NAME(codes_of)(call, window.number, lanes), &codes, (size_t)lanes.count);
}

/* `x` -> `y` and `codes` */
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

/* What a pixel gets of the gradient of its window, before the activation. */
INLINE NAME(vector) NAME(unpooled)(
    struct lanes lanes, const struct norm_call *call, const struct cursor *cursor,
    enum activation activation)
{
    int64_t window = window_of(call, cursor);
    NAME(vector) grad = {0};
    if (window < 0)
        return grad;
    grad = NAME(load)(NAME(pixel)(&call->grad, window), lanes);
    NAME(bytes) bytes = {0};
    memcpy(&bytes, NAME(codes_of)(call, window, lanes), (size_t)lanes.count);
    NAME(mask) codes = __builtin_convertvector(bytes, NAME(mask));
    NAME(mask) passes = codes >= SIGN;
    if (activation == RELU)
        grad = (NAME(vector))((NAME(mask))grad & passes);
    else if (activation == LEAKY_RELU)
        grad = NAME(select)(passes, grad, grad * (REAL)call->slope_behind);
    return (NAME(vector))((NAME(mask))grad & ((codes & (SIGN - 1)) == place_of(cursor)));
}

/* The gradient of a pixel before the activation behind the norm, and before the pooling. */
INLINE NAME(vector) NAME(grad_before)(
    struct lanes lanes, const struct norm_call *call, int64_t pixel, const struct cursor *cursor,
    NAME(vector) x, enum activation activation)
{
    if (call->codes)
        return NAME(unpooled)(lanes, call, cursor, activation);
    NAME(vector) grad = NAME(load)(NAME(pixel)(&call->grad, pixel), lanes);
    NAME(vector) result = NAME(normed)(lanes, call, x);
    return NAME(let_through)(grad, result, (REAL)call->slope_behind, activation);
}
