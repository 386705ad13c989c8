/* The loops of bits.c for values of one size, read as INTEGER. */

INLINE void NAME(pack_as)(const struct bits_call *call, struct share bytes, enum test test)
{
    const INTEGER *values = call->values;
    const INTEGER magnitude = (INTEGER)(((uint64_t)1 << (8 * sizeof(INTEGER) - 1)) - 1);
    const INTEGER infinity = (INTEGER)call->infinity;
    int64_t end = smaller(bytes.end * EIGHT, call->count);
    for (int64_t first = bytes.first * EIGHT; first < end; first += LINE) {
        uint8_t flags[LINE];
        int64_t count = smaller(end - first, LINE), whole = rounded_up(count, EIGHT);
        for (int64_t i = 0; i < count; i++) {
            INTEGER value = values[first + i], size = value & magnitude;
            if (test == NOT_ZERO)
                flags[i] = size != 0;
            else if (test == ABOVE_ZERO)
                flags[i] = (value > 0) & (size <= infinity);
            else if (test == NOT_AT_MOST_ZERO)
                flags[i] = (value > 0) | (size > infinity);
            else
                flags[i] = ((value < 0) & (size != 0)) | (size > infinity);
        }
        memset(flags + count, 0, (size_t)(whole - count));
        for (int64_t i = 0; i < whole; i += EIGHT)
            call->bits[(first + i) / EIGHT] = gathered(flags + i);
    }
}

static void NAME(pack)(const struct bits_call *call, struct share bytes)
{
    switch ((enum test)call->test) {
    case ABOVE_ZERO: NAME(pack_as)(call, bytes, ABOVE_ZERO); break;
    case NOT_AT_MOST_ZERO: NAME(pack_as)(call, bytes, NOT_AT_MOST_ZERO); break;
    case NOT_ZERO: NAME(pack_as)(call, bytes, NOT_ZERO); break;
    case NOT_AT_LEAST_ZERO: NAME(pack_as)(call, bytes, NOT_AT_LEAST_ZERO); break;
    }
}

static void NAME(unpack)(const struct bits_call *call, struct share bytes)
{
    INTEGER *values = call->values;
    const INTEGER *table = call->table;
    int64_t whole = smaller(bytes.end, call->count / EIGHT);
    for (int64_t i = bytes.first; i < whole; i++)
        memcpy(values + i * EIGHT, table + call->bits[i] * EIGHT, EIGHT * sizeof(INTEGER));
    if (bytes.first <= whole && whole < bytes.end) /* a last byte of fewer values */
        memcpy(values + whole * EIGHT, table + call->bits[whole] * EIGHT,
               (size_t)(call->count - whole * EIGHT) * sizeof(INTEGER));
}
