#include "proto/page/exact.h"
#include "proto/page/compact.h"
#include "proto/page/side_rows.h"

enum {
    EXPONENT_CLASSES = 2 * PAGE_DROP_TABLES - PAGE_UNSIGNED_TABLES,
    UNSIGNED_BIAS = 30,
    SIGNED_BIAS = 15,
    MEAN_ZERO = 128, /* integers' means are told from the least integer on */
};

/* What of a mantissa stands in whole bytes, channel by channel, and what in the bit string. */
struct mantissa {
    unsigned low_bytes, high_bits;
};

static struct mantissa mantissa_of(enum page_dtype dtype) {
    switch (dtype) {
    case PAGE_F16:
        return (struct mantissa){1, 2};
    case PAGE_BF16:
        return (struct mantissa){0, 7};
    case PAGE_F32:
        return (struct mantissa){2, 7};
    case PAGE_F8E4M3:
        return (struct mantissa){0, 3};
    case PAGE_F8E5M2:
        return (struct mantissa){0, 2};
    case PAGE_I8:
    case PAGE_Q8_0:
    case PAGE_Q4_0:
        break;
    }
    return (struct mantissa){0, 0};
}

bool exact_is_integer(enum page_dtype dtype) {
    return dtype >= PAGE_I8;
}

int exact_classes(enum page_dtype dtype) {
    return exact_is_integer(dtype) ? PAGE_CLASSES : EXPONENT_CLASSES;
}

int exact_largest(enum page_dtype dtype) {
    return dtype == PAGE_F16 || dtype == PAGE_F8E5M2 ? 31 : dtype == PAGE_F8E4M3 ? 15 : 255;
}

size_t exact_rest_bytes(enum page_dtype dtype, size_t channels) {
    if (page_block_values(dtype) > 1) /* a scale each */
        return channels / page_block_values(dtype) * sizeof(uint16_t);
    struct mantissa mantissa = mantissa_of(dtype);
    return mantissa.low_bytes * channels + (mantissa.high_bits * channels + 7) / 8;
}

static bool is_signed(unsigned k) {
    return k >= PAGE_UNSIGNED_TABLES;
}

static unsigned table_of(unsigned k) {
    return is_signed(k) ? PAGE_UNSIGNED_TABLES + (k - PAGE_UNSIGNED_TABLES) / 2 : k;
}

static struct rans_class class_of_exponents(unsigned k) {
    return (struct rans_class){(uint8_t)(PAGE_DROP_TABLE + table_of(k)), is_signed(k) ? 0 : 1};
}

void exact_set_exponents(struct exact_page *page, size_t channel, unsigned k, int largest) {
    struct page_codes *codes = &page->codes[channel / PAGE_BLOCK];
    bool negative = is_signed(k) && k % 2 != 0;
    int bias = is_signed(k) ? SIGNED_BIAS : UNSIGNED_BIAS;
    page->classes[channel] = class_of_exponents(k);
    codes->base[channel % PAGE_BLOCK] = (int16_t)(2 * largest + 1 - bias);
    codes->flip[channel % PAGE_BLOCK] = negative ? 0 : 1;
}

void exact_set_integers(struct exact_page *page, size_t channel, unsigned k, int mean) {
    struct page_codes *codes = &page->codes[channel / PAGE_BLOCK];
    page->classes[channel] = rans_level_class(k);
    codes->base[channel % PAGE_BLOCK] = (int16_t)(mean - MEAN_ZERO);
    codes->flip[channel % PAGE_BLOCK] = 0;
}

void exact_page_init(struct exact_page *page, const struct page_header *header,
                     struct workspace *workspace) {
    page->channels = page_header_channels(header);
    page->tokens = page_header_coded(header);
    size_t blocks = (page->channels + PAGE_BLOCK - 1) / PAGE_BLOCK;
    page->largest_offset = side_row_take(workspace, page->channels);
    page->class_offset = side_row_take(workspace, page->channels);
    page->classes = workspace_take(workspace, page->channels * sizeof *page->classes);
    page->codes = workspace_take(workspace, blocks * sizeof *page->codes);
}
