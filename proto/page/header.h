/* What opens every page: 48 bytes and the list of exact tokens. FORMAT.md lists the fields. */
#ifndef PROTO_PAGE_HEADER_H
#define PROTO_PAGE_HEADER_H

#include "proto/page/page.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PAGE_HEADER_BYTES = 48,
    PAGE_CHANNELS_MAX = 1 << 15, /* of a page that is not raw */
    MEAN_SHIFT_MAX = 63,
    PAGE_STEP_MIN = 0x0d80, /* 2^-100, the upper half of a float */
    PAGE_STEP_MAX = 0x7180, /* 2^100 */
};

enum page_coding { CODING_RAW = 0, CODING_EXACT = 1, CODING_FAST8 = 2, CODING_RANS = 3 };

enum {
    FLAG_WIDE = 1,      /* value rows are of int16, not int8 */
    FLAG_NO_MEANS = 2,  /* every channel's mean is 0 and its row left out */
    FLAG_ESTIMATED = 4, /* error is what ageing is expected to have left */
};

struct page_header {
    enum page_coding coding;
    enum page_dtype dtype;
    enum page_part part;
    int level;
    uint8_t flags;
    uint8_t tokens;
    uint8_t sink_tokens;                  /* kept exact because the caller asked: the first ones */
    uint8_t exact_tokens;                 /* those and others */
    uint8_t exact_token[PAGE_TOKENS_MAX]; /* which, strictly increasing */
    int8_t phase;                         /* of 1/128 step, added to every quantised value */
    uint8_t mean_shift; /* means are integers in units of step / 16 * 2^mean_shift */
    uint32_t heads, head_dim;
    uint32_t page_bytes;
    uint16_t step;        /* the upper half of a float */
    uint8_t row_class[3]; /* of the side rows */
    uint8_t centre[2];    /* what the side rows' values are differences to */
    float error, energy;
};

static inline uint32_t page_header_channels(const struct page_header *header) {
    return header->heads * header->head_dim;
}

/* Tokens that are not kept exact. */
static inline uint32_t page_header_coded(const struct page_header *header) {
    return (uint32_t)header->tokens - header->exact_tokens;
}

/* Whether any coding but raw may serve: there is something to code, and what channels take of the
 * workspace is bounded. */
static inline bool page_may_be_coded(const struct page_header *header) {
    return page_header_coded(header) > 0 && page_header_channels(header) <= PAGE_CHANNELS_MAX;
}

/* Where the exact tokens' values stand. */
static inline size_t page_header_bytes(const struct page_header *header) {
    return PAGE_HEADER_BYTES + (size_t)header->exact_tokens;
}

/* Where their values end and the payload begins. */
static inline size_t page_exact_end(const struct page_header *header) {
    return page_header_bytes(header) +
           header->exact_tokens * page_row_bytes(header->dtype, page_header_channels(header));
}

/* What a page of this header takes if its coded tokens are stored as they came: no other coding
 * takes as much. */
static inline size_t page_raw_bytes(const struct page_header *header) {
    return page_header_bytes(header) +
           header->tokens * page_row_bytes(header->dtype, page_header_channels(header));
}

/* Whether a mean, an integer of 16 bits in units of step * 2^(mean_shift - 4), is finite whatever
 * it is: units are below 2^113. */
static inline bool page_means_are_numbers(const struct page_header *header) {
    return (header->step >> 7) + header->mean_shift < 113 + 4 + 127;
}

/* Writes page_header_bytes(). */
void page_header_write(const struct page_header *header, uint8_t *out);

/* Checks every field; on PAGE_OK the page's `page_bytes` are within `available_bytes`, and its
 * shape is within limits. */
int page_header_read(const uint8_t *page, size_t available_bytes, struct page_header *header)
    __attribute__((warn_unused_result));

/* Little-endian integers at any alignment. */
static inline void put_u16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void put_u32(uint8_t *at, uint32_t value) {
    put_u16(at, value & 0xffff);
    put_u16(at + 2, value >> 16);
}

static inline uint16_t get_u16(const uint8_t *at) {
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t get_u32(const uint8_t *at) {
    return get_u16(at) | (uint32_t)get_u16(at + 2) << 16;
}

#endif
