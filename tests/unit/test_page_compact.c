/* Caches that are small already: 8-bit floats, integers and GGML's blocks. */
#include "tests/unit/test_page_support.h"

static const enum page_dtype compact[] = {PAGE_F8E4M3, PAGE_F8E5M2, PAGE_I8, PAGE_Q8_0, PAGE_Q4_0};
enum { COMPACT_COUNT = 5, BLOCK = 32 };

static struct tensor random_bytes(enum page_dtype dtype, uint32_t tokens, uint32_t heads,
                                  uint32_t head_dim, uint64_t seed) {
    struct tensor tensor = tensor_new(dtype, tokens, heads, head_dim);
    for (size_t i = 0; i < tensor.bytes; i++)
        ((uint8_t *)tensor.data)[i] = (uint8_t)random_bits(&seed);
    return tensor;
}

/* Written as the formats define their values, not as the codec computes them. */
static double small_value(uint8_t bits, int mantissa_bits, int bias) {
    int mantissa = bits & ((1 << mantissa_bits) - 1), exponent = (bits & 0x7f) >> mantissa_bits;
    double magnitude =
        exponent == 0 ? ldexp(mantissa, 1 - bias - mantissa_bits)
                      : ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
    return bits & 0x80 ? -magnitude : magnitude;
}

static double e4m3_value(uint8_t bits) {
    return (bits & 0x7f) == 0x7f ? NAN : small_value(bits, 3, 7);
}

static double e5m2_value(uint8_t bits) {
    if ((bits & 0x7f) < 0x7c)
        return small_value(bits, 2, 15);
    return (bits & 3) != 0 ? NAN : bits & 0x80 ? -INFINITY : INFINITY;
}

static double compact_value(const struct tensor *tensor, size_t i) {
    const uint8_t *bytes = tensor->data;
    bool is_q8 = tensor->shape.dtype == PAGE_Q8_0;
    switch (tensor->shape.dtype) {
    case PAGE_F8E4M3:
        return e4m3_value(bytes[i]);
    case PAGE_F8E5M2:
        return e5m2_value(bytes[i]);
    case PAGE_I8:
        return (int8_t)bytes[i];
    default:
        break;
    }
    const uint8_t *block = bytes + i / BLOCK * (is_q8 ? 34 : 18), *q = block + 2;
    size_t at = i % BLOCK;
    double d = half_value((uint16_t)(block[0] | block[1] << 8));
    return d * (is_q8 ? (int8_t)q[at] : (q[at % 16] >> (at < 16 ? 0 : 4) & 15) - 8);
}

/* Bytes as an engine makes them of normal values, channels with means of their own. */
static struct tensor engine_cache(enum page_dtype dtype, uint32_t tokens, uint32_t heads,
                                  uint32_t head_dim, uint64_t seed) {
    struct tensor tensor = tensor_new(dtype, tokens, heads, head_dim);
    size_t channels = (size_t)heads * head_dim;
    uint8_t *bytes = tensor.data;
    for (size_t i = 0; i < tensor.values; i++) {
        double x = (double)(i % channels % 7) - 3 + random_normal(&seed);
        uint8_t *block = bytes + i / BLOCK * (dtype == PAGE_Q8_0 ? 34 : 18);
        if (dtype <= PAGE_F8E5M2) /* the nearest of all that there are */
            for (int b = 0, best = 0; b < 0x7c; b++) {
                double value =
                    dtype == PAGE_F8E4M3 ? e4m3_value((uint8_t)b) : e5m2_value((uint8_t)b);
                double least =
                    dtype == PAGE_F8E4M3 ? e4m3_value((uint8_t)best) : e5m2_value((uint8_t)best);
                best = fabs(value - fabs(x)) < fabs(least - fabs(x)) ? b : best;
                bytes[i] = (uint8_t)(best | (x < 0 ? 0x80 : 0));
            }
        else if (dtype == PAGE_I8)
            bytes[i] = (uint8_t)(int8_t)nearbyint(16 * x);
        else {
            block[0] = 0, block[1] = 0x28 + (uint8_t)(i / BLOCK % 2); /* 2^-5 and some more */
            if (dtype == PAGE_Q8_0)
                block[2 + i % BLOCK] = (uint8_t)(int8_t)nearbyint(fmin(fmax(16 * x, -127), 127));
            else
                block[2 + i % 16] |=
                    (uint8_t)((int)fmin(fmax(nearbyint(x) + 8, 0), 15) << (i % BLOCK < 16 ? 0 : 4));
        }
    }
    return tensor;
}

START_TEST(any_bytes_come_back) {
    static const uint32_t tokens[] = {1, 2, 5, 64, 127, 128};
    for (uint64_t i = 0; i < 6; i++)
        for (uint32_t sinks = 0; sinks <= 1; sinks++) {
            struct tensor in = random_bytes(compact[_i], tokens[i], 3, 96, i);
            struct coded page = encode(&in, PAGE_EXACT, sinks);
            struct tensor out = decode(&page);
            ck_assert_mem_eq(in.data, out.data, in.bytes);
            ck_assert_double_eq(page.info.loss.error, 0);
        }
}
END_TEST

START_TEST(a_cache_comes_back_and_is_smaller_wherever_its_heads_stand) {
    struct tensor in = engine_cache(compact[_i], 128, 4, 96, 1), apart = tensor_by_heads(&in);
    struct coded page = encode(&in, PAGE_EXACT, 4), same = encode(&apart, PAGE_EXACT, 4);
    ck_assert_uint_lt(page.length, in.bytes * 97 / 100);
    ck_assert_uint_eq(page.length, same.length);
    ck_assert_mem_eq(page.bytes, same.bytes, page.length);
    struct tensor out = decode(&page);
    ck_assert_mem_eq(in.data, out.data, in.bytes);
    struct tensor by_heads = tensor_new(in.shape.dtype, 128, 4, 96);
    by_heads.strides = apart.strides;
    ck_assert_int_eq(decode_range(page.bytes, page.length, 0, &by_heads), PAGE_OK);
    ck_assert_mem_eq(apart.data, by_heads.data, in.bytes);
    struct tensor some = decode_as(&page, in.shape.dtype, 3, 60);
    ck_assert_mem_eq((uint8_t *)in.data + 3 * (in.bytes / 128), some.data, some.bytes);
}
END_TEST

START_TEST(an_exact_page_decodes_to_numbers_as_its_dtype_defines_them) {
    struct tensor in = random_bytes(compact[_i], 64, 2, 64, 9);
    for (uint32_t sinks = 0; sinks <= 4; sinks += 4) {
        struct coded page = encode(&in, PAGE_EXACT, sinks);
        struct tensor out = decode_as(&page, PAGE_F32, 0, 64);
        for (size_t i = 0; i < in.values; i++) {
            double expected = compact_value(&in, i), got = tensor_at(&out, i);
            ck_assert_msg(got == expected || (isnan(got) && isnan(expected)), "%g for %g", got,
                          expected);
        }
    }
}
END_TEST

START_TEST(a_level_loses_what_it_says_in_numbers) {
    struct tensor in = engine_cache(compact[_i % COMPACT_COUNT], 128, 2, 64, 3);
    struct coded page = encode(&in, _i / COMPACT_COUNT, 4);
    struct tensor out = decode_as(&page, PAGE_F32, 0, 128);
    double error = 0, energy = 0;
    for (size_t i = 0; i < in.values; i++) {
        double x = compact_value(&in, i), y = tensor_at(&out, i);
        error += (x - y) * (x - y);
        energy += x * x;
    }
    assert_near(page.info.loss.error, error, 5e-3);
    assert_near(page.info.loss.energy, energy, 1e-4);
    if (_i / COMPACT_COUNT >= 3 && in.shape.dtype != PAGE_Q4_0) /* that is as small as exact */
        ck_assert_int_eq(page.info.level, _i / COMPACT_COUNT);
}
END_TEST

/* Of two neighbours of its own dtype, a lossy value is given as the nearer one. */
START_TEST(a_level_decodes_to_its_own_dtype_as_near_as_that_goes) {
    struct tensor in = engine_cache(compact[_i], 128, 2, 64, 4);
    struct coded page = encode(&in, 3, 0);
    struct tensor numbers = decode_as(&page, PAGE_F32, 0, 128), own = decode(&page);
    for (size_t i = 0; i < in.values; i++) {
        double x = tensor_at(&numbers, i), y = compact_value(&own, i), most = 0;
        for (size_t j = i / BLOCK * BLOCK; j < i / BLOCK * BLOCK + BLOCK; j++)
            most = fmax(most, fabs(tensor_at(&numbers, j)));
        double ulp = in.shape.dtype == PAGE_F8E4M3   ? fmax(fabs(x) / 16, 0x1p-10)
                     : in.shape.dtype == PAGE_F8E5M2 ? fmax(fabs(x) / 8, 0x1p-17)
                     : in.shape.dtype == PAGE_I8     ? 0.5
                     : in.shape.dtype == PAGE_Q8_0   ? most / 127 * 0.6
                                                     : most / 8 * 1.01;
        ck_assert_msg(fabs(x - y) <= ulp, "%g for %g", y, x);
    }
}
END_TEST

START_TEST(fast8_would_gain_nothing_and_is_exact) {
    struct tensor in = engine_cache(compact[_i], 128, 2, 64, 5);
    ck_assert_int_eq(encode(&in, PAGE_FAST8, 0).info.level, PAGE_EXACT);
}
END_TEST

START_TEST(what_would_cut_a_block_is_refused) {
    struct page_shape shape = {16, 1, 40, compact[_i]};
    bool blocks = compact[_i] == PAGE_Q8_0 || compact[_i] == PAGE_Q4_0;
    static uint8_t values[16 * 64 * 2], out[1 << 16];
    size_t written;
    struct page_source source = {
        .shape = shape, .level = PAGE_EXACT, .values = values, .strides = {40, 40}};
    ck_assert_int_eq(page_encode(&source, dirty_workspace(), out, sizeof out, &written, NULL),
                     blocks ? PAGE_ARGUMENT : PAGE_OK);
    source.shape.head_dim = 32;
    ck_assert_int_eq(page_encode(&source, dirty_workspace(), out, sizeof out, &written, NULL),
                     blocks ? PAGE_ARGUMENT : PAGE_OK);
}
END_TEST

START_TEST(a_page_does_not_decode_to_another_compact_dtype) {
    struct tensor in = engine_cache(compact[_i], 16, 1, 64, 6);
    struct coded page = encode(&in, PAGE_EXACT, 0);
    struct tensor out = tensor_new(compact[(_i + 1) % COMPACT_COUNT], 16, 1, 64);
    ck_assert_int_eq(decode_range(page.bytes, page.length, 0, &out), PAGE_ARGUMENT);
}
END_TEST

START_TEST(a_damaged_page_is_an_error_or_a_page) {
    uint64_t seed = 7;
    for (int level = PAGE_EXACT; level <= 3; level += 5) {
        struct tensor in = engine_cache(compact[_i], 40, 2, 64, 8);
        struct coded page = encode(&in, level, 2);
        struct tensor own = tensor_new(compact[_i], 40, 2, 64);
        struct tensor numbers = tensor_new(PAGE_F16, 40, 2, 64);
        for (int i = 0; i < 2000; i++) {
            size_t at = random_bits(&seed) % (i % 2 ? 60 : page.length);
            uint8_t was = page.bytes[at];
            page.bytes[at] ^= (uint8_t)(1 << random_bits(&seed) % 8);
            (void)decode_range(page.bytes, page.length, 0, i % 3 ? &own : &numbers);
            page.bytes[at] = was;
        }
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("page, compact dtypes");
    TCase *tests = tcase_create("compact");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, any_bytes_come_back, 0, COMPACT_COUNT);
    tcase_add_loop_test(tests, a_cache_comes_back_and_is_smaller_wherever_its_heads_stand, 0,
                        COMPACT_COUNT);
    tcase_add_loop_test(tests, an_exact_page_decodes_to_numbers_as_its_dtype_defines_them, 0,
                        COMPACT_COUNT);
    tcase_add_loop_test(tests, a_level_loses_what_it_says_in_numbers, 0, 6 * COMPACT_COUNT);
    tcase_add_loop_test(tests, a_level_decodes_to_its_own_dtype_as_near_as_that_goes, 0,
                        COMPACT_COUNT);
    tcase_add_loop_test(tests, fast8_would_gain_nothing_and_is_exact, 0, COMPACT_COUNT);
    tcase_add_loop_test(tests, what_would_cut_a_block_is_refused, 0, COMPACT_COUNT);
    tcase_add_loop_test(tests, a_page_does_not_decode_to_another_compact_dtype, 0, COMPACT_COUNT);
    tcase_add_loop_test(tests, a_damaged_page_is_an_error_or_a_page, 0, COMPACT_COUNT);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
