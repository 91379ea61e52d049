/* Exact's kernels: values to exponents, signs and mantissas, and back. */
#include "proto/page/convert.h"
#include "proto/page/kernels.h"
#include "proto/page/portable.h"

/* The places of a dtype's parts. A code is exponent * 2 + sign; what is left of the mantissa goes
 * `low_bytes` whole bytes by channel first and the upper `high_bits` to the bit string. */
struct layout {
    unsigned value_bytes, exponent_bits, mantissa_bits, low_bytes, high_bits;
};

SPECIALISED struct layout layout_of(enum page_dtype dtype) {
    if (dtype == PAGE_F16)
        return (struct layout){2, 5, 10, 1, 2};
    if (dtype == PAGE_BF16)
        return (struct layout){2, 8, 7, 0, 7};
    if (dtype == PAGE_F8E4M3)
        return (struct layout){1, 4, 3, 0, 3};
    if (dtype == PAGE_F8E5M2)
        return (struct layout){1, 5, 2, 0, 2};
    return (struct layout){4, 8, 23, 2, 7};
}

SPECIALISED uint32_t load(struct layout layout, const uint8_t *token, size_t c) {
    if (layout.value_bytes == 1)
        return token[c];
    if (layout.value_bytes == 2)
        return ((const unaligned_u16 *)token)[c];
    return ((const unaligned_u32 *)token)[c];
}

SPECIALISED void put_value(struct layout layout, uint8_t *token, size_t c, uint32_t value) {
    if (layout.value_bytes == 1)
        token[c] = (uint8_t)value;
    else if (layout.value_bytes == 2)
        ((unaligned_u16 *)token)[c] = (uint16_t)value;
    else
        ((unaligned_u32 *)token)[c] = value;
}

SPECIALISED uint32_t exponent_of(struct layout layout, uint32_t value) {
    return value >> layout.mantissa_bits & ((1u << layout.exponent_bits) - 1);
}

SPECIALISED uint32_t sign_of(struct layout layout, uint32_t value) {
    return value >> (layout.exponent_bits + layout.mantissa_bits);
}

SPECIALISED void survey_block(enum page_dtype dtype, const struct page_source_rows *in,
                              struct page_survey *out) {
    struct layout layout = layout_of(dtype);
    *out = (struct page_survey){0};
    memset(out->smallest, 255, in->channels);
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *token = (const uint8_t *)in->rows[t] + in->offset_bytes;
        for (size_t c = 0; c < in->channels; c++) {
            uint32_t value = load(layout, token, c);
            uint8_t exponent = (uint8_t)exponent_of(layout, value);
            out->largest[c] = exponent > out->largest[c] ? exponent : out->largest[c];
            out->smallest[c] = exponent < out->smallest[c] ? exponent : out->smallest[c];
            out->sum[c] = (uint16_t)(out->sum[c] + exponent);
            out->negatives[c] = (uint8_t)(out->negatives[c] + sign_of(layout, value));
        }
    }
}

SPECIALISED void put_low(struct layout layout, uint8_t *low, size_t c, uint32_t value) {
    if (layout.low_bytes == 1)
        low[c] = (uint8_t)value;
    if (layout.low_bytes == 2)
        ((unaligned_u16 *)low)[c] = (uint16_t)value;
}

SPECIALISED uint32_t get_low(struct layout layout, const uint8_t *low, size_t c) {
    if (layout.low_bytes == 1)
        return low[c];
    return layout.low_bytes == 2 ? ((const unaligned_u16 *)low)[c] : 0;
}

/* A token's mantissas. */
SPECIALISED size_t rest_bytes(struct layout layout, size_t channels) {
    return layout.low_bytes * channels + (layout.high_bits * channels + 7) / 8;
}

/* One token of a tile; `codes` takes exponent * 2 + sign of each channel. */
SPECIALISED void split_token(struct layout layout, const uint8_t *token, size_t channels,
                             uint16_t *codes, uint8_t *low) {
    uint8_t *bits = low + layout.low_bytes * channels;
    for (size_t c = 0; c < channels; c += 8, bits += layout.high_bits) {
        uint64_t fields = 0;
        size_t count = channels - c < 8 ? channels - c : 8;
        for (size_t i = 0; i < count; i++) {
            uint32_t value = load(layout, token, c + i);
            uint64_t high = value >> 8 * layout.low_bytes & ((1u << layout.high_bits) - 1);
            codes[c + i] = (uint16_t)(exponent_of(layout, value) << 1 | sign_of(layout, value));
            put_low(layout, low, c + i, value);
            fields |= high << i * layout.high_bits;
        }
        size_t bytes = (count * layout.high_bits + 7) / 8;
        for (size_t i = 0; i < bytes; i++)
            bits[i] = (uint8_t)(fields >> 8 * i);
    }
}

SPECIALISED void join_token(struct layout layout, const uint16_t *codes, size_t channels,
                            const uint8_t *low, uint8_t *token) {
    const uint8_t *bits = low + layout.low_bytes * channels;
    for (size_t c = 0; c < channels; c += 8, bits += layout.high_bits) {
        uint64_t fields = 0;
        size_t count = channels - c < 8 ? channels - c : 8;
        size_t bytes = (count * layout.high_bits + 7) / 8;
        for (size_t i = 0; i < bytes; i++)
            fields |= (uint64_t)bits[i] << 8 * i;
        for (size_t i = 0; i < count; i++) {
            uint32_t high =
                (uint32_t)(fields >> i * layout.high_bits) & ((1u << layout.high_bits) - 1);
            uint32_t exponent = codes[c + i] >> 1, sign = codes[c + i] & 1;
            uint32_t value = (sign << layout.exponent_bits | exponent) << layout.mantissa_bits |
                             high << 8 * layout.low_bytes | get_low(layout, low, c + i);
            put_value(layout, token, c + i, value);
        }
    }
}

SPECIALISED void put(bool wide, void *v, size_t i, int value) {
    if (wide)
        ((int16_t *)v)[i] = (int16_t)value;
    else
        ((int8_t *)v)[i] = (int8_t)value;
}

SPECIALISED void split(enum page_dtype dtype, bool wide, const struct page_source_rows *in,
                       const struct page_codes *codes, void *v, uint8_t *rest) {
    struct layout layout = layout_of(dtype);
    for (size_t t = 0; t < in->tokens; t++) {
        uint16_t code[PAGE_BLOCK];
        split_token(layout, (const uint8_t *)in->rows[t] + in->offset_bytes, in->channels, code,
                    rest + t * rest_bytes(layout, in->channels));
        for (size_t c = 0; c < in->channels; c++)
            put(wide, v, c * RANS_ROW_VALUES + t, codes->base[c] - (code[c] ^ codes->flip[c]));
    }
}

SPECIALISED void join(enum page_dtype dtype, bool wide, const void *v,
                      const struct page_codes *codes, const uint8_t *rest,
                      const struct page_target_rows *out) {
    struct layout layout = layout_of(dtype);
    unsigned mask = (2u << layout.exponent_bits) - 1;
    for (size_t t = out->first; t < out->last; t++) {
        uint16_t code[PAGE_BLOCK];
        for (size_t c = 0; c < out->channels; c++) {
            size_t i = c * RANS_ROW_VALUES + t;
            int value = wide ? ((const int16_t *)v)[i] : ((const int8_t *)v)[i];
            code[c] = (uint16_t)(((unsigned)(codes->base[c] - value) ^ codes->flip[c]) & mask);
        }
        join_token(layout, code, out->channels, rest + t * rest_bytes(layout, out->channels),
                   (uint8_t *)out->rows[t] + out->offset_bytes);
    }
}

static void survey_f16(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_F16, in, survey);
}

static void split8_f16(const struct page_source_rows *in, const struct page_codes *codes, int8_t *v,
                       uint8_t *rest) {
    split(PAGE_F16, false, in, codes, v, rest);
}

static void join8_f16(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                      const struct page_target_rows *out) {
    join(PAGE_F16, false, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_f16_) = {
    .survey = survey_f16,
    .split8 = split8_f16,
    .join8 = join8_f16,
};

static void survey_bf16(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_BF16, in, survey);
}

static void split8_bf16(const struct page_source_rows *in, const struct page_codes *codes,
                        int8_t *v, uint8_t *rest) {
    split(PAGE_BF16, false, in, codes, v, rest);
}

static void join8_bf16(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                       const struct page_target_rows *out) {
    join(PAGE_BF16, false, v, codes, rest, out);
}

static void split16_bf16(const struct page_source_rows *in, const struct page_codes *codes,
                         int16_t *v, uint8_t *rest) {
    split(PAGE_BF16, true, in, codes, v, rest);
}

static void join16_bf16(const int16_t *v, const struct page_codes *codes, const uint8_t *rest,
                        const struct page_target_rows *out) {
    join(PAGE_BF16, true, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_bf16_) = {
    .survey = survey_bf16,
    .split8 = split8_bf16,
    .join8 = join8_bf16,
    .split16 = split16_bf16,
    .join16 = join16_bf16,
};

static void survey_f32(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_F32, in, survey);
}

static void split8_f32(const struct page_source_rows *in, const struct page_codes *codes, int8_t *v,
                       uint8_t *rest) {
    split(PAGE_F32, false, in, codes, v, rest);
}

static void join8_f32(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                      const struct page_target_rows *out) {
    join(PAGE_F32, false, v, codes, rest, out);
}

static void split16_f32(const struct page_source_rows *in, const struct page_codes *codes,
                        int16_t *v, uint8_t *rest) {
    split(PAGE_F32, true, in, codes, v, rest);
}

static void join16_f32(const int16_t *v, const struct page_codes *codes, const uint8_t *rest,
                       const struct page_target_rows *out) {
    join(PAGE_F32, true, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_f32_) = {
    .survey = survey_f32,
    .split8 = split8_f32,
    .join8 = join8_f32,
    .split16 = split16_f32,
    .join16 = join16_f32,
};

static void survey_f8e4m3(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_F8E4M3, in, survey);
}

static void split8_f8e4m3(const struct page_source_rows *in, const struct page_codes *codes,
                          int8_t *v, uint8_t *rest) {
    split(PAGE_F8E4M3, false, in, codes, v, rest);
}

static void join8_f8e4m3(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                         const struct page_target_rows *out) {
    join(PAGE_F8E4M3, false, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_f8e4m3_) = {
    .survey = survey_f8e4m3,
    .split8 = split8_f8e4m3,
    .join8 = join8_f8e4m3,
};

static void survey_f8e5m2(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_F8E5M2, in, survey);
}

static void split8_f8e5m2(const struct page_source_rows *in, const struct page_codes *codes,
                          int8_t *v, uint8_t *rest) {
    split(PAGE_F8E5M2, false, in, codes, v, rest);
}

static void join8_f8e5m2(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                         const struct page_target_rows *out) {
    join(PAGE_F8E5M2, false, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_f8e5m2_) = {
    .survey = survey_f8e5m2,
    .split8 = split8_f8e5m2,
    .join8 = join8_f8e5m2,
};
