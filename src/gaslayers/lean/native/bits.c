/* Which values pass a test, one bit each; the way back to one of two values per bit; and the gradient
   of a rectifier, which reads nothing but bits.

   Values are read as the integers that their bytes are, of which a floating-point number's sign and
   magnitude tell all that the tests ask: so one loop does for every type of so many bytes. */

#include "threads.h"

#include <string.h>

struct bits_call {
    void *values;
    uint8_t *bits; /* of eight values per byte, the first one lowest */
    const void *table; /* for each byte the eight values, or masks, that it stands for */
    const void *grads; /* of what the rectifier made */
    int64_t count; /* values */
    int64_t size; /* bytes per value: 1, 2, 4 or 8 */
    int64_t infinity; /* as an integer; what is larger, but for its sign, is no number */
    int64_t test;
    double slope; /* of the rectifier, where a bit is not set; 0: of a ReLU */
};

/* What Python takes it for, too: see structures.py. */
int64_t bits_call_size(void)
{
    return sizeof(struct bits_call);
}

/* As bits.py counts them. */
enum test { ABOVE_ZERO, NOT_AT_MOST_ZERO, NOT_ZERO, NOT_AT_LEAST_ZERO };

enum {
    EIGHT = 8,
    LINE = 1024,       /* values whose flags lie on a thread's stack */
    WORTHWHILE = 4096, /* bytes of bits, for which another thread is woken up */
};

INLINE int64_t bytes_of(const struct bits_call *call)
{
    return (call->count + EIGHT - 1) / EIGHT;
}

/* Eight flags, each 0 or 1, to the bits of a byte. */
INLINE uint8_t gathered(const uint8_t *flags)
{
    uint64_t word;
    memcpy(&word, flags, EIGHT);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return (uint8_t)(word * 0x0102040810204080u >> 56);
}

static int run_bits(void (*share)(void *), const struct bits_call *call, unsigned threads)
{
    struct bits_call own = *call;
    int64_t worthwhile = bytes_of(call) / WORTHWHILE + 1;
    openmp.run_parallel(share, &own, (unsigned)smaller(threads, worthwhile), 0);
    return DONE;
}

#define INTEGER int8_t
#define NAME(name) name##_1
#include "bits_loops.h"
#undef INTEGER
#undef NAME

#define INTEGER int16_t
#define NAME(name) name##_2
#include "bits_loops.h"
#undef INTEGER
#undef NAME

#define INTEGER int32_t
#define NAME(name) name##_4
#include "bits_loops.h"
#undef INTEGER
#undef NAME

#define INTEGER int64_t
#define NAME(name) name##_8
#include "bits_loops.h"
#undef INTEGER
#undef NAME

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_float
#include "rectifier_loops.h"
#undef REAL
#undef INTEGER
#undef NAME

#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
#include "rectifier_loops.h"

/* With the size known when compiling, values are copied by few instructions. */
#define RUN(name) \
    switch (call->size) { \
    case 1: name##_1(call, bytes); break; \
    case 2: name##_2(call, bytes); break; \
    case 4: name##_4(call, bytes); break; \
    case 8: name##_8(call, bytes); break; \
    }

static void pack_share(void *argument)
{
    const struct bits_call *call = argument;
    struct share bytes = share_of(bytes_of(call));
    RUN(pack)
}

static void unpack_share(void *argument)
{
    const struct bits_call *call = argument;
    struct share bytes = share_of(bytes_of(call));
    RUN(unpack)
}

/* `values` -> `bits` */
int pack_bits(const struct bits_call *call, unsigned threads)
{
    return run_bits(pack_share, call, threads);
}

/* `bits` -> `values` */
int unpack_bits(const struct bits_call *call, unsigned threads)
{
    return run_bits(unpack_share, call, threads);
}
