/* The gradient of an image from that of a convolution's output: for maps of few channels.

   Where vectors hold channels, as in PyTorch's kernels, an image of one to four fills a fraction of
   them. Here they hold the pixels of a row. Each pixel's sum is one chain of multiplications and
   additions, over the rows, columns and channels of the output in this order, as in PyTorch's kernel
   for channels_last.

   Behind an activation and 2x2 max pooling, the gradient is spread to the convolution's output row by
   row, on the way to these vectors, and never in memory as a whole. */

#include "pool_codes.h"
#include "multiply_add.h"

#include <math.h>

#define REAL float
#define NAME(name) name##_float
#include "pool_windows.h"

struct image_call {
    const float *grad;   /* (N, rows, columns, out_channels), or that of what is pooled */
    int64_t grad_stride; /* from one pixel to the next */
    const uint8_t *packed; /* the digits of all windows; nothing: there is no pooling */
    int64_t windows_down, windows_across;
    double slope; /* of the activation, below zero */
    const float *weight; /* (out_channels, C, kernel_rows, kernel_columns) */
    int64_t weight_strides[4];
    float *image;        /* (N, H, W, C): the result */
    int64_t count, channels, height, width, out_channels, rows, columns;
    int64_t kernel_rows, kernel_columns, padding_rows, padding_columns;
    /* What the kernel works in. */
    float *taps;  /* (C, kernel_rows, kernel_columns, out_channels), from the last weight on */
    float *lines; /* of each thread; so many as kernel_rows, each (out_channels, line_width) */
    int64_t line_width;
    float *spread; /* of each thread; a row of the convolution's output, and twice one of windows */
    uint8_t *digits; /* a byte each */
};

/* What Python takes it for, too: see structures.py. */
int64_t image_call_size(void)
{
    return sizeof(struct image_call);
}

enum { BLOCK = 4 }; /* vectors of pixels that are summed up at once */

/* Turns eight pixels of eight channels into eight channels of eight pixels: single values change
   places with those of the next row, then pairs, then fours. */
INLINE void transpose(const float *from, int64_t from_stride, float *to, int64_t to_stride)
{
    vector a[LANES], b[LANES];
    for (int i = 0; i < LANES; i++)
        memcpy(&a[i], from + i * from_stride, sizeof(vector));
    for (int i = 0; i < LANES; i += 2) {
        b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < LANES; i++)
        if (!(i & 2)) {
            a[i] = __builtin_shufflevector(b[i], b[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + 2] = __builtin_shufflevector(b[i], b[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < LANES / 2; i++) {
        vector low = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        vector high = __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
        memcpy(to + i * to_stride, &low, sizeof low);
        memcpy(to + (i + 4) * to_stride, &high, sizeof high);
    }
}

/* Spreads gradients of a row of windows over one of the two rows that they cover: its even pixels and
   its odd ones to lines of their own, along which loops are long, and from there in turns. */
INLINE void spread_row_as(
    const struct image_call *call, int64_t row, float *restrict to, enum activation activation)
{
    int64_t image = row / call->rows, y = row % call->rows, channels = call->out_channels;
    int64_t size = call->windows_across * channels;
    int64_t first = (image * call->windows_down + y / 2) * size;
    int64_t covered = smaller(2 * call->windows_across, call->columns);
    if (y / 2 >= call->windows_down)
        covered = 0;
    for (int32_t right = 0; right < 2 && covered; right++) {
        const float *restrict grads = call->grad + first;
        const uint8_t *restrict digits = call->digits + first;
        float *restrict line = to + (call->columns + right * call->windows_across) * channels;
        int32_t place = (int32_t)(y % 2 * 2) + right;
        for (int64_t i = 0; i < size; i++)
            line[i] = unpooled_float(grads[i], digits[i], place, (float)call->slope, activation);
        for (int64_t x = right; x < covered; x += 2)
            memcpy(to + x * channels, line + x / 2 * channels, (size_t)channels * sizeof *to);
    }
    for (int64_t i = covered * channels; i < call->columns * channels; i++)
        to[i] = 0;
}

static void spread_row(const struct image_call *call, int64_t row, float *to)
{
    switch (activation_of(call->slope)) {
    case RELU: spread_row_as(call, row, to, RELU); break;
    case LEAKY_RELU: spread_row_as(call, row, to, LEAKY_RELU); break;
    case IDENTITY: spread_row_as(call, row, to, IDENTITY); break;
    }
}

/* Puts a row of the output on its line, channel by channel; around it are zeros. */
static void fill_line(
    const struct image_call *call, int64_t row, float *restrict spread, float *restrict line)
{
    int64_t stride = call->grad_stride, width = call->line_width;
    const float *grad = call->grad + row * call->columns * stride;
    if (call->packed) {
        spread_row(call, row, spread);
        grad = spread;
        stride = call->out_channels;
    }
    float *to = line + call->kernel_columns - 1 - call->padding_columns;
    int64_t columns = call->columns - call->columns % LANES;
    int64_t channels = call->out_channels - call->out_channels % LANES;
    for (int64_t x = 0; x < columns; x += LANES)
        for (int64_t o = 0; o < channels; o += LANES)
            transpose(grad + x * stride + o, stride, to + o * width + x, width);
    for (int64_t x = 0; x < call->columns; x++)
        for (int64_t o = x < columns ? channels : 0; o < call->out_channels; o++)
            to[o * width + x] = grad[x * stride + o];
}

/* Some vectors of pixels of one channel, from the lines of the rows around them; where a line is
   missing, there is no such row. */
INLINE void add_up(
    const struct image_call *call, const float *taps, const float *const *lines, int64_t first,
    int64_t vectors, float *to)
{
    vector sums[BLOCK] = {{0}};
    int64_t all = call->out_channels;
    for (int64_t row = 0; row < call->kernel_rows; row++)
        for (int64_t column = 0; lines[row] && column < call->kernel_columns; column++) {
            const float *tap = taps + (row * call->kernel_columns + column) * all;
            const float *line = lines[row] + first + column;
            for (int64_t o = 0; o < all; o++, line += call->line_width)
                for (int64_t i = 0; i < vectors; i++) {
                    vector values;
                    memcpy(&values, line + i * LANES, sizeof values);
                    vector factors = tap[o] - (vector){0}; /* the same in all lanes */
                    sums[i] = MULTIPLY_ADD(values, factors, sums[i]);
                }
        }
    memcpy(to, sums, (size_t)vectors * sizeof(vector));
}

INLINE int64_t spread_size(const struct image_call *call)
{
    return (call->columns + 2 * call->windows_across) * call->out_channels;
}

INLINE int64_t windows_of(const struct image_call *call)
{
    return call->count * call->windows_down * call->windows_across * call->out_channels;
}

static void unpack(const struct image_call *call)
{
    switch (activation_of(call->slope)) {
    case RELU: unpack_digits(call->packed, call->digits, windows_of(call), RELU); break;
    case LEAKY_RELU: unpack_digits(call->packed, call->digits, windows_of(call), LEAKY_RELU); break;
    case IDENTITY: unpack_digits(call->packed, call->digits, windows_of(call), IDENTITY); break;
    }
}

static void image_share(void *argument)
{
    struct image_call call = *(const struct image_call *)argument;
    int64_t line_size = call.out_channels * call.line_width, ready = -1;
    float *own = call.lines + openmp.thread_number() * call.kernel_rows * line_size;
    float *spread = call.spread + openmp.thread_number() * spread_size(&call);
    float values[BLOCK * LANES];
    if (call.packed) {
        unpack(&call);
        openmp.barrier();
    }
    struct share rows = share_of(call.count * call.height);
    for (int64_t row = rows.first; row < rows.end; row++) {
        int64_t image = row / call.height, y = row % call.height;
        const float *lines[call.kernel_rows];
        for (int64_t i = 0; i < call.kernel_rows; i++) {
            int64_t source = y + call.padding_rows - call.kernel_rows + 1 + i;
            lines[i] = NULL;
            if (source < 0 || source >= call.rows)
                continue;
            int64_t number = image * call.rows + source;
            float *line = own + number % call.kernel_rows * line_size;
            if (number > ready)
                fill_line(&call, ready = number, spread, line);
            lines[i] = line;
        }
        for (int64_t first = 0; first < call.width; first += BLOCK * LANES)
            for (int64_t c = 0; c < call.channels; c++) {
                const float *taps =
                    call.taps + c * call.kernel_rows * call.kernel_columns * call.out_channels;
                int64_t count = smaller(BLOCK * LANES, call.width - first);
                float *to = call.image + (row * call.width + first) * call.channels + c;
                switch ((count + LANES - 1) / LANES) {
                case 1: add_up(&call, taps, lines, first, 1, values); break;
                case 2: add_up(&call, taps, lines, first, 2, values); break;
                case 3: add_up(&call, taps, lines, first, 3, values); break;
                default: add_up(&call, taps, lines, first, BLOCK, values); break;
                }
                for (int64_t i = 0; i < count; i++)
                    to[i * call.channels] = values[i];
            }
    }
}

/* Brings weights in the order in which they are read; whether all of them are finite. Another one makes
   a NaN of the zeros around the output, which PyTorch's kernel leaves out. */
static int turn_weights(const struct image_call *call)
{
    const int64_t *strides = call->weight_strides;
    float *tap = call->taps;
    int finite = 1;
    for (int64_t c = 0; c < call->channels; c++)
        for (int64_t row = call->kernel_rows - 1; row >= 0; row--)
            for (int64_t column = call->kernel_columns - 1; column >= 0; column--)
                for (int64_t o = 0; o < call->out_channels; o++, tap++) {
                    *tap = call->weight[o * strides[0] + c * strides[1] + row * strides[2] +
                                        column * strides[3]];
                    finite &= isfinite(*tap);
                }
    return finite;
}

/* `grad` and `weight` -> `image`; an `answer` */
int image_gradient_float(const struct image_call *argument, unsigned threads)
{
    struct image_call call = *argument;
    int64_t taps = call.channels * call.kernel_rows * call.kernel_columns * call.out_channels;
    call.line_width = rounded_up(call.width, BLOCK * LANES) + call.kernel_columns - 1;
    int64_t lines = threads * call.kernel_rows * call.out_channels * call.line_width;
    int64_t spread = call.packed ? threads * spread_size(&call) : 0;
    float *work = calloc((size_t)(taps + lines + spread), sizeof *work);
    call.digits = call.packed ? new_digits(windows_of(&call), call.slope) : NULL;
    int answer = work && (!call.packed || call.digits) ? DONE : NO_MEMORY;
    if (answer == DONE) {
        call.taps = work;
        call.lines = work + taps;
        call.spread = work + taps + lines;
        if (turn_weights(&call))
            openmp.run_parallel(image_share, &call, threads, 0);
        else
            answer = NOT_EXACT;
    }
    free(work);
    free(call.digits);
    return answer;
}
