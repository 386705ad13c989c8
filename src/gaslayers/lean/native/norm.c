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
    struct map passed; /* added to the gradient, if there is any */
    /* A value a channel, or nothing. Without a mean, the norm does no more than multiply. */
    void *mean, *inverse_std, *variance, *running_mean, *running_variance;
    void *weight, *bias, *grad_weight, *grad_bias;
    uint8_t *codes; /* if `y` or `grad` is a map of windows of 2x2 pixels; as in pool.c */
    int64_t pixels, channels;
    int64_t height, width, rows, columns; /* in pixels and in windows, where there are any */
    double eps, momentum;
    double slope_before, slope_behind; /* of the activations, below zero */
    void *scale, *shift, *sums, *dots;      /* what a kernel works in; the last two a thread */
};

/* Some channels that are worked on together: a vector's, or what is left of them at the end. */
struct lanes {
    int64_t first, count;
};

enum {
    WIDTH = 32,  /* bytes of a vector; where registers are smaller, the compiler takes several */
    TILE = 4096, /* values that stay in the cache */
};

/* A pixel's place in its window, and the window's among all. */
struct cursor {
    int64_t image, y, x;
};

INLINE struct cursor cursor_at(const struct norm_call *call, int64_t pixel)
{
    if (!call->codes) /* where it is of no use */
        return (struct cursor){0};
    int64_t line = pixel / call->width;
    return (struct cursor){line / call->height, line % call->height, pixel % call->width};
}

INLINE void advance(const struct norm_call *call, struct cursor *cursor)
{
    if (!call->codes || ++cursor->x < call->width)
        return;
    cursor->x = 0;
    if (++cursor->y < call->height)
        return;
    cursor->y = 0;
    cursor->image++;
}

/* The window that covers a pixel, or -1. */
INLINE int64_t window_of(const struct norm_call *call, const struct cursor *cursor)
{
    int64_t row = cursor->y / 2, column = cursor->x / 2;
    int covered = row < call->rows && column < call->columns;
    return covered ? (cursor->image * call->rows + row) * call->columns + column : -1;
}

INLINE int32_t place_of(const struct cursor *cursor)
{
    return (int32_t)(2 * (cursor->y % 2) + cursor->x % 2);
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
