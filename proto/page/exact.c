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

/* No branches: compilers do many channels at a time. */
static void set_exponents(struct exact_page *page, size_t first, size_t channels) {
    struct page_codes *codes = &page->codes[first / PAGE_BLOCK];
    for (size_t i = 0; i < channels; i++) {
        int k = page->channel_class[first + i];
        bool is_signed = k >= PAGE_UNSIGNED_TABLES, negative = is_signed && k % 2 != 0;
        int table = is_signed ? PAGE_UNSIGNED_TABLES + (k - PAGE_UNSIGNED_TABLES) / 2 : k;
        int bias = is_signed ? SIGNED_BIAS : UNSIGNED_BIAS;
        page->classes[first + i] =
            (struct rans_class){(uint8_t)(PAGE_DROP_TABLE + table), is_signed ? 0 : 1};
        codes->base[i] = (int16_t)(2 * page->largest[first + i] + 1 - bias);
        codes->flip[i] = negative ? 0 : 1;
    }
}

static void set_integers(struct exact_page *page, size_t first, size_t channels) {
    struct page_codes *codes = &page->codes[first / PAGE_BLOCK];
    for (size_t i = 0; i < channels; i++) {
        page->classes[first + i] = rans_level_class(page->channel_class[first + i]);
        codes->base[i] = (int16_t)(page->largest[first + i] - MEAN_ZERO);
        codes->flip[i] = 0;
    }
}

void exact_set_tile(struct exact_page *page, enum page_dtype dtype, size_t channel) {
    size_t channels = tile_channels(page->channels, channel);
    if (exact_is_integer(dtype))
        set_integers(page, channel, channels);
    else
        set_exponents(page, channel, channels);
}

void exact_page_init(struct exact_page *page, const struct page_header *header,
                     struct workspace *workspace) {
    page->channels = page_header_channels(header);
    page->tokens = page_header_coded(header);
    size_t blocks = (page->channels + PAGE_BLOCK - 1) / PAGE_BLOCK;
    page->largest_offset = side_row_take(workspace, page->channels);
    page->class_offset = side_row_take(workspace, page->channels);
    page->largest = workspace_take(workspace, page->channels);
    page->channel_class = workspace_take(workspace, page->channels);
    page->classes = workspace_take(workspace, page->channels * sizeof *page->classes);
    page->codes = workspace_take(workspace, blocks * sizeof *page->codes);
}
