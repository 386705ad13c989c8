/* The loops of norm.c for one type of values, REAL. */

#include "vectors.h"

/* Does a thing for all channels, some at a time. With their number known when compiling, a whole
   vector is loaded by one instruction. */
#define FOR_LANES(channels, DO, ...) \
    do { \
        int64_t whole = (channels) - (channels) % NAME(LANES); \
        for (int64_t first = 0; first < whole; first += NAME(LANES)) \
            NAME(DO)((struct lanes){first, NAME(LANES)}, __VA_ARGS__); \
        if (whole < (channels)) \
            NAME(DO)((struct lanes){whole, (channels) - whole}, __VA_ARGS__); \
    } while (0)

/* With the activation known when compiling, loops have no branches. */
#define FOR_ACTIVATION(slope, DO, ...) \
    switch (activation_of(slope)) { \
    case RELU: NAME(DO)(__VA_ARGS__, RELU); break; \
    case LEAKY_RELU: NAME(DO)(__VA_ARGS__, LEAKY_RELU); break; \
    case IDENTITY: NAME(DO)(__VA_ARGS__, IDENTITY); break; \
    }

/* A norm as a scale and a shift of some channels. */
INLINE void NAME(find_scale_and_shift)(const struct norm_call *call, struct share channels)
{
    const REAL *mean = call->mean, *inverse_std = call->inverse_std;
    const REAL *weight = call->weight, *bias = call->bias;
    REAL *scale = call->scale, *shift = call->shift;
    for (int64_t c = channels.first; c < channels.end; c++) {
        scale[c] = inverse_std ? inverse_std[c] : 1;
        if (weight)
            scale[c] *= weight[c];
        shift[c] = bias ? bias[c] : 0;
        if (mean)
            shift[c] = SCALAR_MULTIPLY_ADD(-mean[c], scale[c], shift[c]);
    }
}

INLINE NAME(vector) NAME(normed)(
    struct lanes lanes, const struct norm_call *call, NAME(vector) x)
{
    NAME(vector) shift = NAME(load)(call->shift, lanes);
    return NAME(multiply_add)(x, NAME(load)(call->scale, lanes), shift);
}

#include "norm_pool_loops.h"

/* The gradient of a pixel before the activation behind the norm. */
INLINE NAME(vector) NAME(grad_before)(
    struct lanes lanes, const struct norm_call *call, int64_t pixel, NAME(vector) x,
    enum activation activation)
{
    NAME(vector) grad = NAME(load)(NAME(pixel)(&call->grad, pixel), lanes);
    if (call->more.values)
        grad += NAME(load)(NAME(pixel)(&call->more, pixel), lanes);
    NAME(vector) result = NAME(normed)(lanes, call, x);
    return NAME(let_through)(grad, result, (REAL)call->slope_behind, activation);
}

/* Sums over a thread's pixels. Those of some channels are in registers; so that other channels are
   still in the cache when it is their turn, they take turns every few pixels. */

enum { NAME(VALUES), NAME(SQUARES), NAME(GRADIENTS) };

/* Of some channels. */
struct NAME(sums) {
    NAME(vector) sum, dot, mean;
};

/* Adds a gradient, and its product with the value's difference from the mean. */
INLINE void NAME(add_gradient)(struct NAME(sums) *sums, NAME(vector) x, NAME(vector) grad)
{
    sums->sum += grad;
    sums->dot = NAME(multiply_add)(x - sums->mean, grad, sums->dot);
}

/* Values are activated first, and may be kept so. */
INLINE void NAME(add_lanes)(
    struct lanes lanes, const struct norm_call *call, struct share pixels, REAL *to_sums,
    REAL *to_dots, int what, enum activation activation)
{
    struct NAME(sums) sums = {NAME(load)(to_sums, lanes), NAME(load)(to_dots, lanes), {0}};
    if (what != NAME(VALUES))
        sums.mean = NAME(load)(call->mean, lanes);
    for (int64_t pixel = pixels.first; pixel < pixels.end; pixel++) {
        NAME(vector) x = NAME(load)(NAME(pixel)(&call->x, pixel), lanes);
        switch (what) {
        case NAME(VALUES):
            x = NAME(activated)(x, (REAL)call->slope_before, activation);
            sums.sum += x;
            if (call->kept.values)
                NAME(store)(NAME(pixel)(&call->kept, pixel), lanes, x);
            break;
        case NAME(SQUARES):
            x -= sums.mean;
            sums.sum = NAME(multiply_add)(x, x, sums.sum);
            break;
        case NAME(GRADIENTS):
            NAME(add_gradient)(&sums, x, NAME(grad_before)(lanes, call, pixel, x, activation));
            break;
        }
    }
    NAME(store)(to_sums, lanes, sums.sum);
    NAME(store)(to_dots, lanes, sums.dot);
}

/* The same of gradients that windows get. */
INLINE void NAME(add_window_lanes)(
    struct lanes lanes, const struct norm_call *call, struct share pixels, REAL *to_sums,
    REAL *to_dots, enum activation activation)
{
    struct NAME(sums) sums = {NAME(load)(to_sums, lanes), NAME(load)(to_dots, lanes),
                              NAME(load)(call->mean, lanes)};
    struct walk walk = walk_through(call, pixels);
    struct pair pair;
    while (next_pair(call, &walk, &pair)) {
        struct NAME(window_gradient) of = NAME(load_window)(lanes, call, pair.window, activation);
        for (int64_t i = 0; i < pair.count; i++) {
            NAME(vector) x = NAME(load)(NAME(pixel)(&call->x, pair.pixel + i), lanes);
            NAME(add_gradient)(&sums, x, NAME(unpooled)(of, pair.place + (int32_t)i));
        }
    }
    NAME(store)(to_sums, lanes, sums.sum);
    NAME(store)(to_dots, lanes, sums.dot);
}

INLINE void NAME(add_pixels)(const struct norm_call *call, int what, enum activation activation)
{
    int64_t channels = call->channels, start = openmp.thread_number() * channels;
    struct share own = share_of(call->pixels), pixels;
    REAL *sums = (REAL *)call->sums + start, *dots = (REAL *)call->dots + start;
    memset(sums, 0, (size_t)channels * sizeof(REAL));
    memset(dots, 0, (size_t)channels * sizeof(REAL));
    for (pixels.first = own.first; pixels.first < own.end; pixels.first = pixels.end) {
        pixels.end = smaller(pixels.first + TILE / channels + 1, own.end);
        if (what == NAME(GRADIENTS) && call->packed)
            FOR_LANES(channels, add_window_lanes, call, pixels, sums, dots, activation);
        else
            FOR_LANES(channels, add_lanes, call, pixels, sums, dots, what, activation);
    }
    openmp.barrier();
}

/* The sum of all threads' sums. */
INLINE double NAME(total)(const REAL *sums, int64_t channel, int64_t channels)
{
    double total = 0;
    for (int64_t thread = 0; thread < openmp.thread_count(); thread++)
        total += sums[thread * channels + channel];
    return total;
}

/* `x` -> `y` */

INLINE void NAME(normalize_lanes)(
    struct lanes lanes, const struct norm_call *call, int64_t pixel, enum activation activation)
{
    NAME(vector) x = NAME(load)(NAME(pixel)(&call->x, pixel), lanes);
    x = NAME(activated)(NAME(normed)(lanes, call, x), (REAL)call->slope_behind, activation);
    NAME(store)(NAME(pixel)(&call->y, pixel), lanes, x);
}

INLINE void NAME(normalize_pixels)(const struct norm_call *call, enum activation activation)
{
    struct share pixels = share_of(call->pixels);
    for (int64_t pixel = pixels.first; pixel < pixels.end; pixel++)
        FOR_LANES(call->channels, normalize_lanes, call, pixel, activation);
}

INLINE void NAME(normalize_or_pool)(const struct norm_call *call)
{
    if (!call->packed) {
        FOR_ACTIVATION(call->slope_behind, normalize_pixels, call)
        return;
    }
    FOR_ACTIVATION(call->slope_behind, pool_windows, call)
    openmp.barrier();
    FOR_ACTIVATION(call->slope_behind, pack, call)
}

/* Moves a channel's running statistics, if there are any. */
INLINE void NAME(move_running)(const struct norm_call *call, int64_t c, REAL mean, REAL unbiased)
{
    REAL *running_mean = call->running_mean, *running_variance = call->running_variance;
    REAL momentum = (REAL)call->momentum;
    if (running_mean)
        running_mean[c] = momentum * mean + (1 - momentum) * running_mean[c];
    if (running_variance)
        running_variance[c] = (REAL)(
            (double)momentum * unbiased + (double)((1 - momentum) * running_variance[c]));
}

/* A thread's share of each kernel. It has a call of its own: what it stores cannot change that, and
   so need not be followed by loads of it. */

static void NAME(normalize_share)(void *argument)
{
    struct norm_call call = *(const struct norm_call *)argument;
    const REAL *mean = call.mean, *variance = call.variance;
    if (variance) {
        struct share channels = share_of(call.channels);
        for (int64_t c = channels.first; c < channels.end; c++)
            NAME(move_running)(&call, c, mean[c], variance[c]);
    }
    NAME(normalize_or_pool)(&call);
}

/* `x` -> `kept`, and its statistics, and `y` */

static void NAME(measure_share)(void *argument)
{
    struct norm_call call = *(const struct norm_call *)argument;
    int64_t all = call.channels;
    struct share channels = share_of(all);
    REAL *mean = call.mean, *inverse_std = call.inverse_std, *variance = call.variance;
    FOR_ACTIVATION(call.slope_before, add_pixels, &call, NAME(VALUES))
    for (int64_t c = channels.first; c < channels.end; c++)
        mean[c] = (REAL)(NAME(total)(call.sums, c, all) / (double)call.pixels);
    openmp.barrier();
    if (call.kept.values)
        call.x = call.kept;
    NAME(add_pixels)(&call, NAME(SQUARES), IDENTITY);
    for (int64_t c = channels.first; c < channels.end; c++) {
        REAL squares = (REAL)NAME(total)(call.sums, c, all);
        inverse_std[c] = (REAL)(1 / sqrt((double)(squares / (REAL)call.pixels) + call.eps));
        REAL unbiased = squares / (REAL)(call.pixels - 1);
        if (variance)
            variance[c] = unbiased;
        NAME(move_running)(&call, c, mean[c], unbiased);
    }
    if (!call.y.values)
        return;
    NAME(find_scale_and_shift)(&call, channels);
    openmp.barrier();
    NAME(normalize_or_pool)(&call);
}

/* `grad` -> `y` and the gradients of weight and bias */

INLINE void NAME(spread_gradient)(
    struct lanes lanes, const struct norm_call *call, int64_t pixel, NAME(vector) x,
    NAME(vector) grad, enum activation before)
{
    if (call->mean) {
        /* What statistics depend on comes off: in the mean, and along the differences. */
        NAME(vector) difference = x - NAME(load)(call->mean, lanes);
        NAME(vector) along = NAME(load)(call->dots, lanes);
        grad -= NAME(load)(call->sums, lanes);
        /* In channels that fill no vector, PyTorch's kernel rounds twice. */
        if (lanes.count == NAME(LANES))
            grad = NAME(multiply_add)(-difference, along, grad);
        else
            grad -= difference * along;
        grad *= NAME(load)(call->inverse_std, lanes);
    }
    if (call->weight)
        grad *= NAME(load)(call->weight, lanes);
    grad = NAME(let_through)(grad, x, (REAL)call->slope_before, before);
    if (call->passed.values)
        grad += NAME(load)(NAME(pixel)(&call->passed, pixel), lanes);
    NAME(store)(NAME(pixel)(&call->y, pixel), lanes, grad);
}

INLINE void NAME(spread_lanes)(
    struct lanes lanes, const struct norm_call *call, int64_t pixel, enum activation before,
    enum activation behind)
{
    NAME(vector) x = NAME(load)(NAME(pixel)(&call->x, pixel), lanes);
    NAME(vector) grad = NAME(grad_before)(lanes, call, pixel, x, behind);
    NAME(spread_gradient)(lanes, call, pixel, x, grad, before);
}

INLINE void NAME(spread_window_lanes)(
    struct lanes lanes, const struct norm_call *call, struct pair pair, enum activation before,
    enum activation behind)
{
    struct NAME(window_gradient) of = NAME(load_window)(lanes, call, pair.window, behind);
    for (int64_t i = 0; i < pair.count; i++) {
        NAME(vector) x = NAME(load)(NAME(pixel)(&call->x, pair.pixel + i), lanes);
        NAME(vector) grad = NAME(unpooled)(of, pair.place + (int32_t)i);
        NAME(spread_gradient)(lanes, call, pair.pixel + i, x, grad, before);
    }
}

INLINE void NAME(spread_gradients)(
    const struct norm_call *call, enum activation before, enum activation behind)
{
    struct share pixels = share_of(call->pixels);
    if (!call->packed) {
        for (int64_t pixel = pixels.first; pixel < pixels.end; pixel++)
            FOR_LANES(call->channels, spread_lanes, call, pixel, before, behind);
        return;
    }
    struct walk walk = walk_through(call, pixels);
    struct pair pair;
    while (next_pair(call, &walk, &pair))
        FOR_LANES(call->channels, spread_window_lanes, call, pair, before, behind);
}

/* What statistics depend on, and the gradients of weight and bias. */
INLINE void NAME(add_up_gradients)(const struct norm_call *call)
{
    int64_t all = call->channels;
    struct share channels = share_of(all);
    const REAL *inverse_std = call->inverse_std;
    REAL *sums = call->sums, *dots = call->dots;
    REAL *grad_weight = call->grad_weight, *grad_bias = call->grad_bias;
    FOR_ACTIVATION(call->slope_behind, add_pixels, call, NAME(GRADIENTS))
    for (int64_t c = channels.first; c < channels.end; c++) {
        REAL sum = (REAL)NAME(total)(sums, c, all), dot = (REAL)NAME(total)(dots, c, all);
        if (grad_weight)
            grad_weight[c] = dot * inverse_std[c];
        if (grad_bias)
            grad_bias[c] = sum;
        /* In place of the first thread's: what comes off. */
        sums[c] = sum / (REAL)call->pixels;
        dots[c] = dot * inverse_std[c] * inverse_std[c] / (REAL)call->pixels;
    }
    openmp.barrier();
}

static void NAME(backward_share)(void *argument)
{
    struct norm_call call = *(const struct norm_call *)argument;
    if (call.packed) {
        FOR_ACTIVATION(call.slope_behind, unpack, &call)
        openmp.barrier();
    }
    if (call.mean)
        NAME(add_up_gradients)(&call);
    if (!call.y.values)
        return;
    switch (activation_of(call.slope_before)) {
    case RELU: FOR_ACTIVATION(call.slope_behind, spread_gradients, &call, RELU) break;
    case LEAKY_RELU: FOR_ACTIVATION(call.slope_behind, spread_gradients, &call, LEAKY_RELU) break;
    case IDENTITY: FOR_ACTIVATION(call.slope_behind, spread_gradients, &call, IDENTITY) break;
    }
}

/* Runs a kernel in memory of its own; an `answer`. */
static int NAME(run)(void (*share)(void *), struct norm_call call, unsigned threads)
{
    REAL *work = malloc((size_t)(call.channels * (2 + 2 * (int64_t)threads)) * sizeof(REAL));
    call.digits = call.packed ? new_digits(windows_of(&call), call.slope_behind) : NULL;
    if (!work || (call.packed && !call.digits)) {
        free(work);
        free(call.digits);
        return NO_MEMORY;
    }
    call.scale = work;
    call.shift = work + call.channels;
    call.sums = work + 2 * call.channels;
    call.dots = work + (2 + threads) * call.channels;
    if (share != NAME(measure_share))
        NAME(find_scale_and_shift)(&call, (struct share){0, call.channels});
    openmp.run_parallel(share, &call, threads, 0);
    free(work);
    free(call.digits);
    return DONE;
}

/* `x` -> `kept`, activated; its `mean`, `inverse_std` and unbiased `variance`, by which the running
   ones move; and `y`, normalised and activated, or pooled and `packed`; whichever there are */
int NAME(measure)(const struct norm_call *call, unsigned threads)
{
    return NAME(run)(NAME(measure_share), *call, threads);
}

/* `x` -> `y`, by given statistics; by the `variance`, if it is given, the running ones move */
int NAME(normalize)(const struct norm_call *call, unsigned threads)
{
    return NAME(run)(NAME(normalize_share), *call, threads);
}

/* `grad` and `more` -> `y` with `passed` added, `grad_weight` and `grad_bias`, whichever there are */
int NAME(normalize_backward)(const struct norm_call *call, unsigned threads)
{
    return NAME(run)(NAME(backward_share), *call, threads);
}

#undef FOR_LANES
#undef FOR_ACTIVATION
