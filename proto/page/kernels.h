/* The seam for instruction sets: the codec's inner loops, one table of functions each.
 *
 * Every table gives the same bits. Work goes by tiles of at most PAGE_BLOCK channels and 128
 * tokens: quantised values stand channel-major, rows of RANS_ROW_VALUES values, 64-byte aligned;
 * what stands behind a row's last value is undefined and may be written. Floats are added up in the
 * order that FORMAT.md gives: lane i of 16 takes the channels c = i mod 16; callers fold the lanes
 * with page_fold(). Nothing here checks a bound: callers have.
 */
#ifndef PROTO_PAGE_KERNELS_H
#define PROTO_PAGE_KERNELS_H

#include "proto/page/page.h"
#include "proto/page/rans.h"
#include "proto/page/summary.h"

#include <stddef.h>
#include <stdint.h>

enum {
    PAGE_DTYPES = 4, /* those of numbers; arrays by dtype leave entry 0 empty */
    PAGE_ALL_DTYPES = 9,
    PAGE_LANES = 16,
    PAGE_BLOCK = 64, /* channels that a tile has at most */
};

/* The coded tokens of a tile: token t's values of its channels stand side by side at rows[t] +
 * offset_bytes, at any alignment. */
struct page_source_rows {
    const void *const *rows;
    size_t offset_bytes, tokens, channels;
};

/* Tokens first .. last - 1 only are written. `streaming`: past the caches, where that can be had;
 * callers end that with a store fence. */
struct page_target_rows {
    void *const *rows;
    size_t offset_bytes, first, last, channels;
    bool streaming;
};

/* A tile of int8 on its way to values: what dequantise8 takes. */
struct page_tile {
    const int8_t *q;
    const float *mean, *steps;
    float phase;
    struct page_target_rows out;
};

/* fast8's numbers of each channel: 256 / scale, and 256 * base - 128. */
struct page_grid {
    const float *fine, *offset;
};

/* What fast8's encoder adds up over a tile, from zero. */
struct page_fast8_sums {
    float energy[PAGE_BLOCK]; /* squares of each channel's values, tokens in order */
    int32_t residual[PAGE_BLOCK];
};

/* What a kernel that quantises a tile adds up. */
struct page_sums {
    uint32_t (*residual)[PAGE_LANES]; /* of each token: squares, added to any of its lanes */
    uint32_t magnitude[PAGE_BLOCK];   /* sum of |q| of each channel, from zero */
};

/* Rows of a stream to decode: row i's values go to values + i * RANS_ROW_VALUES. With more than one
 * row, or with int8, count is at most RANS_ROW_VALUES; one row of int16 is of any length. A row has
 * room for count rounded up to a multiple of 64. */
struct rans_decode_job {
    struct rans_decoder *decoder;
    const struct rans_class *classes; /* [rows] */
    size_t rows, count;
    void *values;
};

/* The same for encoding, last row first. */
struct rans_encode_job {
    struct rans_encoder *encoder;
    const struct rans_class *classes;
    size_t rows, count;
    const void *values;
};

/* A head of a summary: from its means, block after block. */
struct page_summary_job {
    const float *means;
    size_t apart, channels; /* from one block's to the next's; of the head */
    const struct summary_layout *layout;
    float scales[2]; /* of centres and steps: written, as are the next three */
    int8_t *centres;
    uint8_t *steps, *units;
    float *centre, *step, *inverse; /* scratch: a value a channel, */
    uint8_t *row;                   /* a byte a channel, zeros up to a multiple of four, */
    uint8_t *codes;                 /* and all vectors, zeroed */
};

/* A channel's exponents: for what the encoder of exact pages decides. */
struct page_survey {
    uint16_t sum[PAGE_BLOCK];
    uint8_t largest[PAGE_BLOCK], smallest[PAGE_BLOCK];
    uint8_t negatives[PAGE_BLOCK]; /* how many values have their sign bit set */
};

/* How a channel's values are written: v = base - ((2 * exponent + sign) ^ flip), flip being 0 or 1.
 */
struct page_codes {
    _Alignas(64) int16_t base[PAGE_BLOCK];
    uint16_t flip[PAGE_BLOCK];
};

/* The exact coding of a dtype. Dtypes of less than 8 bits of exponent need no int16.
 *
 * `rest` are a tile's mantissas, token after token: the low bytes of its channels (float16: a byte
 * each, float32: two), then the bit string of what is left, in whole bytes. Nothing behind the last
 * token's is written, but 64 bytes may be read there. */
struct page_exact_kernels {
    /* Overwrites all of *survey. */
    void (*survey)(const struct page_source_rows *in, struct page_survey *survey);

    /* v is channel-major like q. Every v is known to fit. */
    void (*split8)(const struct page_source_rows *in, const struct page_codes *codes, int8_t *v,
                   uint8_t *rest);
    void (*split16)(const struct page_source_rows *in, const struct page_codes *codes, int16_t *v,
                    uint8_t *rest);

    /* 2 * exponent + sign = (base - v) ^ flip, kept to the dtype's bits whatever v is. */
    void (*join8)(const int8_t *v, const struct page_codes *codes, const uint8_t *rest,
                  const struct page_target_rows *out);
    void (*join16)(const int16_t *v, const struct page_codes *codes, const uint8_t *rest,
                   const struct page_target_rows *out);
};

struct page_kernels {
    const char *name;

    /* sum[c] += each token's value, tokens in order; any number of channels. */
    void (*sum[PAGE_DTYPES])(const struct page_source_rows *in, float *sum);

    /* float16 to float, bit for bit as IEEE 754 converts, NaNs made quiet; at any alignment. */
    void (*widen)(const void *halves, void *floats, size_t count);

    /* Squares of a token's values onto its lanes; any number of channels. */
    void (*squares[PAGE_DTYPES])(const void *values, size_t count, float *lanes);

    /* Squares of x - mean[c] onto each token's lanes. */
    void (*deviation[PAGE_DTYPES])(const struct page_source_rows *in, const float *mean,
                                   float (*lanes)[PAGE_LANES]);

    /* z = (x - mean[c]) * fine[t], 256 to a step, rounded to nearest even; the difference and the
     * product each rounded on its own. q = (z + 128) >> 8, and what it leaves, z - 256 * q or -127
     * if that is more, is squared. Returns 0 if every q fits, that is to say |q| <= 126 for int8;
     * if not, q and the sums are undefined. */
    uint32_t (*quantise8[PAGE_DTYPES])(const struct page_source_rows *in, const float *mean,
                                       const float *fine, int8_t *q, struct page_sums *sums);
    uint32_t (*quantise16[PAGE_DTYPES])(const struct page_source_rows *in, const float *mean,
                                        const float *fine, int16_t *q, struct page_sums *sums);

    /* ((q + phase) * steps[t]) + mean[c], rounded to the dtype and clamped to its largest finite
     * value. The product of an int8 q is exact, |phase| being a multiple of 1/128 up to 1 and steps
     * having eight significant bits; so there it may be fused with the addition. */
    void (*dequantise8[PAGE_DTYPES])(const int8_t *q, const float *mean, const float *steps,
                                     float phase, const struct page_target_rows *out);
    void (*dequantise16[PAGE_DTYPES])(const int16_t *q, const float *mean, const float *steps,
                                      float phase, const struct page_target_rows *out);

    /* q = (q + up) >> shift in place, without overflow (0 <= up < 1 << shift <= 32), and
     * magnitude[c] = sum of |q|. */
    void (*halve8)(int8_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                   uint32_t *magnitude);
    void (*halve16)(int16_t *q, size_t channels, size_t tokens, unsigned shift, int up,
                    uint32_t *magnitude);

    const struct page_exact_kernels *exact[PAGE_ALL_DTYPES];

    /* Lowers low and raises high to each channel's values, as integers that order as the 16-bit
     * floats do; any number of channels. */
    void (*range16)(const struct page_source_rows *in, int16_t *low, int16_t *high);
    void (*range32)(const float *row, size_t count, float *low, float *high);

    void (*summarise)(struct page_summary_job *job);

    /* z = x * fine[c] - offset[c], the product and the difference each rounded on its own, rounded
     * to nearest even and kept to 0..65535. q = z >> 8, token t's at q + t * token_bytes, and what
     * it leaves, (z & 255) - 128 or -127 if that is more, is squared. The values are finite. */
    void (*fast8_encode[PAGE_DTYPES])(const struct page_source_rows *in,
                                      const struct page_grid *grid, uint8_t *q, size_t token_bytes,
                                      struct page_fast8_sums *sums);
    /* q * scale + low, rounded to the dtype and clamped, for any number of channels. The product is
     * exact, so that it may be fused with the addition. */
    void (*fast8_decode[PAGE_DTYPES])(const uint8_t *q, size_t token_bytes, const float *low,
                                      const float *scale, const struct page_target_rows *out);

    /* One or two jobs of different streams; two of the same rows and count may be interleaved.
     * False if a stream ends before its rows do, or has not the planes for them. */
    bool (*rans_decode8)(const struct rans_decode_job *jobs, size_t count);
    bool (*rans_decode16)(const struct rans_decode_job *jobs, size_t count);
    /* rans_decode8 of jobs of PAGE_BLOCK rows, and dequantise8 of as many tiles of PAGE_BLOCK
     * channels, which stand elsewhere; in less time than one after the other. NULL where a table
     * has none. */
    bool (*overlap[PAGE_DTYPES])(const struct rans_decode_job *jobs, const struct page_tile *tiles,
                                 size_t count);
    void (*rans_encode8)(const struct rans_encode_job *jobs, size_t count);
    void (*rans_encode16)(const struct rans_encode_job *jobs, size_t count);

    /* Sum of cost[symbol], symbol = (v >> low_bits) + 16 where that is 1..31, else 0. */
    uint32_t (*row_cost)(const int16_t *values, size_t count, unsigned low_bits,
                         const uint16_t cost[PAGE_SYMBOLS]);
};

/* The portable C, for the compiler's own target and for x86-64 processors with AVX2 and BMI2. */
extern const struct page_kernels page_kernels_portable, page_kernels_x86_64_v3;
/* Where the build has them. */
extern const struct page_kernels page_kernels_avx2, page_kernels_avx512;

#if __STDC_HOSTED__
/* The best table that this processor and its system run, or the best that is no better than the one
 * that the environment variable KVQ_CPU names: portable, x86_64_v3, avx2, avx512. Chosen once. */
const struct page_kernels *page_kernels(void);
#else
/* Without an operating system (-ffreestanding) there is nothing to choose, and no dispatch.c. */
static inline const struct page_kernels *page_kernels(void) {
    return &page_kernels_portable;
}
#endif

/* NULL if the build has no table of this name, or the processor does not run it. */
const struct page_kernels *page_kernels_by_name(const char *name);

/* For tests and benches: page_kernels() is this one from now on. */
void page_kernels_use(const struct page_kernels *kernels);

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
