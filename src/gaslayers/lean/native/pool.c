/* Activation and 2x2 max pooling in one pass over a map, and their gradient in another.

   The same as PyTorch's operators, to the bit. A map is (N, H, W, C): PyTorch's channels_last, or
   its contiguous format as N * C maps of one channel. Windows do not overlap; in ceil mode a last
   one may reach over the edge. */

#include "pool_codes.h"
#include "threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct pool_call {
    void *whole; /* (N, H, W, C) */
    void *small; /* (N, rows, columns, C), a window a value */
    uint8_t *packed; /* the digits of all windows */
    uint8_t *digits; /* the same, a byte each: what a kernel works in */
    int64_t count, channels, height, width, rows, columns;
    double slope; /* of the activation, below zero */
};

/* What Python takes it for, too: see structures.py. */
int64_t pool_call_size(void)
{
    return sizeof(struct pool_call);
}

enum {
    MANY = 64,   /* channels, along which loops over them alone are fast */
    LINE = 1024, /* values brought together on a thread's stack */
};

INLINE int64_t windows_of(const struct pool_call *call)
{
    return call->count * call->rows * call->columns * call->channels;
}

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
#include "pool_windows.h"
#include "pool_loops.h"
#undef REAL
#undef NAME

#define REAL double
#define NAME(name) name##_double
#include "pool_windows.h"
#include "pool_loops.h"
