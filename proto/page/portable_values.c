/* The kernels over tiles of values, in C that compilers vectorise for any instruction set. */
#include "proto/page/kernels.h"
#include "proto/page/portable_numbers.h"
#include "proto/page/workspace.h"

#include <string.h>

static inline const uint8_t *source_row(const struct page_source_rows *in, size_t token) {
    return (const uint8_t *)in->rows[token] + in->offset_bytes;
}

SPECIALISED void load_row(enum page_dtype dtype, const uint8_t *restrict values, size_t count,
                          float *restrict row) {
    for (size_t i = 0; i < count; i++)
        row[i] = load(dtype, values, i);
}

void PAGE_OF_TARGET(widen_)(const void *halves, void *floats, size_t count) {
    const unaligned_u16 *restrict in = halves;
    unaligned_u32 *restrict out = floats;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = float_bits(half_to_float(in[i]));
        out[i] = bits | ((bits & 0x7fffffffu) > 0x7f800000u ? 0x400000u : 0);
    }
}

SPECIALISED void sum_rows(enum page_dtype dtype, const struct page_source_rows *in,
                          float *restrict sum) {
    size_t channels = in->channels;
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *restrict row = source_row(in, t);
        for (size_t c = 0; c < channels; c++)
            sum[c] += load(dtype, row, c);
    }
}

SPECIALISED void squares(enum page_dtype dtype, const void *values, size_t count, float *lanes) {
    PAGE_SCRATCH float row[PAGE_BLOCK];
    for (size_t first = 0; first < count; first += PAGE_BLOCK) {
        size_t block = count - first < PAGE_BLOCK ? count - first : PAGE_BLOCK;
        for (size_t i = 0; i < block; i++)
            row[i] = load(dtype, values, first + i);
        add_squares(row, block, lanes);
    }
}

SPECIALISED void deviation(enum page_dtype dtype, const struct page_source_rows *in,
                           const float *restrict mean, float (*lanes)[PAGE_LANES]) {
    size_t channels = in->channels;
    PAGE_SCRATCH float row[PAGE_BLOCK];
    for (size_t t = 0; t < in->tokens; t++) {
        load_row(dtype, source_row(in, t), channels, row);
        for (size_t c = 0; c < channels; c++)
            row[c] -= mean[c];
        add_squares(row, channels, lanes[t]);
    }
}

/* ---- between token-major and channel-major ---- */

enum { TILE_TOKENS = 16 };

/* Tiles of 16 tokens stand as [16][PAGE_BLOCK] int16 while they are token-major. */
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef int16_t i16x16 __attribute__((vector_size(32)));

#define LOW_HALVES16(a, b)                                                                         \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH_HALVES16(a, b)                                                                        \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define LOW_HALVES8(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_HALVES8(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

/* Rows 0 and 4, 1 and 5.. element by element: three such passes turn a square of eight. */
SPECIALISED void interleave8(const i16x8 in[8], i16x8 out[8]) {
    for (size_t i = 0; i < 4; i++) {
        out[2 * i] = LOW_HALVES8(in[i], in[i + 4]);
        out[2 * i + 1] = HIGH_HALVES8(in[i], in[i + 4]);
    }
}

SPECIALISED void turn8(i16x8 square[8]) {
    i16x8 other[8];
    interleave8(square, other);
    interleave8(other, square);
    interleave8(square, other);
    memcpy(square, other, sizeof other);
}

/* Rows 0 and 8, 1 and 9..: four such passes turn a square of sixteen. */
SPECIALISED void interleave16(const i8x16 in[16], i8x16 out[16]) {
    for (size_t i = 0; i < 8; i++) {
        out[2 * i] = LOW_HALVES16(in[i], in[i + 8]);
        out[2 * i + 1] = HIGH_HALVES16(in[i], in[i + 8]);
    }
}

SPECIALISED void turn16(i8x16 square[16]) {
    i8x16 other[16];
    interleave16(square, other);
    interleave16(other, square);
    interleave16(square, other);
    interleave16(other, square);
}

static void store_columns16(const int16_t *tile, size_t channels, size_t token, int16_t *q) {
    for (size_t half = 0; half < TILE_TOKENS; half += 8)
        for (size_t c = 0; c < channels; c += 8) {
            i16x8 square[8];
            for (size_t i = 0; i < 8; i++)
                memcpy(&square[i], tile + (half + i) * PAGE_BLOCK + c, sizeof square[i]);
            turn8(square);
            for (size_t i = 0; i < 8 && c + i < channels; i++)
                memcpy(q + (c + i) * RANS_ROW_VALUES + token + half, &square[i], sizeof square[i]);
        }
}

static void load_columns16(const int16_t *q, size_t channels, size_t token, int16_t *tile) {
    for (size_t half = 0; half < TILE_TOKENS; half += 8)
        for (size_t c = 0; c < channels; c += 8) {
            i16x8 square[8] = {0};
            for (size_t i = 0; i < 8 && c + i < channels; i++)
                memcpy(&square[i], q + (c + i) * RANS_ROW_VALUES + token + half, sizeof square[i]);
            turn8(square);
            for (size_t i = 0; i < 8; i++)
                memcpy(tile + (half + i) * PAGE_BLOCK + c, &square[i], sizeof square[i]);
        }
}

static void store_columns8(const int16_t *tile, size_t channels, size_t token, int8_t *q) {
    for (size_t c = 0; c < channels; c += 16) {
        i8x16 square[16];
        for (size_t i = 0; i < 16; i++) {
            int8_t row[16];
            for (size_t j = 0; j < 16; j++)
                row[j] = (int8_t)tile[i * PAGE_BLOCK + c + j];
            memcpy(&square[i], row, sizeof row);
        }
        turn16(square);
        for (size_t i = 0; i < 16 && c + i < channels; i++)
            memcpy(q + (c + i) * RANS_ROW_VALUES + token, &square[i], sizeof square[i]);
    }
}

static void load_columns8(const int8_t *q, size_t channels, size_t token, int16_t *tile) {
    for (size_t c = 0; c < channels; c += 16) {
        i8x16 square[16] = {0};
        for (size_t i = 0; i < 16 && c + i < channels; i++)
            memcpy(&square[i], q + (c + i) * RANS_ROW_VALUES + token, sizeof square[i]);
        turn16(square);
        for (size_t i = 0; i < 16; i++) {
            i16x16 row = __builtin_convertvector(square[i], i16x16);
            memcpy(tile + i * PAGE_BLOCK + c, &row, sizeof row);
        }
    }
}

/* ---- quantising ---- */

/* What a kernel is made for. */
struct kind {
    enum page_dtype dtype;
    bool wide;
};

/* 256 to a step, as an integer. Wide ones have more digits than a float rounds in one go: their
 * whole steps come off first, which leaves an exact rest. */
SPECIALISED int32_t nearest_fine(bool wide, float z) {
    if (!wide)
        return nearest(z);
    float steps = (z * 0x1p-8f + ROUND_SIGNED) - ROUND_SIGNED;
    uint32_t whole = (uint32_t)nearest(z * 0x1p-8f), rest = (uint32_t)nearest(z - steps * 256);
    return (int32_t)(whole * 256 + rest);
}

SPECIALISED uint32_t sum_of_squares(const int16_t *values, size_t count) {
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return (uint32_t)sum;
}

/* A token's values to tile, the squares of what they leave to the sum. Returns whether some do not
 * fit, in the highest bit. */
SPECIALISED uint32_t quantise_token(struct kind kind, const uint8_t *values,
                                    const float *restrict mean, float fine, size_t channels,
                                    int16_t *restrict tile, uint32_t *residual) {
    PAGE_SCRATCH float row[PAGE_BLOCK];
    PAGE_SCRATCH int16_t left[PAGE_BLOCK];
    load_row(kind.dtype, values, channels, row);
    uint32_t outside = 0;
    int32_t least = kind.wide ? INT16_MIN : 1 - INT8_MAX,
            most = kind.wide ? INT16_MAX : INT8_MAX - 1;
    for (size_t c = 0; c < channels; c++) {
        int32_t z = nearest_fine(kind.wide, (row[c] - mean[c]) * fine);
        int32_t q = (int32_t)((uint32_t)z + 128) >> 8;
        int32_t rest = (int32_t)((uint32_t)z - (uint32_t)q * 256);
        outside |= (uint32_t)(q - least) | (uint32_t)(most - q);
        tile[c] = (int16_t)q;
        left[c] = (int16_t)(rest < -127 ? -127 : rest);
    }
    *residual += sum_of_squares(left, channels);
    return outside;
}

SPECIALISED uint32_t magnitude_of(bool wide, const void *q, size_t tokens) {
    int32_t sum = 0;
    for (size_t t = 0; t < tokens; t++) {
        int value = wide ? ((const int16_t *)q)[t] : ((const int8_t *)q)[t];
        sum += value < 0 ? -value : value;
    }
    return (uint32_t)sum;
}

SPECIALISED void magnitudes_of(bool wide, const void *q, size_t channels, size_t tokens,
                               uint32_t *magnitude) {
    size_t row_bytes = RANS_ROW_VALUES * (wide ? 2 : 1);
    for (size_t c = 0; c < channels; c++)
        magnitude[c] = magnitude_of(wide, (const uint8_t *)q + c * row_bytes, tokens);
}

SPECIALISED uint32_t quantise(enum page_dtype dtype, bool wide, const struct page_source_rows *in,
                              const float *mean, const float *fine, void *q,
                              struct page_sums *sums) {
    int16_t tile[TILE_TOKENS * PAGE_BLOCK] = {0};
    uint32_t outside = 0;
    for (size_t t0 = 0; t0 < in->tokens; t0 += TILE_TOKENS) {
        for (size_t t = t0; t < t0 + TILE_TOKENS && t < in->tokens; t++)
            outside |=
                quantise_token((struct kind){dtype, wide}, source_row(in, t), mean, fine[t],
                               in->channels, tile + (t - t0) * PAGE_BLOCK, sums->residual[t]);
        if (wide)
            store_columns16(tile, in->channels, t0, q);
        else
            store_columns8(tile, in->channels, t0, q);
    }
    magnitudes_of(wide, q, in->channels, in->tokens, sums->magnitude);
    return outside >> 31;
}

enum { PAIRS = PAGE_BLOCK / 2 };

/* Channels' means by the pairs that they stand in; 0 behind the last. */
struct paired_means {
    float even[PAIRS], odd[PAIRS];
};

static struct paired_means pair_means(const float *mean, size_t channels) {
    float means[PAGE_BLOCK] = {0};
    struct paired_means paired;
    memcpy(means, mean, channels * sizeof *mean);
    for (size_t i = 0; i < PAIRS; i++) {
        paired.even[i] = means[2 * i];
        paired.odd[i] = means[2 * i + 1];
    }
    return paired;
}

/* A row of a tile, two values of 16 bits at a time: compilers take words apart and join them with
 * shifts, where to widen and narrow vectors would take far more. */
SPECIALISED void dequantise_row(enum page_dtype dtype, const int16_t *restrict q,
                                const struct paired_means *restrict mean, float step, float phase,
                                void *restrict values) {
    for (size_t i = 0; i < PAIRS; i++) {
        uint32_t pair = ((const unaligned_u32 *)q)[i];
        float even = (float)((int32_t)(pair << 16) >> 16), odd = (float)((int32_t)pair >> 16);
        store_pair(dtype, (even + phase) * step + mean->even[i],
                   (odd + phase) * step + mean->odd[i], values, i);
    }
}

SPECIALISED void dequantise(enum page_dtype dtype, bool wide, const void *q, const float *mean,
                            const float *steps, float phase, const struct page_target_rows *out) {
    int16_t tile[TILE_TOKENS * PAGE_BLOCK] = {0};
    PAGE_SCRATCH float last[PAGE_BLOCK];
    const struct paired_means means = pair_means(mean, out->channels);
    size_t bytes = out->channels * (dtype == PAGE_F32 ? 4 : 2);
    for (size_t t0 = out->first / TILE_TOKENS * TILE_TOKENS; t0 < out->last; t0 += TILE_TOKENS) {
        if (wide)
            load_columns16(q, out->channels, t0, tile);
        else
            load_columns8(q, out->channels, t0, tile);
        size_t first = t0 > out->first ? t0 : out->first;
        for (size_t t = first; t < t0 + TILE_TOKENS && t < out->last; t++) {
            const int16_t *row = tile + (t - t0) * PAGE_BLOCK;
            uint8_t *values = (uint8_t *)out->rows[t] + out->offset_bytes;
            if (out->channels == PAGE_BLOCK) {
                dequantise_row(dtype, row, &means, steps[t], phase, values);
            } else {
                dequantise_row(dtype, row, &means, steps[t], phase, last);
                memcpy(values, last, bytes);
            }
        }
    }
}

#define TILE_KERNELS(name, dtype)                                                                  \
    void PAGE_OF_TARGET(sum_##name##_)(const struct page_source_rows *in, float *sum) {            \
        sum_rows(dtype, in, sum);                                                                  \
    }                                                                                              \
    void PAGE_OF_TARGET(squares_##name##_)(const void *values, size_t count, float *lanes) {       \
        squares(dtype, values, count, lanes);                                                      \
    }                                                                                              \
    void PAGE_OF_TARGET(deviation_##name##_)(const struct page_source_rows *in, const float *mean, \
                                             float(*lanes)[PAGE_LANES]) {                          \
        deviation(dtype, in, mean, lanes);                                                         \
    }                                                                                              \
    uint32_t PAGE_OF_TARGET(quantise8_##name##_)(const struct page_source_rows *in,                \
                                                 const float *mean, const float *fine, int8_t *q,  \
                                                 struct page_sums *sums) {                         \
        return quantise(dtype, false, in, mean, fine, q, sums);                                    \
    }                                                                                              \
    uint32_t PAGE_OF_TARGET(quantise16_##name##_)(const struct page_source_rows *in,               \
                                                  const float *mean, const float *fine,            \
                                                  int16_t *q, struct page_sums *sums) {            \
        return quantise(dtype, true, in, mean, fine, q, sums);                                     \
    }                                                                                              \
    void PAGE_OF_TARGET(dequantise8_##name##_)(const int8_t *q, const float *mean,                 \
                                               const float *steps, float phase,                    \
                                               const struct page_target_rows *out) {               \
        dequantise(dtype, false, q, mean, steps, phase, out);                                      \
    }                                                                                              \
    void PAGE_OF_TARGET(dequantise16_##name##_)(const int16_t *q, const float *mean,               \
                                                const float *steps, float phase,                   \
                                                const struct page_target_rows *out) {              \
        dequantise(dtype, true, q, mean, steps, phase, out);                                       \
    }

TILE_KERNELS(f16, PAGE_F16)
TILE_KERNELS(bf16, PAGE_BF16)
TILE_KERNELS(f32, PAGE_F32)

/* ---- ageing ---- */

void PAGE_OF_TARGET(halve8_)(int8_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                             uint32_t *magnitude) {
    for (size_t c = 0; c < channels; c++)
        for (size_t t = 0; t < tokens; t++)
            q[c * RANS_ROW_VALUES + t] = (int8_t)((q[c * RANS_ROW_VALUES + t] + up) >> shift);
    magnitudes_of(false, q, channels, tokens, magnitude);
}

void PAGE_OF_TARGET(halve16_)(int16_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                              uint32_t *magnitude) {
    for (size_t c = 0; c < channels; c++)
        for (size_t t = 0; t < tokens; t++)
            q[c * RANS_ROW_VALUES + t] = (int16_t)((q[c * RANS_ROW_VALUES + t] + up) >> shift);
    magnitudes_of(true, q, channels, tokens, magnitude);
}
