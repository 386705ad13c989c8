/* A window of 2x2 pixels and back, for one type of values, REAL: what its digit is, says pool_codes.h. */

/* As PyTorch's: a ReLU keeps -0.0 and NaN as they are. */
INLINE REAL NAME(activate)(REAL value, REAL slope, enum activation activation)
{
    if (activation == RELU)
        return value < 0 ? 0 : value;
    if (activation == LEAKY_RELU)
        return value > 0 ? value : value * slope;
    return value;
}

struct NAME(window) {
    REAL value; /* the largest */
    int32_t place;
};

/* Of equal values the first, of NaNs the last, as PyTorch's pooling has it. */
INLINE struct NAME(window) NAME(larger)(struct NAME(window) best, REAL value, int32_t place)
{
    int is_larger = (value > best.value) | (value != value);
    best.value = is_larger ? value : best.value;
    best.place = is_larger ? place : best.place;
    return best;
}

/* Stores the i-th window's value and digit; `right` and `below` are the places of its neighbours. */
INLINE void NAME(pool_window)(
    REAL upper_left, REAL upper_right, REAL lower_left, REAL lower_right, int32_t right,
    int32_t below, REAL slope, enum activation activation, REAL *pooled, uint8_t *digits, int64_t i)
{
    /* A ReLU keeps order, and is applied to what is pooled. */
    enum activation inner = activation == RELU ? IDENTITY : activation;
    struct NAME(window) best = {NAME(activate)(upper_left, slope, inner), 0};
    best = NAME(larger)(best, NAME(activate)(upper_right, slope, inner), right);
    best = NAME(larger)(best, NAME(activate)(lower_left, slope, inner), below);
    best = NAME(larger)(best, NAME(activate)(lower_right, slope, inner), below + right);
    if (activation == RELU) {
        int passes = !(best.value <= 0); /* the gradient of a NaN passes, too */
        /* Of zeros, whose signs differ, the first is taken: that is what the first value becomes. */
        best.value = passes ? best.value : NAME(activate)(upper_left, slope, RELU);
        best.place = passes ? best.place : NOWHERE;
    } else if (activation == LEAKY_RELU) {
        best.place = best.value > 0 ? best.place + POSITIVE : best.place;
    }
    pooled[i] = best.value;
    digits[i] = (uint8_t)best.place;
}

/* What the value at this place gets of its window's gradient. */
INLINE REAL NAME(unpooled)(
    REAL grad, int32_t digit, int32_t place, REAL slope, enum activation activation)
{
    grad += 0; /* as where a gradient is added to zeros: -0.0 becomes 0.0 */
    if (activation == LEAKY_RELU) {
        grad = digit >= POSITIVE ? grad : grad * slope;
        digit &= POSITIVE - 1;
    }
    return digit == place ? grad : 0;
}
