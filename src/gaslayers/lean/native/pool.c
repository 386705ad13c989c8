/* Activation and 2x2 max pooling in one pass over a map, and their gradient in another.

   The same as PyTorch's operators, to the bit. A map is (N, H, W, C): PyTorch's channels_last, or
   its contiguous format as N * C maps of one channel. Windows do not overlap; in ceil mode a last
   one may reach over the edge. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

struct call {
    void *whole;    /* (N, H, W, C) */
    void *small;    /* (N, rows, columns, C), like the codes */
    uint8_t *codes; /* a window: the place of its largest value, and SIGN if its gradient passes */
    int64_t count, channels, height, width, rows, columns;
    double slope;   /* of the activation, below zero */
};

enum { SIGN = 128 };

/* With the slope known when compiling, a loop over values has no branches, and becomes vector
   instructions. */
enum activation { RELU, LEAKY_RELU, IDENTITY };

INLINE enum activation activation_of(double slope)
{
    return slope == 0 ? RELU : slope == 1 ? IDENTITY : LEAKY_RELU;
}

/* OpenMP's, from the library that PyTorch uses; to link it could bring in a second one. */
static int (*thread_number)(void);
static int (*thread_count)(void);

void set_openmp(int (*number)(void), int (*count)(void))
{
    thread_number = number;
    thread_count = count;
}

struct share {
    int64_t first, end;
};

/* This thread's part of so many rounds. */
INLINE struct share share_of(int64_t rounds)
{
    int64_t number = thread_number(), count = thread_count();
    struct share share = {rounds * number / count, rounds * (number + 1) / count};
    return share;
}

INLINE int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

enum {
    MANY = 64,   /* channels, along which loops over them alone are fast */
    LINE = 1024, /* values brought together on a thread's stack */
};

/* Of how many bands, and columns of each, the windows are brought together. */
struct batch {
    int64_t bands, columns;
};

INLINE struct batch batch_of(int64_t columns, int64_t channels)
{
    int64_t windows = LINE / channels;
    struct batch batch = {1, smaller(columns, windows)};
    batch.bands = windows / batch.columns;
    return batch;
}

#define REAL float
#define NAME(name) name##_float
#include "pool_loops.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_double
#include "pool_loops.h"
