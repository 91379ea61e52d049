#include "proto/page/header.h"
#include "proto/page/convert.h"
#include "proto/page/tables.h"

#include <stdbool.h>

enum {
    MAGIC = 'K' | 'P' << 8,
    FORMAT = 1,
};

void page_header_write(const struct page_header *header, uint8_t *out) {
    memset(out, 0, PAGE_HEADER_BYTES);
    put_u16(out, MAGIC);
    out[2] = FORMAT;
    out[3] = (uint8_t)header->coding;
    out[4] = (uint8_t)header->level;
    out[5] = (uint8_t)header->dtype;
    out[6] = (uint8_t)header->part;
    out[7] = header->flags;
    out[8] = header->tokens;
    out[9] = header->sink_tokens;
    out[10] = (uint8_t)header->phase;
    out[11] = header->mean_shift;
    put_u32(out + 12, header->heads);
    put_u32(out + 16, header->head_dim);
    put_u32(out + 20, header->page_bytes);
    put_u16(out + 24, header->step);
    memcpy(out + 26, header->row_class, 3);
    memcpy(out + 29, header->centre, 2);
    out[31] = header->exact_tokens;
    put_u32(out + 32, float_bits(header->error));
    put_u32(out + 36, float_bits(header->energy));
    memcpy(out + PAGE_HEADER_BYTES, header->exact_token, header->exact_tokens);
}

static void read_fields(const uint8_t *page, struct page_header *header) {
    *header = (struct page_header){
        .coding = (enum page_coding)page[3],
        .level = (int8_t)page[4],
        .dtype = (enum page_dtype)page[5],
        .part = (enum page_part)page[6],
        .flags = page[7],
        .tokens = page[8],
        .sink_tokens = page[9],
        .phase = (int8_t)page[10],
        .mean_shift = page[11],
        .heads = get_u32(page + 12),
        .head_dim = get_u32(page + 16),
        .page_bytes = get_u32(page + 20),
        .step = get_u16(page + 24),
        .row_class = {page[26], page[27], page[28]},
        .centre = {page[29], page[30]},
        .exact_tokens = page[31],
        .error = bits_float(get_u32(page + 32)),
        .energy = bits_float(get_u32(page + 36)),
    };
}

static bool is_shape_sane(const struct page_header *header) {
    if (header->tokens < 1 || header->tokens > PAGE_TOKENS_MAX ||
        header->exact_tokens > header->tokens || header->sink_tokens > header->exact_tokens)
        return false;
    if (header->heads < 1 || header->heads > PAGE_VALUES_MAX || header->head_dim < 1 ||
        header->head_dim > PAGE_VALUES_MAX)
        return false;
    return (uint64_t)header->heads * header->head_dim * header->tokens <= PAGE_VALUES_MAX;
}

static bool is_sum_sane(float sum) {
    return float_bits(sum) < 0x7f800000u; /* finite and of positive sign */
}

static bool are_classes_sane(const struct page_header *header) {
    const uint8_t *k = header->row_class;
    return k[0] < PAGE_CLASSES && k[1] < PAGE_CLASSES && k[2] < PAGE_CLASSES;
}

static bool is_rans_sane(const struct page_header *header) {
    return header->level >= 0 && header->level <= PAGE_LEVEL_MAX &&
           header->flags <= (FLAG_WIDE | FLAG_NO_MEANS | FLAG_ESTIMATED) &&
           header->step >= PAGE_STEP_MIN && header->step <= PAGE_STEP_MAX &&
           header->mean_shift <= MEAN_SHIFT_MAX && page_means_are_numbers(header) &&
           header->centre[1] == 0 && are_classes_sane(header);
}

/* Exponents of less than 8 bits, and integers of 8, fit narrow rows. */
static bool exact_may_be_wide(enum page_dtype dtype) {
    return dtype == PAGE_BF16 || dtype == PAGE_F32;
}

static bool is_exact_sane(const struct page_header *header) {
    return header->level == PAGE_EXACT &&
           header->flags <= (exact_may_be_wide(header->dtype) ? FLAG_WIDE : 0) &&
           header->step == 0 && header->phase == 0 && header->mean_shift == 0 &&
           header->row_class[2] == 0 && header->error == 0 && are_classes_sane(header);
}

static bool is_plain_sane(const struct page_header *header, int level) {
    return header->level == level && header->flags == 0 && header->step == 0 &&
           header->phase == 0 && header->mean_shift == 0 && header->row_class[0] == 0 &&
           header->row_class[1] == 0 && header->row_class[2] == 0 && header->centre[0] == 0 &&
           header->centre[1] == 0;
}

static bool is_coding_sane(const struct page_header *header) {
    if (header->coding != CODING_RAW && !page_may_be_coded(header))
        return false;
    switch (header->coding) {
    case CODING_RAW:
        return is_plain_sane(header, PAGE_EXACT) && header->error == 0;
    case CODING_EXACT:
        return is_exact_sane(header);
    case CODING_FAST8:
        return is_plain_sane(header, PAGE_FAST8);
    case CODING_RANS:
        return is_rans_sane(header);
    }
    return false;
}

static bool is_reserved_zero(const uint8_t *page) {
    return (get_u32(page + 40) | get_u32(page + 44)) == 0;
}

/* Behind the 48 bytes; page_bytes is within the memory. */
static bool read_exact_tokens(const uint8_t *page, struct page_header *header) {
    if (header->page_bytes < page_exact_end(header) || header->page_bytes > page_raw_bytes(header))
        return false;
    memcpy(header->exact_token, page + PAGE_HEADER_BYTES, header->exact_tokens);
    for (int i = 0; i < header->exact_tokens; i++) {
        uint8_t token = header->exact_token[i];
        if (token >= header->tokens || (i < header->sink_tokens && token != i) ||
            (i > 0 && token <= header->exact_token[i - 1]))
            return false;
    }
    return true;
}

int page_header_read(const uint8_t *page, size_t available_bytes, struct page_header *header) {
    if (available_bytes < PAGE_HEADER_BYTES || get_u16(page) != MAGIC)
        return PAGE_DAMAGED;
    if (page[2] != FORMAT)
        return PAGE_VERSION;
    read_fields(page, header);
    if (!is_shape_sane(header) || page_row_bytes(header->dtype, header->head_dim) == 0 ||
        header->part > PAGE_V || !is_coding_sane(header) || !is_reserved_zero(page))
        return PAGE_DAMAGED;
    if (!is_sum_sane(header->error) || !is_sum_sane(header->energy))
        return PAGE_DAMAGED;
    if (header->page_bytes > available_bytes || !read_exact_tokens(page, header))
        return PAGE_DAMAGED;
    return PAGE_OK;
}
