/* What the portable kernels share.
 *
 * They are compiled once for each instruction set, so that what a file exports is named after it:
 * the build defines PAGE_TARGET, the name, for all but the compiler's own target.
 */
#ifndef PROTO_PAGE_PORTABLE_H
#define PROTO_PAGE_PORTABLE_H

#include "proto/page/kernels.h"

#ifndef PAGE_TARGET
#define PAGE_TARGET portable
#endif

#define PAGE_JOIN_EXPANDED(name, target) name##target
#define PAGE_JOIN(name, target) PAGE_JOIN_EXPANDED(name, target)
#define PAGE_OF_TARGET(name) PAGE_JOIN(page_##name, PAGE_TARGET)
#define PAGE_QUOTE_EXPANDED(name) #name
#define PAGE_QUOTE(name) PAGE_QUOTE_EXPANDED(name)

/* Compiled into each caller, for the constants that it passes. */
#define SPECIALISED static inline __attribute__((always_inline))

bool PAGE_OF_TARGET(rans_decode8_)(const struct rans_decode_job *jobs, size_t count);
bool PAGE_OF_TARGET(rans_decode16_)(const struct rans_decode_job *jobs, size_t count);
void PAGE_OF_TARGET(rans_encode8_)(const struct rans_encode_job *jobs, size_t count);
void PAGE_OF_TARGET(rans_encode16_)(const struct rans_encode_job *jobs, size_t count);
uint32_t PAGE_OF_TARGET(row_cost_)(const int16_t *values, size_t count, unsigned low_bits,
                                   const uint16_t cost[PAGE_SYMBOLS]);

void PAGE_OF_TARGET(halve8_)(int8_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                             uint32_t *magnitude);
void PAGE_OF_TARGET(halve16_)(int16_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                              uint32_t *magnitude);

void PAGE_OF_TARGET(widen_)(const void *halves, void *floats, size_t count);
void PAGE_OF_TARGET(range16_)(const struct page_source_rows *in, int16_t *low, int16_t *high);
void PAGE_OF_TARGET(range32_)(const float *row, size_t count, float *low, float *high);
void PAGE_OF_TARGET(summarise_)(struct page_summary_job *job);

extern const struct page_exact_kernels PAGE_OF_TARGET(exact_f16_), PAGE_OF_TARGET(exact_bf16_),
    PAGE_OF_TARGET(exact_f32_), PAGE_OF_TARGET(exact_f8e4m3_), PAGE_OF_TARGET(exact_f8e5m2_),
    PAGE_OF_TARGET(exact_i8_), PAGE_OF_TARGET(exact_q8_0_), PAGE_OF_TARGET(exact_q4_0_);

/* A table's entries for dtypes that nobody has written vectors for. */
#define PAGE_EXACT_COMPACT                                                                         \
    [PAGE_F8E4M3] = &PAGE_OF_TARGET(exact_f8e4m3_),                                                \
    [PAGE_F8E5M2] = &PAGE_OF_TARGET(exact_f8e5m2_), [PAGE_I8] = &PAGE_OF_TARGET(exact_i8_),        \
    [PAGE_Q8_0] = &PAGE_OF_TARGET(exact_q8_0_), [PAGE_Q4_0] = &PAGE_OF_TARGET(exact_q4_0_)

#define PAGE_DECLARE(dtype)                                                                        \
    void PAGE_OF_TARGET(sum_##dtype##_)(const struct page_source_rows *in, float *sum);            \
    void PAGE_OF_TARGET(squares_##dtype##_)(const void *values, size_t count, float *lanes);       \
    void PAGE_OF_TARGET(deviation_##dtype##_)(const struct page_source_rows *in,                   \
                                              const float *mean, float(*lanes)[PAGE_LANES]);       \
    uint32_t PAGE_OF_TARGET(quantise8_##dtype##_)(const struct page_source_rows *in,               \
                                                  const float *mean, const float *fine, int8_t *q, \
                                                  struct page_sums *sums);                         \
    uint32_t PAGE_OF_TARGET(quantise16_##dtype##_)(const struct page_source_rows *in,              \
                                                   const float *mean, const float *fine,           \
                                                   int16_t *q, struct page_sums *sums);            \
    void PAGE_OF_TARGET(dequantise8_##dtype##_)(const int8_t *q, const float *mean,                \
                                                const float *steps, float phase,                   \
                                                const struct page_target_rows *out);               \
    void PAGE_OF_TARGET(dequantise16_##dtype##_)(const int16_t *q, const float *mean,              \
                                                 const float *steps, float phase,                  \
                                                 const struct page_target_rows *out);              \
    void PAGE_OF_TARGET(fast8_encode_##dtype##_)(                                                  \
        const struct page_source_rows *in, const struct page_grid *grid, uint8_t *q,               \
        size_t token_bytes, struct page_fast8_sums *sums);                                         \
    void PAGE_OF_TARGET(fast8_decode_##dtype##_)(const uint8_t *q, size_t token_bytes,             \
                                                 const float *low, const float *scale,             \
                                                 const struct page_target_rows *out);

PAGE_DECLARE(f16)
PAGE_DECLARE(bf16)
PAGE_DECLARE(f32)
#undef PAGE_DECLARE

#endif
