/* A convolution of an image, activation and 2x2 max pooling in one pass: the map that the convolution
   makes, the largest of a network, is never in memory.

   For images of few channels. Vectors hold the channels of the output. Each value's sum is one chain
   of multiplications and additions, the bias last, over the rows, columns and channels of the kernel:
   as in PyTorch's kernels for channels_last, some of which take the columns first. Around the image
   are zeros, which change no finite sum. */

#include "multiply_add.h"
#include "pool_codes.h"

#include <math.h>

#define REAL float
#define NAME(name) name##_float
#include "pool_windows.h"

struct stage_call {
    const float *image;  /* (N, H, W, C) */
    const float *weight; /* (out_channels, C, kernel_rows, kernel_columns) */
    int64_t weight_strides[4];
    const float *bias; /* or nothing */
    float *pooled;     /* (N, rows, columns, out_channels), a window a value */
    uint8_t *packed;   /* the digits of all windows */
    int64_t count, channels, height, width, out_channels, rows, columns;
    int64_t kernel_rows, kernel_columns, padding_rows, padding_columns, columns_first;
    double slope; /* of the activation, below zero */
    /* What the kernel works in. */
    int64_t cells;       /* of the kernel, those of all channels */
    int64_t *cell_place; /* of each cell, in the order of the sum, within the lines of the image */
    float *taps;         /* (cells, out_channels rounded up), and the bias */
    float *image_lines;  /* of each thread (kernel_rows + 1, image_line) */
    float *map_lines;    /* of each thread four, one a place of a window, each of size map_line */
    int64_t tap, image_line, map_line; /* their sizes */
    uint8_t *digits;                   /* a byte each */
};

/* What Python takes it for, too: see structures.py. */
int64_t stage_call_size(void)
{
    return sizeof(struct stage_call);
}

/* Pixels that are computed at once, each with a vector of channels. */
enum { PIXELS = 8 };

/* Copies the rows of the image that two rows of the map see, zeros around it. */
INLINE void copy_image(const struct stage_call *call, int64_t image, int64_t y, float *lines)
{
    int64_t size = call->width * call->channels, before = call->padding_columns * call->channels;
    for (int64_t i = 0; i < call->kernel_rows + 1; i++, lines += call->image_line) {
        int64_t source = y - call->padding_rows + i;
        if (source < 0 || source >= call->height)
            memset(lines + before, 0, (size_t)size * sizeof *lines);
        else
            memcpy(lines + before, call->image + (image * call->height + source) * size,
                   (size_t)size * sizeof *lines);
    }
}

/* What the convolution makes of a row, its pixels by turns to two lines; beyond its end these are
   not defined. */
INLINE void convolve_row_of(
    const struct stage_call *call, const float *image, float *const lines[2], int64_t channels)
{
    int64_t made = call->out_channels;
    for (int64_t x = 0; x < 2 * call->columns; x += PIXELS, image += PIXELS * channels)
        for (int64_t first = 0; first < made; first += LONG_LANES) {
            long_vector sums[PIXELS], factors;
            for (int64_t p = 0; p < PIXELS; p++)
                sums[p] = (long_vector){0};
            const float *tap = call->taps + first;
            for (int64_t cell = 0; cell < call->cells; cell++, tap += call->tap) {
                const float *seen = image + call->cell_place[cell];
                memcpy(&factors, tap, sizeof factors);
                for (int64_t p = 0; p < PIXELS; p++) {
                    long_vector value = seen[p * channels] - (long_vector){0}; /* in all lanes */
                    sums[p] = LONG_MULTIPLY_ADD(value, factors, sums[p]);
                }
            }
            memcpy(&factors, tap, sizeof factors);
            int64_t count = smaller(LONG_LANES, made - first);
            for (int64_t p = 0; p < PIXELS; p++) {
                float *to = lines[p % 2] + (x + p) / 2 * made + first;
                if (call->bias)
                    sums[p] += factors;
                if (count == LONG_LANES)
                    memcpy(to, &sums[p], sizeof sums[p]);
                else
                    memcpy(to, &sums[p], (size_t)count * sizeof *to);
            }
        }
}

/* With a single channel known when compiling, pixels are found faster. */
static void convolve_row(const struct stage_call *call, const float *image, float *const lines[2])
{
    if (call->channels == 1)
        convolve_row_of(call, image, lines, 1);
    else
        convolve_row_of(call, image, lines, call->channels);
}

/* What is never the largest. */
INLINE void fill(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = -INFINITY;
}

INLINE void stage_bands(const struct stage_call *call, enum activation activation)
{
    int64_t number = openmp.thread_number(), size = call->columns * call->out_channels;
    int64_t height = call->height + 2 * call->padding_rows - call->kernel_rows + 1;
    int64_t width = call->width + 2 * call->padding_columns - call->kernel_columns + 1;
    float *image_lines = call->image_lines + number * (call->kernel_rows + 1) * call->image_line;
    float *lines[4];
    for (int64_t place = 0; place < 4; place++)
        lines[place] = call->map_lines + (4 * number + place) * call->map_line;
    struct share bands = share_of(call->count * call->rows);
    for (int64_t band = bands.first; band < bands.end; band++) {
        int64_t y = 2 * (band % call->rows);
        copy_image(call, band / call->rows, y, image_lines);
        convolve_row(call, image_lines, lines);
        if (y + 1 < height) {
            convolve_row(call, image_lines + call->image_line, lines + 2);
        } else {
            fill(lines[2], size);
            fill(lines[3], size);
        }
        if (width < 2 * call->columns)
            for (int64_t place = 1; place < 4; place += 2)
                fill(lines[place] + size - call->out_channels, call->out_channels);
        const float *restrict upper_left = lines[0], *restrict upper_right = lines[1];
        const float *restrict lower_left = lines[2], *restrict lower_right = lines[3];
        float *restrict pooled = call->pooled + band * size;
        uint8_t *restrict digits = call->digits + band * size;
        for (int64_t i = 0; i < size; i++)
            pool_window_float(upper_left[i], upper_right[i], lower_left[i], lower_right[i], 1, 2,
                              (float)call->slope, activation, pooled, digits, i);
    }
    openmp.barrier();
    pack_digits(call->digits, call->packed, call->count * call->rows * size, activation);
}

static void stage_share(void *argument)
{
    const struct stage_call *call = argument;
    switch (activation_of(call->slope)) {
    case RELU: stage_bands(call, RELU); break;
    case LEAKY_RELU: stage_bands(call, LEAKY_RELU); break;
    case IDENTITY: stage_bands(call, IDENTITY); break;
    }
}

/* Brings the cells, and their weights, in the order in which they are added; whether all weights are
   finite. Another one makes a NaN of the zeros around the image, which PyTorch's kernel leaves out. */
static int place_cells(const struct stage_call *call)
{
    int finite = 1;
    const int64_t *strides = call->weight_strides;
    int64_t outer = call->columns_first ? call->kernel_columns : call->kernel_rows;
    int64_t inner = call->columns_first ? call->kernel_rows : call->kernel_columns;
    int64_t *place = call->cell_place;
    float *tap = call->taps;
    for (int64_t a = 0; a < outer; a++)
        for (int64_t b = 0; b < inner; b++)
            for (int64_t c = 0; c < call->channels; c++, tap += call->tap) {
                int64_t row = call->columns_first ? b : a, column = call->columns_first ? a : b;
                *place++ = row * call->image_line + column * call->channels + c;
                for (int64_t o = 0; o < call->out_channels; o++) {
                    tap[o] = call->weight[o * strides[0] + c * strides[1] + row * strides[2] +
                                          column * strides[3]];
                    finite &= isfinite(tap[o]);
                }
            }
    if (call->bias)
        memcpy(tap, call->bias, (size_t)call->out_channels * sizeof *tap);
    return finite;
}

/* `image`, `weight` and `bias` -> `pooled` and `packed`; an `answer` */
int image_stage_float(const struct stage_call *argument, unsigned threads)
{
    struct stage_call call = *argument;
    int64_t pixels = rounded_up(2 * call.columns, PIXELS);
    call.cells = call.kernel_rows * call.kernel_columns * call.channels;
    call.tap = rounded_up(call.out_channels, LONG_LANES);
    call.image_line = (pixels + 2 * call.kernel_columns) * call.channels;
    call.map_line = pixels / 2 * call.out_channels;
    int64_t taps = (call.cells + 1) * call.tap;
    int64_t image_lines = threads * (call.kernel_rows + 1) * call.image_line;
    int64_t map_lines = threads * 4 * call.map_line;
    call.taps = calloc((size_t)(taps + image_lines + map_lines), sizeof *call.taps);
    call.cell_place = malloc((size_t)call.cells * sizeof *call.cell_place);
    call.digits = new_digits(call.count * call.rows * call.columns * call.out_channels, call.slope);
    int answer = call.taps && call.cell_place && call.digits ? DONE : NO_MEMORY;
    if (answer == DONE) {
        call.image_lines = call.taps + taps;
        call.map_lines = call.image_lines + image_lines;
        if (place_cells(&call))
            openmp.run_parallel(stage_share, &call, threads, 0);
        else
            answer = NOT_EXACT;
    }
    free(call.taps);
    free(call.cell_place);
    free(call.digits);
    return answer;
}
