/* What all kernels share: a thread's part of the work, and activations. */

#ifndef THREADS_H
#define THREADS_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

INLINE int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINE int64_t rounded_up(int64_t value, int64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* What a kernel answers. */
enum answer {
    DONE,
    NO_MEMORY, /* to work in */
    NOT_EXACT, /* it would give other values than PyTorch's, and has written nothing */
};

/* OpenMP's, from the library that PyTorch uses; to link it could bring in a second one. */
struct openmp {
    void (*run_parallel)(void (*body)(void *), void *call, unsigned threads, unsigned flags);
    int (*thread_number)(void);
    int (*thread_count)(void);
    void (*barrier)(void);
};
extern struct openmp openmp;

struct share {
    int64_t first, end;
};

/* This thread's part of so many rounds: as PyTorch divides them, on which sums depend. */
INLINE struct share share_of(int64_t rounds)
{
    int64_t number = openmp.thread_number(), count = openmp.thread_count();
    int64_t size = (rounds + count - 1) / count;
    struct share share = {smaller(number * size, rounds), smaller((number + 1) * size, rounds)};
    return share;
}

/* With the activation known when compiling, a loop over values has no branches, and becomes vector
   instructions. */
enum activation { RELU, LEAKY_RELU, IDENTITY };

INLINE enum activation activation_of(double slope)
{
    return slope == 0 ? RELU : slope == 1 ? IDENTITY : LEAKY_RELU;
}

#endif
