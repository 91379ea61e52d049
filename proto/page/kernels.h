/* The seam for instruction sets: the codec's inner loops, one table of functions each.
 *
 * Every table gives the same bits. Where floats are added up, lane i of 16 takes the channels
 * c = i mod 16 in order; callers fold the lanes with page_fold(). Nothing here checks a bound:
 * callers have.
 */
#ifndef PROTO_PAGE_KERNELS_H
#define PROTO_PAGE_KERNELS_H

#include "proto/page/page.h"
#include "proto/page/rans.h"

#include <stddef.h>
#include <stdint.h>

enum {
    PAGE_DTYPES = 4, /* arrays by dtype leave entry 0 empty */
    PAGE_LANES = 16,
    PAGE_BLOCK = 512, /* channels a call takes at most where it adds to lanes */
};

/* A token's step. */
struct page_step {
    float step, inverse;
};

/* fast8's numbers of each channel. */
struct page_grid {
    const float *base, *scale, *inverse;
};

/* Partial sums of one token. */
struct page_lanes {
    float error[PAGE_LANES], energy[PAGE_LANES];
};

struct page_kernels {
    const char *name;

    /* count values to float, exactly. */
    void (*load[PAGE_DTYPES])(const void *values, size_t count, float *row);

    void (*add)(const float *row, size_t count, float *sum);

    /* Squares of row, and of row - mean, onto lanes. */
    void (*square)(const float *row, size_t count, float *lanes);
    void (*deviation)(const float *row, const float *mean, size_t count, float *lanes);

    /* q = round((row - mean) * inverse); adds error (of q * step + mean, in the dtype) and energy
     * to the lanes. Returns 0 if every q fits. */
    uint32_t (*quantise[PAGE_DTYPES])(const float *row, const float *mean, struct page_step step,
                                      size_t count, int16_t *q, struct page_lanes *lanes);

    /* (q + phase) * step + mean, rounded to the dtype. */
    void (*dequantise[PAGE_DTYPES])(const int16_t *q, const float *mean, float step, float phase,
                                    size_t count, void *values);

    /* out[c * out_stride + r] = in[r * in_stride + c] */
    void (*transpose)(const int16_t *in, size_t in_stride, size_t rows, size_t columns,
                      int16_t *out, size_t out_stride);

    /* Lowers low and raises high to values, as integers that order as the 16-bit floats do. */
    void (*range16)(const void *values, size_t count, int16_t *low, int16_t *high);
    void (*range32)(const float *row, size_t count, float *low, float *high);

    /* The values are finite, and none is below its channel's base. */
    void (*fast8_encode[PAGE_DTYPES])(const void *values, const struct page_grid *grid,
                                      size_t count, uint8_t *q, struct page_lanes *lanes);
    void (*fast8_decode[PAGE_DTYPES])(const uint8_t *q, const float *base, const float *scale,
                                      size_t count, void *values);

    /* One row; false if the stream ends before it. The planes are known to be there. */
    bool (*rans_decode)(struct rans_decoder *decoder, const struct rans_decode_model *model,
                        unsigned low_bits, int16_t *values, size_t count);
    void (*rans_encode)(struct rans_encoder *encoder, const struct rans_encode_model *model,
                        unsigned low_bits, const int16_t *values, size_t count);
};

/* The same C, for the compiler's own target and for x86-64 processors with AVX2 and BMI2. */
extern const struct page_kernels page_kernels_portable, page_kernels_x86_64_v3;

/* The best table that this processor and its system run; the portable one if the environment
 * variable KVQ_CPU is "portable". Chosen once. */
const struct page_kernels *page_kernels(void);

/* ((lane + lane 8 on) + 4 on) + 2 on + 1 on. */
static inline float page_fold(const float lanes[PAGE_LANES]) {
    float eight[8], four[4];
    for (int i = 0; i < 8; i++)
        eight[i] = lanes[i] + lanes[i + 8];
    for (int i = 0; i < 4; i++)
        four[i] = eight[i] + eight[i + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

#endif
