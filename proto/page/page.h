/* The page codec: K or V of one layer, all heads, up to 128 tokens, to bytes and back.
 *
 * Every function works on the caller's memory, allocates nothing, keeps no state and may be called
 * from any thread. FORMAT.md beside this file describes the bytes. A page is self-describing:
 * page_peek() and page_decode() need nothing but its bytes, and take any bytes at all; they return
 * an error or a page, within the bounds given.
 */
#ifndef PROTO_PAGE_PAGE_H
#define PROTO_PAGE_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From PAGE_F8E4M3 on: what engines keep caches in to save memory. OCP's 8-bit floats (e4m3fn,
 * e5m2); int8 whose scales are the caller's, the page holds the integers; GGML's blocks of 32
 * values along head_dim, a float16 d and then 32 int8 (value = d * q), or 16 bytes of nibbles
 * (value = d * (q - 8), values 0..15 in the low ones). Blocks ask for head_dim and strides of
 * multiples of 32. */
enum page_dtype {
    PAGE_F16 = 1,
    PAGE_BF16 = 2,
    PAGE_F32 = 3,
    PAGE_F8E4M3 = 4,
    PAGE_F8E5M2 = 5,
    PAGE_I8 = 6,
    PAGE_Q8_0 = 7,
    PAGE_Q4_0 = 8,
};
enum page_part { PAGE_K = 0, PAGE_V = 1 };

/* A level is a number: the larger, the coarser. 0..5 have the step 0.05 * 2^level of the page's RMS
 * for K and 1.5 times that for V, finer in a model's early layers and coarser in its late ones. */
enum { PAGE_EXACT = -2, PAGE_FAST8 = -1, PAGE_LEVEL_MIN = -2, PAGE_LEVEL_MAX = 5 };

enum page_error {
    PAGE_OK = 0,
    PAGE_ARGUMENT = 1, /* shape, level, range or buffer size that cannot be */
    PAGE_DAMAGED = 2,  /* the bytes are not a page */
    PAGE_VERSION = 3,  /* a page of a format this build does not read */
};

enum {
    PAGE_TOKENS_MAX = 128,
    PAGE_VALUES_MAX = 1 << 18, /* 1 MiB of float32 */
    PAGE_SINK_TOKENS = 4,      /* a session's first tokens, kept exact */
};

struct page_shape {
    uint32_t tokens, heads, head_dim;
    enum page_dtype dtype;
};

/* Value (t, h, d) stands at t * token + h * head + d, counted in values. Two common forms:
 * [tokens, heads, head_dim] is {heads * head_dim, head_dim}; [heads, tokens, head_dim] is
 * {head_dim, tokens * head_dim}. */
struct page_strides {
    size_t token, head;
};

/* Sums over all values of the page: squared difference to what decoding gives back at float32, and
 * squared value. error is 0 for a page stored exactly. Rounding to a dtype comes on top: some 56
 * decibels below energy for bfloat16, 74 for float16. */
struct page_loss {
    double error, energy;
};

struct page_info {
    struct page_shape shape;
    enum page_part part;
    int level; /* what the page really holds: exact where a lossy level could not serve */
    uint32_t sink_tokens;  /* kept exact because the caller asked: the page's first ones */
    uint32_t exact_tokens; /* those, and others that the encoder found far out */
    struct page_loss loss;
    bool estimated;    /* the error is what ageing is expected to have left, not measured */
    size_t sink_bytes; /* what the exact tokens take of the page */
};

/* Tokens in a page of this geometry: the largest power of two, at most 128, at which K's and V's
 * page in float32 are at most 1 MiB each; 0 if no such page exists. head_dim_v is 0 without V. */
uint32_t page_tokens(uint32_t heads, uint32_t head_dim_k, uint32_t head_dim_v);

/* 0 for a dtype that there is not, and for blocks. */
size_t page_value_bytes(enum page_dtype dtype);

/* Of so many values side by side; 0 for a dtype that there is not, and where blocks would be cut.
 */
size_t page_row_bytes(enum page_dtype dtype, size_t values);

/* No encoded page of this shape is larger, at any level. */
size_t page_bound_bytes(const struct page_shape *shape);

/* Scratch to encode, decode and age any page, 64-byte aligned memory of the caller. */
enum { PAGE_WORKSPACE_BYTES = 7 << 19 };

/* What page_decode() uses of it for a page of this shape: all that it needs, for who has looked
 * with page_peek() that the page has this shape. 0 for a shape that no page has. */
size_t page_decode_workspace_bytes(const struct page_shape *shape);

struct page_source {
    struct page_shape shape;
    enum page_part part;
    int level;
    double snr_db; /* if above 0, level is the coarsest that may be taken: the coarsest that has so
                    * many decibels, 10 log10(energy / error), over the page, decoded to its own
                    * dtype; exact if none has */
    uint32_t sink_tokens; /* the first so many tokens are kept exact; at most shape.tokens */
    const void *values;   /* of shape.dtype; any alignment */
    struct page_strides strides;
    uint32_t layer, layers; /* the page is of this layer, counted from 0, of so many; layers 0: not
                             * known. V of early layers is coded finer than that of late ones. */
};

/* Writes a page of at most page_bound_bytes() to out and its length to *written. A page with a NaN
 * or an infinity, or one that a lossy level would not make smaller, or of more than 2^15 channels,
 * is stored exact; info.level says so. out_bytes is at least page_bound_bytes(). info may be NULL.
 * Returns PAGE_OK or PAGE_ARGUMENT. */
int page_encode(const struct page_source *source, void *workspace, void *out, size_t out_bytes,
                size_t *written, struct page_info *info) __attribute__((warn_unused_result));

/* Reads the header. Returns PAGE_OK, PAGE_DAMAGED or PAGE_VERSION. */
int page_peek(const void *page, size_t page_bytes, struct page_info *info)
    __attribute__((warn_unused_result));

/* Where decoded values go: tokens first .. first + tokens - 1 of the page as dtype; the first of
 * them stands at values. */
struct page_target {
    uint32_t first, tokens;
    enum page_dtype dtype;
    void *values;
    struct page_strides strides;
    bool streaming; /* past the caches: for a target larger than they are, not read at once */
};

/* On an error the target's values are undefined. Lossy values beyond the dtype's range become its
 * largest finite value. */
int page_decode(const void *page, size_t page_bytes, const struct page_target *target,
                void *workspace) __attribute__((warn_unused_result));

struct page_bytes {
    const void *page;
    size_t bytes;
};

/* Two pages, K and V of a layer as a rule: gives what page_decode() of each gives, in less time
 * where both have the same shape and kind of level. */
int page_decode_pair(const struct page_bytes pages[2], const struct page_target targets[2],
                     void *workspace) __attribute__((warn_unused_result));

/* Makes a page of a level from 0 on coarser, from its integers alone; `level` is above its own. A
 * page that holds another level (exact, fast8) is PAGE_ARGUMENT: decode and encode it. out_bytes is
 * at least page.bytes; the result is never longer. page and out do not overlap. */
int page_age(struct page_bytes page, int level, void *workspace, void *out, size_t out_bytes,
             size_t *written, struct page_info *info) __attribute__((warn_unused_result));

/* Two pages, K and V of a layer as a rule: gives what page_age() of each gives, in less time where
 * both have the same shape. On an error nothing is said of either. info is two, or NULL. */
int page_age_pair(const struct page_bytes pages[2], int level, void *workspace, void *const outs[2],
                  const size_t out_bytes[2], size_t written[2], struct page_info *info)
    __attribute__((warn_unused_result));

#endif
