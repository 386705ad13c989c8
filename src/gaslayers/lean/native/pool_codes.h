/* What is kept of windows of 2x2 pixels: a digit each, several to a byte.

   A digit is the place of the window's largest value, 0 to 3. Behind a leaky ReLU, POSITIVE is added
   where that value is positive; behind a ReLU it is NOWHERE if no value gets a gradient. Digits that
   share a byte lie far apart: loops run along contiguous memory. */

#ifndef POOL_CODES_H
#define POOL_CODES_H

#include "threads.h"

#include <stdlib.h>
#include <string.h>

enum { PLACES = 4, POSITIVE = PLACES, NOWHERE = PLACES };

/* Digits are smaller than `radix`; so many of them share a byte. */
struct digits {
    uint16_t radix;
    int64_t a_byte;
};

INLINE struct digits digits_of(enum activation activation)
{
    switch (activation) {
    case RELU: return (struct digits){PLACES + 1, 3};
    case LEAKY_RELU: return (struct digits){2 * PLACES, 2};
    default: return (struct digits){PLACES, 4};
    }
}

INLINE int64_t packed_size(int64_t windows, enum activation activation)
{
    int64_t a_byte = digits_of(activation).a_byte;
    return (windows + a_byte - 1) / a_byte;
}

/* Memory for the digits of so many windows, and zeros that fill up the last bytes; or nothing. */
INLINE uint8_t *new_digits(int64_t windows, double slope)
{
    enum activation activation = activation_of(slope);
    int64_t size = packed_size(windows, activation) * digits_of(activation).a_byte;
    uint8_t *digits = malloc((size_t)size + 1);
    if (digits)
        memset(digits + windows, 0, (size_t)(size - windows));
    return digits;
}

INLINE void pack_digits(
    const uint8_t *digits, uint8_t *restrict packed, int64_t windows, enum activation activation)
{
    struct digits kind = digits_of(activation);
    int64_t size = packed_size(windows, activation);
    struct share bytes = share_of(size);
    for (int64_t i = bytes.first; i < bytes.end; i++) {
        uint16_t byte = 0;
        for (int64_t part = kind.a_byte - 1; part >= 0; part--)
            byte = (uint16_t)(byte * kind.radix + digits[part * size + i]);
        packed[i] = (uint8_t)byte;
    }
}

INLINE void unpack_digits(
    const uint8_t *packed, uint8_t *restrict digits, int64_t windows, enum activation activation)
{
    struct digits kind = digits_of(activation);
    int64_t size = packed_size(windows, activation);
    struct share bytes = share_of(size);
    for (int64_t i = bytes.first; i < bytes.end; i++) {
        uint16_t byte = packed[i];
        for (int64_t part = 0; part < kind.a_byte; part++) {
            digits[part * size + i] = (uint8_t)(byte % kind.radix);
            byte = (uint16_t)(byte / kind.radix);
        }
    }
}

#endif
