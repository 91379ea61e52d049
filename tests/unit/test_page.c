/* The page codec as its callers see it: what comes back, in every level, dtype, shape and layout.
 */
#include "tests/unit/test_page_support.h"

static int level_of(int i) {
    return PAGE_LEVEL_MIN + i % LEVEL_COUNT;
}

static enum page_dtype dtype_of(int i) {
    return all_dtypes[i / LEVEL_COUNT];
}

/* Signal to noise that a level may not fall below on these tensors, in dB. */
static double least_snr(int level) {
    return level == PAGE_FAST8 ? 38 : 38 - 6.03 * level;
}

START_TEST(values_come_back_within_the_levels_precision) {
    struct tensor in = tensor_random(dtype_of(_i), 128, 3, 64, 1);
    struct coded page = encode(&in, level_of(_i), 0);
    struct tensor out = decode(&page);
    ck_assert_int_eq(page.info.level, level_of(_i));
    if (level_of(_i) == PAGE_EXACT) {
        ck_assert_mem_eq(in.data, out.data, in.bytes);
    } else {
        struct page_loss loss = measure_loss(&in, &out);
        ck_assert_double_gt(10 * log10(loss.energy / loss.error), least_snr(level_of(_i)));
    }
}
END_TEST

START_TEST(the_reported_loss_is_the_measured_one) {
    struct tensor in = tensor_random(dtype_of(_i), 100, 2, 72, 2);
    struct coded page = encode(&in, level_of(_i), 3);
    assert_loss_is_told(&in, &page);
}
END_TEST

START_TEST(peek_tells_what_encode_told) {
    struct tensor in = tensor_random(dtype_of(_i), 33, 2, 40, 3);
    struct coded page = encode_part(&in, PAGE_V, level_of(_i), 4);
    struct page_info info;
    ck_assert_int_eq(page_peek(page.bytes, page.length, &info), PAGE_OK);
    ck_assert_mem_eq(&info.shape, &in.shape, sizeof info.shape);
    ck_assert_int_eq(info.part, PAGE_V);
    ck_assert_int_eq(info.level, page.info.level);
    ck_assert_uint_eq(info.sink_tokens, 4);
    ck_assert_uint_eq(info.sink_bytes, 4 * 80 * page_value_bytes(in.shape.dtype));
    ck_assert_double_eq(info.loss.error, page.info.loss.error);
    ck_assert_double_eq(info.loss.energy, page.info.loss.energy);
}
END_TEST

START_TEST(both_layouts_give_the_same_bytes_and_values) {
    struct tensor by_tokens = tensor_random(dtype_of(_i), 77, 5, 40, 4);
    struct tensor by_heads = tensor_by_heads(&by_tokens);
    struct coded page = encode(&by_tokens, level_of(_i), 4);
    struct coded other = encode(&by_heads, level_of(_i), 4);
    ck_assert_uint_eq(page.length, other.length);
    ck_assert_mem_eq(page.bytes, other.bytes, page.length);
    struct tensor plain = decode(&page), spread = tensor_by_heads(&plain), got = spread;
    got.data = keep(got.bytes);
    ck_assert_int_eq(decode_range(page.bytes, page.length, 0, &got), PAGE_OK);
    ck_assert_mem_eq(got.data, spread.data, got.bytes);
}
END_TEST

static const struct page_shape shapes[] = {
    {1, 1, 1, 0},       {1, 1, 64, 0},      {2, 1, 64, 0},    {63, 1, 64, 0},  {64, 3, 40, 0},
    {65, 2, 80, 0},     {127, 2, 96, 0},    {128, 1, 1, 0},   {128, 1, 7, 0},  {128, 9, 1, 0},
    {128, 1, 256, 0},   {128, 8, 256, 0},   {124, 3, 64, 0},  {3, 1, 1000, 0}, {128, 2, 1024, 0},
    {1, 1, 1 << 18, 0}, {2, 1 << 17, 1, 0}, {8, 32, 1024, 0},
};
enum { SHAPE_COUNT = sizeof shapes / sizeof *shapes };

START_TEST(every_shape_comes_back) {
    const struct page_shape *shape = &shapes[_i];
    for (int i = 0; i < DTYPE_COUNT * LEVEL_COUNT; i++) {
        struct tensor in =
            tensor_random(dtype_of(i), shape->tokens, shape->heads, shape->head_dim, 5);
        struct coded page = encode(&in, level_of(i), shape->tokens > 4 ? 4 : 0);
        struct tensor out = decode(&page);
        assert_loss_is_told(&in, &page);
        if (page.info.level == PAGE_EXACT)
            ck_assert_mem_eq(in.data, out.data, in.bytes);
    }
}
END_TEST

START_TEST(a_range_of_tokens_decodes_as_in_the_whole) {
    struct tensor in = tensor_random(dtype_of(_i), 29, 2, 24, 6);
    struct coded page = encode(&in, level_of(_i), 4);
    struct tensor whole = decode(&page);
    size_t row = whole.bytes / in.shape.tokens;
    for (uint32_t first = 0; first <= 29; first++)
        for (uint32_t tokens = 1; first + tokens <= 29; tokens++) {
            struct tensor some = decode_as(&page, in.shape.dtype, first, tokens);
            ck_assert_mem_eq(some.data, (uint8_t *)whole.data + first * row, some.bytes);
        }
}
END_TEST

START_TEST(no_tokens_are_a_range_too) {
    struct tensor in = tensor_random(PAGE_F16, 8, 1, 8, 6);
    struct coded page = encode(&in, level_of(_i), 4);
    for (uint32_t first = 0; first <= 8; first++) {
        struct page_target target = {.first = first, .dtype = PAGE_F16};
        ck_assert_int_eq(page_decode(page.bytes, page.length, &target, dirty_workspace()), PAGE_OK);
    }
}
END_TEST

START_TEST(sinks_are_exact) {
    struct tensor in = tensor_random(dtype_of(_i), 64, 2, 64, 7);
    for (uint32_t sinks = 0; sinks <= 64; sinks += 16) {
        struct coded page = encode(&in, level_of(_i), sinks);
        struct tensor out = decode(&page);
        ck_assert_mem_eq(in.data, out.data, sinks * in.bytes / 64);
        ck_assert_uint_eq(page.info.sink_bytes, sinks * in.bytes / 64);
    }
}
END_TEST

START_TEST(a_huge_sink_does_not_coarsen_the_rest) {
    struct tensor in = tensor_random(PAGE_F16, 128, 2, 64, 8);
    struct coded plain = encode(&in, 3, 1);
    for (size_t i = 0; i < 128; i++)
        set_value(PAGE_F16, in.data, i, 30000);
    struct coded page = encode(&in, 3, 1);
    ck_assert_uint_eq(page.length, plain.length);
    ck_assert_double_eq(page.info.loss.error, plain.info.loss.error);
}
END_TEST

START_TEST(a_page_decodes_to_every_dtype) {
    struct tensor in = tensor_random(dtype_of(_i), 40, 2, 32, 9);
    struct coded page = encode(&in, level_of(_i), 4);
    struct tensor single = decode_as(&page, PAGE_F32, 0, 40);
    for (int i = 0; i < DTYPE_COUNT; i++) { /* each the float's nearest */
        struct tensor out = decode_as(&page, all_dtypes[i], 0, 40), expected = out;
        expected.data = keep(out.bytes);
        for (size_t v = 0; v < out.values; v++)
            set_value(all_dtypes[i], expected.data, v, tensor_at(&single, v));
        ck_assert_mem_eq(out.data, expected.data, out.bytes);
    }
}
END_TEST

START_TEST(lossy_values_beyond_a_dtypes_range_saturate) {
    struct tensor in = tensor_new(PAGE_F32, 64, 1, 16);
    uint64_t state = 1;
    for (size_t i = 0; i < in.values; i++)
        set_value(PAGE_F32, in.data, i, 100000 * random_normal(&state));
    struct coded page = encode(&in, level_of(_i), 0);
    ck_assert_int_eq(page.info.level, level_of(_i));
    struct tensor out = decode_as(&page, PAGE_F16, 0, 64);
    double largest = 0;
    for (size_t i = 0; i < out.values; i++)
        largest = fmax(largest, fabs(tensor_at(&out, i)));
    ck_assert_double_eq(largest, 65504);
}
END_TEST

START_TEST(exact_values_beyond_a_dtypes_range_become_infinite) {
    struct tensor in = tensor_random(PAGE_F32, 64, 1, 16, 10);
    set_value(PAGE_F32, in.data, 5, 1e6);
    set_value(PAGE_F32, in.data, 6, -1e6);
    set_value(PAGE_F32, in.data, 7, 65519);
    struct coded page = encode(&in, PAGE_EXACT, 0);
    struct tensor out = decode_as(&page, PAGE_F16, 0, 64);
    ck_assert_double_eq(tensor_at(&out, 5), INFINITY);
    ck_assert_double_eq(tensor_at(&out, 6), -INFINITY);
    ck_assert_double_eq(tensor_at(&out, 7), 65504);
}
END_TEST

/* Byte 10 of a page is its phase, bytes 24 and 25 the upper half of its step (FORMAT.md). */
START_TEST(the_phase_shifts_every_value_by_a_part_of_its_tokens_step) {
    int8_t phase = (int8_t)_i;
    struct tensor in = tensor_random(PAGE_F32, 32, 1, 64, 11);
    struct coded page = encode(&in, 2, 0);
    float step = float_of((uint32_t)(page.bytes[24] | page.bytes[25] << 8) << 16);
    struct tensor before = decode(&page);
    page.bytes[10] = (uint8_t)phase;
    struct tensor after = decode(&page);
    for (size_t t = 0; t < 32; t++) {
        double first = tensor_at(&after, t * 64) - tensor_at(&before, t * 64);
        double octaves = log2(first / (step * phase / 128.0));
        ck_assert_double_eq_tol(4 * octaves, nearbyint(4 * octaves), 0.02); /* of 8 bits */
        for (size_t c = 1; c < 64; c++)
            assert_near(tensor_at(&after, t * 64 + c) - tensor_at(&before, t * 64 + c), first,
                        1e-3);
    }
}
END_TEST

START_TEST(v_has_one_and_a_half_times_the_step_of_k) {
    struct tensor in = tensor_random(PAGE_F16, 128, 2, 64, 12);
    struct coded k = encode_part(&in, PAGE_K, _i, 0), v = encode_part(&in, PAGE_V, _i, 0);
    double step_k = (double)float_of((uint32_t)(k.bytes[24] | k.bytes[25] << 8) << 16);
    double step_v = (double)float_of((uint32_t)(v.bytes[24] | v.bytes[25] << 8) << 16);
    assert_near(step_v / step_k, 1.5, 0.008);
}
END_TEST

START_TEST(a_page_has_the_most_tokens_that_fit_a_mebibyte_of_floats) {
    ck_assert_uint_eq(page_tokens(8, 128, 128), 128);
    ck_assert_uint_eq(page_tokens(16, 128, 128), 128);
    ck_assert_uint_eq(page_tokens(16, 128, 129), 64);
    ck_assert_uint_eq(page_tokens(16, 129, 0), 64);
    ck_assert_uint_eq(page_tokens(1, 1, 0), 128);
    ck_assert_uint_eq(page_tokens(1, 1 << 18, 0), 1);
    ck_assert_uint_eq(page_tokens(1, (1 << 18) + 1, 0), 0);
    ck_assert_uint_eq(page_tokens(UINT32_MAX, UINT32_MAX, UINT32_MAX), 0);
    ck_assert_uint_eq(page_tokens(0, 64, 64), 0);
    ck_assert_uint_eq(page_tokens(3, 0, 64), 0);
}
END_TEST

START_TEST(the_bytes_do_not_depend_on_what_lay_in_memory) {
    struct tensor in = tensor_random(dtype_of(_i), 128, 2, 40, 13);
    struct coded page = encode(&in, level_of(_i), 4);
    uint8_t *clean = guarded_new(PAGE_WORKSPACE_BYTES, 1).data, *out = keep(page.bound + 1);
    uint8_t *shifted = keep(in.bytes + 1); /* nor on the alignment of values and page */
    memcpy(shifted + 1, in.data, in.bytes);
    struct page_source source = {.shape = in.shape,
                                 .level = level_of(_i),
                                 .sink_tokens = 4,
                                 .values = shifted + 1,
                                 .strides = in.strides};
    size_t length;
    ck_assert_int_eq(page_encode(&source, clean, out + 1, page.bound, &length, NULL), PAGE_OK);
    ck_assert_uint_eq(length, page.length);
    ck_assert_mem_eq(out + 1, page.bytes, length);
}
END_TEST

static int encode_error(const struct page_source *source, size_t out_bytes) {
    static uint8_t out[1 << 16];
    size_t length;
    return page_encode(source, dirty_workspace(), out, out_bytes, &length, NULL);
}

START_TEST(arguments_that_cannot_be_are_refused) {
    struct tensor in = tensor_random(PAGE_F16, 8, 2, 16, 14);
    struct page_source good = {
        .shape = in.shape, .level = 3, .values = in.data, .strides = in.strides};
    size_t bound = page_bound_bytes(&in.shape);
    ck_assert_int_eq(encode_error(&good, bound), PAGE_OK);
    ck_assert_int_eq(encode_error(&good, bound - 1), PAGE_ARGUMENT);
    struct page_source bad[10];
    for (int i = 0; i < 10; i++)
        bad[i] = good;
    bad[0].shape.tokens = 0;
    bad[1].shape.tokens = 129;
    bad[2].shape.heads = 0;
    bad[3].shape.head_dim = 0;
    bad[4].shape.head_dim = 1 << 20;
    bad[5].shape.dtype = (enum page_dtype)9;
    bad[6].level = 6;
    bad[7].level = -3;
    bad[8].sink_tokens = 9;
    bad[9].part = (enum page_part)2;
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(encode_error(&bad[i], 1 << 16), PAGE_ARGUMENT);
}
END_TEST

START_TEST(ranges_that_a_page_does_not_hold_are_refused) {
    struct tensor in = tensor_random(PAGE_F16, 8, 2, 16, 14);
    struct coded page = encode(&in, 3, 0);
    const uint32_t ranges[][2] = {{0, 9}, {8, 1}, {9, 0}, {1, UINT32_MAX}, {UINT32_MAX, 1}};
    for (int i = 0; i < 5; i++) {
        struct page_target target = {.first = ranges[i][0],
                                     .tokens = ranges[i][1],
                                     .dtype = PAGE_F16,
                                     .strides = in.strides};
        ck_assert_int_eq(page_decode(page.bytes, page.length, &target, dirty_workspace()),
                         PAGE_ARGUMENT);
    }
}
END_TEST

static TCase *case_of(Suite *suite, const char *name) {
    TCase *tests = tcase_create(name);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);
    return tests;
}

int main(void) {
    enum { ALL = DTYPE_COUNT * LEVEL_COUNT };
    Suite *suite = suite_create("page");
    TCase *values = case_of(suite, "values");
    tcase_add_loop_test(values, values_come_back_within_the_levels_precision, 0, ALL);
    tcase_add_loop_test(values, the_reported_loss_is_the_measured_one, 0, ALL);
    tcase_add_loop_test(values, peek_tells_what_encode_told, 0, ALL);
    tcase_add_loop_test(values, sinks_are_exact, 0, ALL);
    tcase_add_test(values, a_huge_sink_does_not_coarsen_the_rest);
    tcase_add_loop_test(values, the_phase_shifts_every_value_by_a_part_of_its_tokens_step, -64, 0);
    tcase_add_loop_test(values, the_phase_shifts_every_value_by_a_part_of_its_tokens_step, 1, 64);
    tcase_add_loop_test(values, v_has_one_and_a_half_times_the_step_of_k, 0, PAGE_LEVEL_MAX + 1);
    TCase *forms = case_of(suite, "shapes, layouts and ranges");
    tcase_add_loop_test(forms, both_layouts_give_the_same_bytes_and_values, 0, ALL);
    tcase_add_loop_test(forms, every_shape_comes_back, 0, SHAPE_COUNT);
    tcase_add_loop_test(forms, a_range_of_tokens_decodes_as_in_the_whole, 0, ALL);
    tcase_add_loop_test(forms, no_tokens_are_a_range_too, 0, LEVEL_COUNT);
    tcase_add_test(forms, a_page_has_the_most_tokens_that_fit_a_mebibyte_of_floats);
    tcase_add_loop_test(forms, the_bytes_do_not_depend_on_what_lay_in_memory, 0, ALL);
    TCase *dtypes = case_of(suite, "dtypes");
    tcase_add_loop_test(dtypes, a_page_decodes_to_every_dtype, 0, ALL);
    tcase_add_loop_test(dtypes, lossy_values_beyond_a_dtypes_range_saturate, 1, LEVEL_COUNT);
    tcase_add_test(dtypes, exact_values_beyond_a_dtypes_range_become_infinite);
    TCase *arguments = case_of(suite, "arguments");
    tcase_add_test(arguments, arguments_that_cannot_be_are_refused);
    tcase_add_test(arguments, ranges_that_a_page_does_not_hold_are_refused);
    return run_suite(suite);
}
