/* Batch norm and an activation before or behind it: statistics, values and gradients.

   The same as PyTorch's operators on maps in channels_last, to the bit: sums run over the same
   pixels in the same order. A map is (pixels, channels), and may be a slice of the channels of a
   wider one. */

#include "pool_codes.h"
#include "threads.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct map {
    void *values;
    int64_t stride; /* from one pixel to the next */
};

struct norm_call {
    struct map x;      /* what the norm reads; for `measure`, what the activation before it reads */
    struct map kept;   /* what `measure` made of that, if it is asked for; may be `x` */
    struct map y;      /* the result or the gradient, if it is asked for; may be `grad` */
    struct map grad;   /* of the result */
    struct map more;   /* added to `grad`, if there is any, and it is no map of windows */
    struct map passed; /* added to the gradient, if there is any */
    /* A value a channel, or nothing. Without a mean, the norm does no more than multiply. */
    void *mean, *inverse_std, *variance, *running_mean, *running_variance;
    void *weight, *bias, *grad_weight, *grad_bias;
    uint8_t *packed; /* the digits, if `y` or `grad` is a map of windows of 2x2 pixels */
    int64_t pixels, channels;
    int64_t height, width, rows, columns; /* in pixels and in windows, where there are any */
    double eps, momentum;
    double slope_before, slope_behind; /* of the activations, below zero */
    /* What a kernel works in; sums and dots are a thread's. */
    void *scale, *shift, *sums, *dots;
    uint8_t *digits; /* those of `packed`, a byte each */
};

/* What Python takes it for, too: see structures.py. */
int64_t norm_call_size(void)
{
    return sizeof(struct norm_call);
}

/* How many there are in all channels. */
INLINE int64_t windows_of(const struct norm_call *call)
{
    int64_t images = call->pixels / (call->height * call->width);
    return images * call->rows * call->columns * call->channels;
}

/* Some channels that are worked on together: a vector's, or what is left of them at the end. */
struct lanes {
    int64_t first, count;
};

enum {
    WIDTH = 32,  /* bytes of a vector; where registers are smaller, the compiler takes several */
    TILE = 4096, /* values that stay in the cache */
};

typedef uint8_t byte_vector __attribute__((vector_size(WIDTH)));
typedef uint64_t word_vector __attribute__((vector_size(WIDTH)));

/* One or two neighbours of a row, in the same window or in none. */
struct pair {
    int64_t pixel, count;
    int64_t window; /* its number among all; -1: no window covers them */
    int32_t place;  /* of the first one in the window */
};

/* A way through pixels, pair by pair. */
struct walk {
    int64_t pixel, end, image, y, x;
    int64_t row; /* number of the first window of this row of pixels, or -1 */
};

INLINE void enter_row(const struct norm_call *call, struct walk *walk)
{
    int64_t row = walk->y / 2;
    walk->row = row < call->rows ? (walk->image * call->rows + row) * call->columns : -1;
}

INLINE struct walk walk_through(const struct norm_call *call, struct share pixels)
{
    int64_t line = pixels.first / call->width;
    struct walk walk = {.pixel = pixels.first, .end = pixels.end, .x = pixels.first % call->width,
                        .y = line % call->height, .image = line / call->height};
    enter_row(call, &walk);
    return walk;
}

/* Whether there is another pair. */
INLINE int next_pair(const struct norm_call *call, struct walk *walk, struct pair *pair)
{
    if (walk->pixel >= walk->end)
        return 0;
    int64_t column = walk->x / 2, odd = walk->x % 2;
    pair->pixel = walk->pixel;
    pair->count = 1 + (!odd && walk->x + 1 < call->width && walk->pixel + 1 < walk->end);
    pair->window = walk->row >= 0 && column < call->columns ? walk->row + column : -1;
    pair->place = (int32_t)(2 * (walk->y % 2) + odd);
    walk->pixel += pair->count;
    walk->x += pair->count;
    if (walk->x == call->width) {
        walk->x = 0;
        if (++walk->y == call->height) {
            walk->y = 0;
            walk->image++;
        }
        enter_row(call, walk);
    }
    return 1;
}

/* PyTorch's kernels multiply and add in one rounding where the processor can. */
#ifdef __FMA__
#include <immintrin.h>
#define multiply_add_float _mm256_fmadd_ps
#define multiply_add_double _mm256_fmadd_pd
#define SCALAR_MULTIPLY_ADD(a, b, c) _Generic(a, float: fmaf, double: fma)(a, b, c)
#else
#define multiply_add_float(a, b, c) ((a) * (b) + (c))
#define multiply_add_double(a, b, c) ((a) * (b) + (c))
#define SCALAR_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_float
#include "norm_loops.h"
#undef REAL
#undef INTEGER
#undef NAME

#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
#include "norm_loops.h"
