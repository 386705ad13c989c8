/* The loops of pool.c for one type of values, REAL. */

INLINE REAL NAME(activate)(REAL value, REAL slope)
{
    return value > 0 ? value : value * slope;
}

struct NAME(window) {
    REAL value; /* the largest */
    int32_t place;
};

/* Of equal values the first, of NaNs the last, as PyTorch's pooling has it. */
INLINE struct NAME(window) NAME(larger)(struct NAME(window) best, REAL value, int32_t place)
{
    int is_larger = (value > best.value) | (value != value);
    best.value = is_larger ? value : best.value;
    best.place = is_larger ? place : best.place;
    return best;
}

/* Stores the i-th window's value and code; `right` and `below` are the places of its neighbours. */
INLINE void NAME(pool_window)(
    REAL upper_left, REAL upper_right, REAL lower_left, REAL lower_right, int32_t right,
    int32_t below, REAL slope, enum activation activation, REAL *pooled, uint8_t *codes, int64_t i)
{
    /* A ReLU keeps order, and is applied to what is pooled. */
    REAL inner = activation == LEAKY_RELU ? slope : 1;
    struct NAME(window) best = {NAME(activate)(upper_left, inner), 0};
    best = NAME(larger)(best, NAME(activate)(upper_right, inner), right);
    best = NAME(larger)(best, NAME(activate)(lower_left, inner), below);
    best = NAME(larger)(best, NAME(activate)(lower_right, inner), below + right);
    if (activation == RELU) {
        int passes = !(best.value <= 0); /* the gradient of a NaN passes, too */
        best.value = passes ? best.value : 0;
        best.place = passes ? best.place + SIGN : best.place;
    } else if (activation == LEAKY_RELU) {
        best.place = best.value > 0 ? best.place + SIGN : best.place;
    }
    pooled[i] = best.value;
    codes[i] = (uint8_t)best.place;
}

/* What the value at this place gets of its window's gradient. */
INLINE REAL NAME(unpooled)(
    REAL grad, int32_t code, int32_t place, REAL slope, enum activation activation)
{
    REAL held_back = activation == LEAKY_RELU ? grad * slope : 0;
    REAL passed = activation == IDENTITY || code >= SIGN ? grad : held_back;
    return (code & (SIGN - 1)) == place ? passed : 0;
}

/* Several channels: the innermost loops run along these. */

INLINE void NAME(pool_channels)(const struct call *call, enum activation activation)
{
    int64_t channels = call->channels, height = call->height, width = call->width;
    int64_t rows = call->rows, columns = call->columns;
    REAL slope = (REAL)call->slope;
    struct share bands = share_of(call->count * rows);
    for (int64_t band = bands.first; band < bands.end; band++) {
        int64_t y = 2 * (band % rows);
        const REAL *row = (const REAL *)call->whole + (band / rows * height + y) * width * channels;
        /* A window over an edge reads its last row or column twice. */
        int32_t below = y + 1 < height ? 2 : 0;
        for (int64_t column = 0; column < columns; column++) {
            int32_t right = 2 * column + 1 < width ? 1 : 0;
            const REAL *upper_left = row + 2 * column * channels;
            const REAL *upper_right = upper_left + (right ? channels : 0);
            const REAL *lower_left = upper_left + (below ? width * channels : 0);
            const REAL *lower_right = lower_left + (right ? channels : 0);
            REAL *restrict pooled = (REAL *)call->small + (band * columns + column) * channels;
            uint8_t *restrict codes = call->codes + (band * columns + column) * channels;
            for (int64_t i = 0; i < channels; i++)
                NAME(pool_window)(upper_left[i], upper_right[i], lower_left[i], lower_right[i],
                                  right, below, slope, activation, pooled, codes, i);
        }
    }
}

INLINE void NAME(unpool_channels)(const struct call *call, enum activation activation)
{
    int64_t channels = call->channels, height = call->height, width = call->width;
    int64_t rows = call->rows, columns = call->columns;
    REAL slope = (REAL)call->slope;
    struct share lines = share_of(call->count * height);
    for (int64_t line = lines.first; line < lines.end; line++) {
        int64_t y = line % height, row = y / 2;
        for (int64_t x = 0; x < width; x++) {
            REAL *restrict to = (REAL *)call->whole + (line * width + x) * channels;
            if (row >= rows || x / 2 >= columns) { /* in no window */
                memset(to, 0, (size_t)channels * sizeof(REAL));
                continue;
            }
            int32_t place = (int32_t)(2 * (y % 2) + x % 2);
            int64_t from = ((line / height * rows + row) * columns + x / 2) * channels;
            const REAL *restrict grads = (const REAL *)call->small + from;
            const uint8_t *restrict codes = call->codes + from;
            for (int64_t i = 0; i < channels; i++)
                to[i] = NAME(unpooled)(grads[i], codes[i], place, slope, activation);
        }
    }
}

/* One channel: the innermost loops run along rows, of which short ones are joined. Windows over an
   edge are filled up there, with what is never the largest. */

INLINE void NAME(pool_rows)(const struct call *call, enum activation activation)
{
    int64_t height = call->height, width = call->width;
    int64_t rows = call->rows, columns = call->columns;
    int64_t used = smaller(width, 2 * columns);
    REAL slope = (REAL)call->slope, upper[MAX_WIDTH], lower[MAX_WIDTH];
    struct share bands = share_of(call->count * rows);
    for (int64_t first = bands.first, joined; first < bands.end; first += joined) {
        joined = smaller(bands.end - first, MAX_WIDTH / (2 * columns));
        for (int64_t i = 0; i < joined; i++) {
            int64_t y = 2 * ((first + i) % rows);
            const REAL *row = (const REAL *)call->whole + ((first + i) / rows * height + y) * width;
            REAL *pair[] = {upper + 2 * columns * i, lower + 2 * columns * i};
            for (int64_t below = 0; below < 2; below++) {
                int64_t there = y + below < height ? used : 0;
                memcpy(pair[below], row + below * width, (size_t)there * sizeof(REAL));
                for (int64_t x = there; x < 2 * columns; x++)
                    pair[below][x] = -INFINITY;
            }
        }
        REAL *restrict pooled = (REAL *)call->small + first * columns;
        uint8_t *restrict codes = call->codes + first * columns;
        for (int64_t i = 0; i < joined * columns; i++)
            NAME(pool_window)(upper[2 * i], upper[2 * i + 1], lower[2 * i], lower[2 * i + 1], 1, 2,
                              slope, activation, pooled, codes, i);
    }
}

INLINE void NAME(unpool_rows)(const struct call *call, enum activation activation)
{
    int64_t height = call->height, width = call->width;
    int64_t rows = call->rows, columns = call->columns;
    int64_t used = smaller(width, 2 * columns);
    REAL slope = (REAL)call->slope, upper[MAX_WIDTH], lower[MAX_WIDTH];
    struct share bands = share_of(call->count * rows);
    for (int64_t first = bands.first, joined; first < bands.end; first += joined) {
        joined = smaller(bands.end - first, MAX_WIDTH / (2 * columns));
        const REAL *restrict grads = (const REAL *)call->small + first * columns;
        const uint8_t *restrict codes = call->codes + first * columns;
        for (int64_t i = 0; i < joined * columns; i++) {
            upper[2 * i] = NAME(unpooled)(grads[i], codes[i], 0, slope, activation);
            upper[2 * i + 1] = NAME(unpooled)(grads[i], codes[i], 1, slope, activation);
        }
        for (int64_t i = 0; i < joined * columns; i++) {
            lower[2 * i] = NAME(unpooled)(grads[i], codes[i], 2, slope, activation);
            lower[2 * i + 1] = NAME(unpooled)(grads[i], codes[i], 3, slope, activation);
        }
        for (int64_t i = 0; i < joined; i++) {
            int64_t y = 2 * ((first + i) % rows);
            REAL *row = (REAL *)call->whole + ((first + i) / rows * height + y) * width;
            const REAL *pair[] = {upper + 2 * columns * i, lower + 2 * columns * i};
            for (int64_t below = 0; below < smaller(2, height - y); below++) {
                memcpy(row + below * width, pair[below], (size_t)used * sizeof(REAL));
                memset(row + below * width + used, 0, (size_t)(width - used) * sizeof(REAL));
            }
            if (y + 3 == height && 2 * rows < height) /* a last row in no window */
                memset(row + 2 * width, 0, (size_t)width * sizeof(REAL));
        }
    }
}

#define RUN(name, call) \
    switch (activation_of((call)->slope)) { \
    case RELU: NAME(name)(call, RELU); break; \
    case LEAKY_RELU: NAME(name)(call, LEAKY_RELU); break; \
    case IDENTITY: NAME(name)(call, IDENTITY); break; \
    }

/* `whole` -> `small` and `codes` */
void NAME(pool)(const struct call *call)
{
    if (call->channels == 1)
        RUN(pool_rows, call)
    else
        RUN(pool_channels, call)
}

/* `small`, a gradient, and `codes` -> `whole`, the gradient before */
void NAME(unpool)(const struct call *call)
{
    if (call->channels == 1)
        RUN(unpool_rows, call)
    else
        RUN(unpool_channels, call)
}

#undef RUN
