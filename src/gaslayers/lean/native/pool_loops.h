/* The loops of pool.c for one type of values, REAL. */

/* Many channels: the innermost loops run along these. */

INLINE void NAME(pool_channels)(const struct pool_call *call, enum activation activation)
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
            uint8_t *restrict digits = call->digits + (band * columns + column) * channels;
            for (int64_t i = 0; i < channels; i++)
                NAME(pool_window)(upper_left[i], upper_right[i], lower_left[i], lower_right[i],
                                  right, below, slope, activation, pooled, digits, i);
        }
    }
}

INLINE void NAME(unpool_channels)(const struct pool_call *call, enum activation activation)
{
    int64_t channels = call->channels, height = call->height, width = call->width;
    int64_t rows = call->rows, columns = call->columns;
    REAL slope = (REAL)call->slope;
    struct share bands = share_of(call->count * rows);
    for (int64_t band = bands.first; band < bands.end; band++)
        for (int64_t column = 0; column < columns; column++) {
            const REAL *restrict grads =
                (const REAL *)call->small + (band * columns + column) * channels;
            const uint8_t *restrict digits = call->digits + (band * columns + column) * channels;
            for (int32_t place = 0; place < 4; place++) {
                int64_t y = 2 * (band % rows) + place / 2, x = 2 * column + place % 2;
                if (y >= height || x >= width)
                    continue;
                REAL *restrict to = (REAL *)call->whole +
                    ((band / rows * height + y) * width + x) * channels;
                for (int64_t i = 0; i < channels; i++)
                    to[i] = NAME(unpooled)(grads[i], digits[i], place, slope, activation);
            }
        }
}

/* Few channels: the values of many windows are brought together in lines, one a place, and the
   innermost loops run along these. */

/* Pixels of a row, in turns to two lines, and the way back. */
INLINE void NAME(split_as)(
    const REAL *row, REAL *restrict left, REAL *restrict right, int64_t pairs, int64_t channels)
{
    for (int64_t i = 0; i < pairs; i++)
        for (int64_t c = 0; c < channels; c++) {
            left[i * channels + c] = row[2 * i * channels + c];
            right[i * channels + c] = row[(2 * i + 1) * channels + c];
        }
}

INLINE void NAME(join_as)(
    const REAL *left, const REAL *right, REAL *restrict row, int64_t pairs, int64_t channels)
{
    for (int64_t i = 0; i < pairs; i++)
        for (int64_t c = 0; c < channels; c++) {
            row[2 * i * channels + c] = left[i * channels + c];
            row[(2 * i + 1) * channels + c] = right[i * channels + c];
        }
}

/* With the channels known when compiling, a pixel is copied by few instructions. */
#define COPY(copy, a, b, c) \
    switch (channels) { \
    case 1: NAME(copy)(a, b, c, pairs, 1); break; \
    case 8: NAME(copy)(a, b, c, pairs, 8); break; \
    case 16: NAME(copy)(a, b, c, pairs, 16); break; \
    case 32: NAME(copy)(a, b, c, pairs, 32); break; \
    default: NAME(copy)(a, b, c, pairs, channels); \
    }

static void NAME(split)(
    const REAL *row, REAL *left, REAL *right, int64_t pairs, int64_t channels)
{
    COPY(split_as, row, left, right)
}

static void NAME(join)(
    const REAL *left, const REAL *right, REAL *row, int64_t pairs, int64_t channels)
{
    COPY(join_as, left, right, row)
}

/* Windows over an edge are filled up there, with what is never the largest. */
INLINE void NAME(fill)(REAL *line, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        line[i] = -INFINITY;
}

INLINE void NAME(pool_lines)(const struct pool_call *call, enum activation activation)
{
    int64_t channels = call->channels, height = call->height, width = call->width;
    int64_t rows = call->rows, columns = call->columns;
    REAL slope = (REAL)call->slope, lines[4][LINE];
    struct share bands = share_of(call->count * rows);
    struct batch batch = batch_of(columns, channels);
    for (int64_t band = bands.first; band < bands.end; band += batch.bands)
        for (int64_t column = 0; column < columns; column += batch.columns) {
            int64_t joined = smaller(batch.bands, bands.end - band);
            int64_t windows = smaller(batch.columns, columns - column);
            int64_t pairs = smaller(windows, width / 2 - column);
            for (int64_t i = 0; i < joined; i++) {
                int64_t y = 2 * ((band + i) % rows), at = i * windows * channels;
                const REAL *row = (const REAL *)call->whole +
                    (((band + i) / rows * height + y) * width + 2 * column) * channels;
                for (int64_t below = 0; below < 2; below++, row += width * channels) {
                    REAL *left = lines[2 * below] + at, *right = lines[2 * below + 1] + at;
                    if (y + below >= height) {
                        NAME(fill)(left, windows * channels);
                        NAME(fill)(right, windows * channels);
                        continue;
                    }
                    NAME(split)(row, left, right, pairs, channels);
                    if (pairs < windows) {
                        memcpy(left + pairs * channels, row + 2 * pairs * channels,
                               (size_t)channels * sizeof(REAL));
                        NAME(fill)(right + pairs * channels, channels);
                    }
                }
            }
            REAL *restrict pooled = (REAL *)call->small + (band * columns + column) * channels;
            uint8_t *restrict digits = call->digits + (band * columns + column) * channels;
            for (int64_t i = 0; i < joined * windows * channels; i++)
                NAME(pool_window)(lines[0][i], lines[1][i], lines[2][i], lines[3][i], 1, 2, slope,
                                  activation, pooled, digits, i);
        }
}

/* The same walk, spelled out again: here lines are made first, and then brought back. */
INLINE void NAME(unpool_lines)(const struct pool_call *call, enum activation activation)
{
    int64_t channels = call->channels, height = call->height, width = call->width;
    int64_t rows = call->rows, columns = call->columns;
    REAL slope = (REAL)call->slope, lines[4][LINE];
    struct share bands = share_of(call->count * rows);
    struct batch batch = batch_of(columns, channels);
    for (int64_t band = bands.first; band < bands.end; band += batch.bands)
        for (int64_t column = 0; column < columns; column += batch.columns) {
            int64_t joined = smaller(batch.bands, bands.end - band);
            int64_t windows = smaller(batch.columns, columns - column);
            int64_t pairs = smaller(windows, width / 2 - column);
            const REAL *restrict grads =
                (const REAL *)call->small + (band * columns + column) * channels;
            const uint8_t *restrict digits = call->digits + (band * columns + column) * channels;
            for (int32_t place = 0; place < 4; place++) {
                REAL *restrict line = lines[place];
                for (int64_t i = 0; i < joined * windows * channels; i++)
                    line[i] = NAME(unpooled)(grads[i], digits[i], place, slope, activation);
            }
            for (int64_t i = 0; i < joined; i++) {
                int64_t y = 2 * ((band + i) % rows), at = i * windows * channels;
                REAL *row = (REAL *)call->whole +
                    (((band + i) / rows * height + y) * width + 2 * column) * channels;
                for (int64_t below = 0; below < smaller(2, height - y); below++) {
                    const REAL *left = lines[2 * below] + at, *right = lines[2 * below + 1] + at;
                    NAME(join)(left, right, row, pairs, channels);
                    if (pairs < windows)
                        memcpy(row + 2 * pairs * channels, left + pairs * channels,
                               (size_t)channels * sizeof(REAL));
                    row += width * channels;
                }
            }
        }
}

#define RUN(name, call) \
    switch (activation_of((call)->slope)) { \
    case RELU: NAME(name)(call, RELU); break; \
    case LEAKY_RELU: NAME(name)(call, LEAKY_RELU); break; \
    case IDENTITY: NAME(name)(call, IDENTITY); break; \
    }

INLINE void NAME(pack)(const struct pool_call *call, enum activation activation)
{
    pack_digits(call->digits, call->packed, windows_of(call), activation);
}

INLINE void NAME(unpack)(const struct pool_call *call, enum activation activation)
{
    unpack_digits(call->packed, call->digits, windows_of(call), activation);
}

static void NAME(pool_share)(void *argument)
{
    const struct pool_call *call = argument;
    if (call->channels < MANY)
        RUN(pool_lines, call)
    else
        RUN(pool_channels, call)
    openmp.barrier();
    RUN(pack, call)
}

static void NAME(unpool_share)(void *argument)
{
    const struct pool_call *call = argument;
    RUN(unpack, call)
    openmp.barrier();
    if (call->channels < MANY)
        RUN(unpool_lines, call)
    else
        RUN(unpool_channels, call)
}

/* Runs a kernel in memory of its own; an `answer`. */
static int NAME(run_pool)(void (*share)(void *), struct pool_call call, unsigned threads)
{
    call.digits = new_digits(windows_of(&call), call.slope);
    if (!call.digits)
        return NO_MEMORY;
    openmp.run_parallel(share, &call, threads, 0);
    free(call.digits);
    return DONE;
}

/* `whole` -> `small` and `packed` */
int NAME(pool)(const struct pool_call *call, unsigned threads)
{
    return NAME(run_pool)(NAME(pool_share), *call, threads);
}

/* `small`, a gradient, and `packed` -> `whole`, the gradient before, where a window covers it */
int NAME(unpool)(const struct pool_call *call, unsigned threads)
{
    return NAME(run_pool)(NAME(unpool_share), *call, threads);
}

#undef RUN
#undef COPY
