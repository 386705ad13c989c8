/* Places of maxima in an image to places in their windows, a byte each, and back.

   PyTorch counts a place along the image, read as one line, in eight bytes. A window's place in the
   image is known, so that what is left is smaller than the window. */

#include "threads.h"

struct places_call {
    int64_t *indices; /* (planes, rows, columns, lanes) */
    uint8_t *codes;   /* the same */
    const int64_t *row_starts, *column_starts; /* where each window begins in the image */
    int64_t planes, rows, columns, lanes;
    int64_t width; /* of the image */
    int64_t span_rows, span_columns; /* of a window; no more columns than the image has */
};

/* What Python takes it for, too: see structures.py. */
int64_t places_call_size(void)
{
    return sizeof(struct places_call);
}

/* How often a step goes into a number, which is less than `most` times: few times. */
INLINE int64_t times(int64_t number, int64_t step, int64_t most)
{
    int64_t found = 0;
    for (int64_t i = 1; i < most; i++)
        found += number >= i * step;
    return found;
}

INLINE uint8_t encoded(int64_t index, int64_t start, const struct places_call *call, int64_t rows)
{
    int64_t ahead = index - start, row = times(ahead, call->width, rows);
    return (uint8_t)(ahead - row * (call->width - call->span_columns));
}

INLINE int64_t decoded(uint8_t code, int64_t start, const struct places_call *call, int64_t rows)
{
    int64_t row = times(code, call->span_columns, rows);
    return start + code + row * (call->width - call->span_columns);
}

INLINE void encode_bands(const struct places_call *call, int64_t rows)
{
    struct share bands = share_of(call->planes * call->rows);
    for (int64_t band = bands.first; band < bands.end; band++) {
        int64_t first = call->row_starts[band % call->rows] * call->width;
        int64_t at = band * call->columns * call->lanes;
        if (call->lanes == 1) { /* the innermost loop is the longer one */
            for (int64_t x = 0; x < call->columns; x++)
                call->codes[at + x] = encoded(
                    call->indices[at + x], first + call->column_starts[x], call, rows);
            continue;
        }
        for (int64_t x = 0; x < call->columns; x++, at += call->lanes)
            for (int64_t i = 0; i < call->lanes; i++)
                call->codes[at + i] = encoded(
                    call->indices[at + i], first + call->column_starts[x], call, rows);
    }
}

INLINE void decode_bands(const struct places_call *call, int64_t rows)
{
    struct share bands = share_of(call->planes * call->rows);
    for (int64_t band = bands.first; band < bands.end; band++) {
        int64_t first = call->row_starts[band % call->rows] * call->width;
        int64_t at = band * call->columns * call->lanes;
        if (call->lanes == 1) {
            for (int64_t x = 0; x < call->columns; x++)
                call->indices[at + x] = decoded(
                    call->codes[at + x], first + call->column_starts[x], call, rows);
            continue;
        }
        for (int64_t x = 0; x < call->columns; x++, at += call->lanes)
            for (int64_t i = 0; i < call->lanes; i++)
                call->indices[at + i] = decoded(
                    call->codes[at + i], first + call->column_starts[x], call, rows);
    }
}

/* With the rows known when compiling, a loop over places has no loop within. */
#define RUN(name) \
    switch (call->span_rows) { \
    case 1: name(call, 1); break; \
    case 2: name(call, 2); break; \
    case 3: name(call, 3); break; \
    default: name(call, call->span_rows); \
    }

static void encode_share(void *argument)
{
    const struct places_call *call = argument;
    RUN(encode_bands)
}

static void decode_share(void *argument)
{
    const struct places_call *call = argument;
    RUN(decode_bands)
}

static int run_places(void (*share)(void *), const struct places_call *call, unsigned threads)
{
    struct places_call own = *call;
    openmp.run_parallel(share, &own, threads, 0);
    return DONE;
}

/* `indices` -> `codes` */
int encode_places(const struct places_call *call, unsigned threads)
{
    return run_places(encode_share, call, threads);
}

/* `codes` -> `indices` */
int decode_places(const struct places_call *call, unsigned threads)
{
    return run_places(decode_share, call, threads);
}
