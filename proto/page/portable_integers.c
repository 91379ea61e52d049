/* Exact's kernels for integers: v is the difference to a channel's mean, kept to 8 bits; the scales
 * of blocks stand in the rest. */
#include "proto/page/compact.h"
#include "proto/page/convert.h"
#include "proto/page/portable.h"

/* Where a block's bytes begin; one of 32 channels for all dtypes here. */
SPECIALISED size_t block_offset(enum page_dtype dtype, size_t c) {
    size_t bytes = dtype == PAGE_Q8_0   ? Q8_0_BLOCK_BYTES
                   : dtype == PAGE_Q4_0 ? Q4_0_BLOCK_BYTES
                                        : BLOCK_VALUES;
    return c / BLOCK_VALUES * bytes;
}

SPECIALISED int load_integer(enum page_dtype dtype, const uint8_t *token, size_t c) {
    const uint8_t *block = token + block_offset(dtype, c);
    size_t i = c % BLOCK_VALUES;
    if (dtype == PAGE_I8)
        return (int8_t)block[i];
    if (dtype == PAGE_Q8_0)
        return (int8_t)block[2 + i];
    return (block[2 + i % 16] >> (i < 16 ? 0 : 4) & 15) - 8;
}

SPECIALISED void survey_block(enum page_dtype dtype, const struct page_source_rows *in,
                              struct page_survey *out) {
    *out = (struct page_survey){0};
    memset(out->smallest, 255, in->channels);
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *token = (const uint8_t *)in->rows[t] + in->offset_bytes;
        for (size_t c = 0; c < in->channels; c++) {
            uint8_t above = (uint8_t)(load_integer(dtype, token, c) + 128);
            out->largest[c] = above > out->largest[c] ? above : out->largest[c];
            out->smallest[c] = above < out->smallest[c] ? above : out->smallest[c];
            out->sum[c] = (uint16_t)(out->sum[c] + above);
        }
    }
}

SPECIALISED void split(enum page_dtype dtype, const struct page_source_rows *in,
                       const struct page_codes *codes, int8_t *v, uint8_t *rest) {
    for (size_t t = 0; t < in->tokens; t++) {
        const uint8_t *token = (const uint8_t *)in->rows[t] + in->offset_bytes;
        uint8_t *low = rest + t * (in->channels / BLOCK_VALUES * 2);
        for (size_t c = 0; c < in->channels; c++)
            v[c * RANS_ROW_VALUES + t] = (int8_t)(load_integer(dtype, token, c) - codes->base[c]);
        for (size_t c = 0; dtype != PAGE_I8 && c < in->channels; c += BLOCK_VALUES)
            memcpy(low + c / BLOCK_VALUES * 2, token + block_offset(dtype, c), 2);
    }
}

SPECIALISED void join(enum page_dtype dtype, const int8_t *v, const struct page_codes *codes,
                      const uint8_t *rest, const struct page_target_rows *out) {
    for (size_t t = out->first; t < out->last; t++) {
        uint8_t *token = (uint8_t *)out->rows[t] + out->offset_bytes;
        const uint8_t *low = rest + t * (out->channels / BLOCK_VALUES * 2);
        for (size_t c = 0; dtype != PAGE_I8 && c < out->channels; c += BLOCK_VALUES)
            memcpy(token + block_offset(dtype, c), low + c / BLOCK_VALUES * 2, 2);
        for (size_t c = 0; c < out->channels; c++) {
            uint8_t *block = token + block_offset(dtype, c);
            size_t i = c % BLOCK_VALUES;
            int x = v[c * RANS_ROW_VALUES + t] + codes->base[c];
            if (dtype != PAGE_Q4_0)
                block[dtype == PAGE_I8 ? i : 2 + i] = (uint8_t)x;
            else if (i < 16)
                block[2 + i] = (uint8_t)((x + 8) & 15);
            else
                block[2 + i - 16] |= (uint8_t)(((x + 8) & 15) << 4);
        }
    }
}

static void survey_i8(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_I8, in, survey);
}

static void split8_i8(const struct page_source_rows *in, const struct page_codes *codes, int8_t *v,
                      uint8_t *rest) {
    split(PAGE_I8, in, codes, v, rest);
}

static void join8_i8(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                     const struct page_target_rows *out) {
    join(PAGE_I8, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_i8_) = {
    .survey = survey_i8,
    .split8 = split8_i8,
    .join8 = join8_i8,
};

static void survey_q8_0(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_Q8_0, in, survey);
}

static void split8_q8_0(const struct page_source_rows *in, const struct page_codes *codes,
                        int8_t *v, uint8_t *rest) {
    split(PAGE_Q8_0, in, codes, v, rest);
}

static void join8_q8_0(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                       const struct page_target_rows *out) {
    join(PAGE_Q8_0, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_q8_0_) = {
    .survey = survey_q8_0,
    .split8 = split8_q8_0,
    .join8 = join8_q8_0,
};

static void survey_q4_0(const struct page_source_rows *in, struct page_survey *survey) {
    survey_block(PAGE_Q4_0, in, survey);
}

static void split8_q4_0(const struct page_source_rows *in, const struct page_codes *codes,
                        int8_t *v, uint8_t *rest) {
    split(PAGE_Q4_0, in, codes, v, rest);
}

static void join8_q4_0(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                       const struct page_target_rows *out) {
    join(PAGE_Q4_0, v, codes, rest, out);
}

const struct page_exact_kernels PAGE_OF_TARGET(exact_q4_0_) = {
    .survey = survey_q4_0,
    .split8 = split8_q4_0,
    .join8 = join8_q4_0,
};
