/* Tensors, pages and guarded memory for the tests of the page codec. */
#ifndef TESTS_UNIT_TEST_PAGE_SUPPORT_H
#define TESTS_UNIT_TEST_PAGE_SUPPORT_H

#include "proto/page/page.h"

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const enum page_dtype all_dtypes[] = {PAGE_F16, PAGE_BF16, PAGE_F32};
enum { DTYPE_COUNT = 3, LEVEL_COUNT = PAGE_LEVEL_MAX - PAGE_LEVEL_MIN + 1, GUARD = 1 << 16 };

/* Zeroed memory that lives as long as the test's process, and is known to it: not a leak. */
static inline void *keep(size_t bytes) {
    static void *kept[1 << 16];
    static size_t count;
    ck_assert_uint_lt(count, 1 << 16);
    kept[count] = calloc(1, bytes);
    ck_assert_ptr_nonnull(kept[count]);
    return kept[count++];
}

/* Memory that ends (or begins) at a page that cannot be touched. */
struct guarded {
    uint8_t *map, *data;
    size_t map_bytes;
};

static inline struct guarded guarded_new(size_t bytes, int guard_behind) {
    size_t middle = (bytes + GUARD - 1) / GUARD * GUARD;
    struct guarded memory = {.map_bytes = middle + 2 * GUARD};
    memory.map = mmap(NULL, memory.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(memory.map != MAP_FAILED);
    if (middle > 0)
        ck_assert_int_eq(mprotect(memory.map + GUARD, middle, PROT_READ | PROT_WRITE), 0);
    memory.data = memory.map + GUARD + (guard_behind ? middle - bytes : 0);
    return memory;
}

static inline void guarded_free(struct guarded *memory) {
    munmap(memory->map, memory->map_bytes);
}

/* Scratch that ends at a guard too, full of what other calls left. */
static inline void *dirty_workspace(void) {
    static uint8_t *workspace;
    if (workspace == NULL) {
        workspace = guarded_new(PAGE_WORKSPACE_BYTES, 1).data;
        memset(workspace, 0xa5, PAGE_WORKSPACE_BYTES);
    }
    return workspace;
}

/* ---- numbers ---- */

static inline uint64_t random_bits(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline double random_unit(uint64_t *state) {
    return (double)(random_bits(state) >> 11) * 0x1p-53;
}

static inline double random_normal(uint64_t *state) {
    double u = random_unit(state) + 0x1p-54;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * random_unit(state));
}

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Written as the format defines a half, not as the codec computes it. */
static inline double half_value(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                       : exponent == 0 ? ldexp(mantissa, -24)
                                       : ldexp(1024 + mantissa, exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

static inline uint16_t half_nearest(double x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    x = fabs(x);
    if (isnan(x))
        return sign | 0x7e00;
    if (x >= 65520)
        return sign | 0x7c00;
    int exponent = x > 0 ? ilogb(x) : -14;
    exponent = exponent < -14 ? -14 : exponent;
    double ulps = nearbyint(ldexp(x, 10 - exponent)); /* ties to even */
    return (uint16_t)(sign | (unsigned)((exponent + 14) * 1024 + (int)ulps));
}

static inline uint16_t bfloat_nearest(double x) {
    uint32_t bits = bits_of((float)x);
    if (isnan(x))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Values may lie at any address. */
static inline double value_at(enum page_dtype dtype, const void *values, size_t i) {
    if (dtype == PAGE_F32) {
        float value;
        memcpy(&value, (const char *)values + i * sizeof value, sizeof value);
        return (double)value;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)values + i * sizeof bits, sizeof bits);
    return dtype == PAGE_F16 ? half_value(bits) : (double)float_of((uint32_t)bits << 16);
}

static inline void set_value(enum page_dtype dtype, void *values, size_t i, double x) {
    float value = (float)x;
    uint16_t bits = dtype == PAGE_F16 ? half_nearest(x) : bfloat_nearest(x);
    if (dtype == PAGE_F32)
        memcpy((char *)values + i * sizeof value, &value, sizeof value);
    else
        memcpy((char *)values + i * sizeof bits, &bits, sizeof bits);
}

/* ---- tensors and pages ---- */

struct tensor {
    struct page_shape shape;
    struct page_strides strides;
    size_t values, bytes;
    void *data;
};

static inline struct tensor tensor_new(enum page_dtype dtype, uint32_t tokens, uint32_t heads,
                                       uint32_t head_dim) {
    struct tensor tensor = {
        .shape = {.tokens = tokens, .heads = heads, .head_dim = head_dim, .dtype = dtype},
        .strides = {.token = (size_t)heads * head_dim, .head = head_dim},
        .values = (size_t)tokens * heads * head_dim,
    };
    tensor.bytes = page_row_bytes(dtype, tensor.values);
    tensor.data = keep(tensor.bytes);
    return tensor;
}

/* Channels with means and deviations of their own, tokens with scales of their own. */
static inline void tensor_fill(struct tensor *tensor, uint64_t seed) {
    size_t channels = (size_t)tensor->shape.heads * tensor->shape.head_dim;
    for (size_t c = 0; c < channels; c++) {
        uint64_t state = seed * 1000003 + c;
        double mean = 2 * random_normal(&state), deviation = exp(0.5 * random_normal(&state));
        for (size_t t = 0; t < tensor->shape.tokens; t++) {
            double scale = 1 + 0.5 * (double)(t * 7 % 11) / 11;
            set_value(tensor->shape.dtype, tensor->data, t * channels + c,
                      mean + deviation * scale * random_normal(&state));
        }
    }
}

static inline struct tensor tensor_random(enum page_dtype dtype, uint32_t tokens, uint32_t heads,
                                          uint32_t head_dim, uint64_t seed) {
    struct tensor tensor = tensor_new(dtype, tokens, heads, head_dim);
    tensor_fill(&tensor, seed);
    return tensor;
}

static inline double tensor_at(const struct tensor *tensor, size_t i) {
    return value_at(tensor->shape.dtype, tensor->data, i);
}

/* [tokens, heads, head_dim] to [heads, tokens, head_dim]. */
static inline struct tensor tensor_by_heads(const struct tensor *tensor) {
    struct tensor out = tensor_new(tensor->shape.dtype, tensor->shape.tokens, tensor->shape.heads,
                                   tensor->shape.head_dim);
    out.strides.token = out.shape.head_dim;
    out.strides.head = (size_t)out.shape.tokens * out.shape.head_dim;
    size_t row = page_row_bytes(out.shape.dtype, out.shape.head_dim);
    for (size_t t = 0; t < out.shape.tokens; t++)
        for (size_t h = 0; h < out.shape.heads; h++)
            memcpy((uint8_t *)out.data + (h * out.shape.tokens + t) * row,
                   (uint8_t *)tensor->data + (t * out.shape.heads + h) * row, row);
    return out;
}

struct coded {
    uint8_t *bytes;
    size_t length, bound;
    struct page_info info;
};

/* Encodes into exactly page_bound_bytes(), with untouchable memory behind. */
static inline struct coded encode_part(const struct tensor *tensor, enum page_part part, int level,
                                       uint32_t sinks) {
    struct coded page = {.bound = page_bound_bytes(&tensor->shape)};
    page.bytes = guarded_new(page.bound, 1).data;
    struct page_source source = {.shape = tensor->shape,
                                 .part = part,
                                 .level = level,
                                 .sink_tokens = sinks,
                                 .values = tensor->data,
                                 .strides = tensor->strides};
    ck_assert_int_eq(
        page_encode(&source, dirty_workspace(), page.bytes, page.bound, &page.length, &page.info),
        PAGE_OK);
    ck_assert_uint_le(page.length, page.bound);
    return page;
}

static inline struct coded encode(const struct tensor *tensor, int level, uint32_t sinks) {
    return encode_part(tensor, PAGE_K, level, sinks);
}

/* Decodes from memory that ends with the page into memory that ends with the values. */
static inline int decode_range(const uint8_t *bytes, size_t length, uint32_t first,
                               struct tensor *out) {
    struct guarded page = guarded_new(length, 1), values = guarded_new(out->bytes, 1);
    memcpy(page.data, bytes, length);
    struct page_target target = {.first = first,
                                 .tokens = out->shape.tokens,
                                 .dtype = out->shape.dtype,
                                 .values = values.data,
                                 .strides = out->strides};
    int error = page_decode(page.data, length, &target, dirty_workspace());
    memcpy(out->data, values.data, out->bytes);
    guarded_free(&page);
    guarded_free(&values);
    return error;
}

static inline struct tensor decode_as(const struct coded *page, enum page_dtype dtype,
                                      uint32_t first, uint32_t tokens) {
    struct tensor out =
        tensor_new(dtype, tokens, page->info.shape.heads, page->info.shape.head_dim);
    ck_assert_int_eq(decode_range(page->bytes, page->length, first, &out), PAGE_OK);
    return out;
}

static inline struct tensor decode(const struct coded *page) {
    return decode_as(page, page->info.shape.dtype, 0, page->info.shape.tokens);
}

static inline struct page_loss measure_loss(const struct tensor *in, const struct tensor *out) {
    struct page_loss loss = {0};
    for (size_t i = 0; i < in->values; i++) {
        double x = tensor_at(in, i), y = tensor_at(out, i);
        loss.error += (x - y) * (x - y);
        loss.energy += x * x;
    }
    return loss;
}

static inline void assert_near(double got, double expected, double tolerance) {
    ck_assert_msg(fabs(got - expected) <= tolerance * fabs(expected) + 1e-30,
                  "%.9g instead of %.9g", got, expected);
}

/* What a page says of its loss is what it decodes to in float32 has lost. Of each value that is
 * rounded to 1/256 step: over many, next to nothing. */
static inline void assert_loss_is_told(const struct tensor *in, const struct coded *page) {
    struct tensor out = decode_as(page, PAGE_F32, 0, in->shape.tokens);
    struct page_loss loss = measure_loss(in, &out);
    assert_near(page->info.loss.energy, loss.energy, 1e-5);
    assert_near(page->info.loss.error, loss.error, 0.002 + 0.2 / sqrt((double)in->values));
}

static inline int run_suite(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
