/* Vectors of floats, and products that are added to them in one rounding where processors do so. */

#ifndef MULTIPLY_ADD_H
#define MULTIPLY_ADD_H

#include "threads.h"

enum { LANES = 8 };
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));

#ifdef __FMA__
#include <immintrin.h>
#define MULTIPLY_ADD _mm256_fmadd_ps
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

/* The longest ones that there are. */
#ifdef __AVX512F__
enum { LONG_LANES = 16 };
#define LONG_MULTIPLY_ADD _mm512_fmadd_ps
#else
enum { LONG_LANES = LANES };
#define LONG_MULTIPLY_ADD MULTIPLY_ADD
#endif
typedef float long_vector __attribute__((vector_size(LONG_LANES * sizeof(float))));

#endif
