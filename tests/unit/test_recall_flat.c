/* The exact index: every table of kernels scores as double does, and the best k are found. */
#include "daemon/recall/flat.h"
#include "daemon/recall/kernels.h"
#include "proto/page/convert.h"
#include "tests/unit/test_page_kernels_support.h"

#include <math.h>

static const char *const tables[] = {"portable", "avx2", "avx512"};
static const size_t dims[] = {1, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 384, 1027, 4096};
enum { ALL_TABLES = 3, DIMS = sizeof dims / sizeof *dims, ROWS = 9, KEPT = 5 };

static void number_set(enum kvq_retriever_dtype dtype, void *vectors, size_t at, float value) {
    uint16_t half = float_to_half(value);
    if (dtype == KVQ_RETRIEVER_F32)
        memcpy((float *)vectors + at, &value, sizeof value);
    else
        memcpy((uint16_t *)vectors + at, &half, sizeof half);
}

static double number_at(enum kvq_retriever_dtype dtype, const void *vectors, size_t at) {
    return dtype == KVQ_RETRIEVER_F32 ? (double)((const float *)vectors)[at]
                                      : (double)half_to_float(((const uint16_t *)vectors)[at]);
}

static bool use_table(const char *name) {
    const struct page_kernels *kernels = page_kernels_by_name(name);
    if (kernels != NULL)
        page_kernels_use(kernels);
    return kernels != NULL;
}

/* Rows end where memory does: nothing behind them is read. */
static void check_dots(enum kvq_retriever_dtype dtype, size_t dim, size_t count, uint64_t *random) {
    struct vectors_format format = {(uint32_t)dim, dtype, KVQ_RETRIEVER_INNER_PRODUCT};
    struct guarded memory, query_memory;
    void *rows = guarded_bytes(&memory, count * vectors_row_bytes(&format), 0);
    float *query = guarded_bytes(&query_memory, dim * sizeof *query, 0), dots[ROWS];
    for (size_t i = 0; i < count * dim; i++)
        number_set(dtype, rows, i, (float)random_normal(random));
    for (size_t i = 0; i < dim; i++)
        query[i] = (float)random_normal(random);
    recall_kernels()->dots[dtype](query, dim, rows, count, dots);
    for (size_t r = 0; r < count; r++) {
        double dot = 0, size = 0;
        for (size_t i = 0; i < dim; i++) {
            double product = (double)query[i] * number_at(dtype, rows, r * dim + i);
            dot += product;
            size += fabs(product);
        }
        ck_assert_double_le(fabs(dot - (double)dots[r]), ((double)dim / 16 + 8) * 0x1p-24 * size);
        const char *row = (const char *)rows + r * vectors_row_bytes(&format);
        ck_assert(vectors_score(&format, query, row) == dots[r]);
    }
    guarded_free(&memory);
    guarded_free(&query_memory);
}

START_TEST(every_table_adds_up_products_as_exactly_as_it_says) {
    uint64_t random = 5;
    if (!use_table(tables[_i]))
        return;
    ck_assert_str_eq(recall_kernels()->name, tables[_i]);
    for (size_t d = 0; d < DIMS; d++)
        for (size_t count = 1; count <= ROWS; count++) {
            check_dots(KVQ_RETRIEVER_F32, dims[d], count, &random);
            check_dots(KVQ_RETRIEVER_F16, dims[d], count, &random);
        }
}
END_TEST

static bool is_odd(void *asked, uint64_t id) {
    ++*(size_t *)asked;
    return id % 2 == 1;
}

enum { MANY = 1000 };

/* Rows of one number, so that a score is the number itself. */
static size_t best_of(const float values[MANY], struct kvq_retriever_hit hits[KEPT],
                      size_t *asked_odd, float least) {
    struct vectors_format format = {1, KVQ_RETRIEVER_F32, KVQ_RETRIEVER_INNER_PRODUCT};
    float one = 1;
    struct flat_query query = {.format = &format, .unit = &one, .context = asked_odd};
    struct flat_rows rows = {.first_id = 100, .vectors = values, .count = MANY};
    struct nearest nearest = {.hits = hits, .k = KEPT, .least = least};
    if (asked_odd != NULL)
        query.wanted = is_odd;
    flat_scan(&query, &rows, 0, &nearest);
    nearest_sort(&nearest);
    return nearest.count;
}

START_TEST(the_best_come_first_and_of_equals_the_lower_id) {
    float values[MANY];
    struct kvq_retriever_hit hits[KEPT];
    for (int i = 0; i < MANY; i++)
        values[i] = (float)(i * 37 % MANY / 2);
    ck_assert_uint_eq(best_of(values, hits, NULL, -INFINITY), KEPT);
    for (int i = 0; i < KEPT; i++) {
        ck_assert_float_eq(hits[i].score, (float)(499 - i / 2));
        ck_assert_float_eq(values[hits[i].id - 100], hits[i].score);
        if (i % 2 == 1)
            ck_assert_uint_lt(hits[i - 1].id, hits[i].id);
    }
}
END_TEST

START_TEST(only_rows_that_would_be_kept_are_asked_about) {
    float values[MANY];
    struct kvq_retriever_hit hits[KEPT];
    size_t asked = 0;
    for (int i = 0; i < MANY; i++)
        values[i] = (float)(MANY - i);
    ck_assert_uint_eq(best_of(values, hits, &asked, -INFINITY), KEPT);
    for (int i = 0; i < KEPT; i++)
        ck_assert_uint_eq(hits[i].id, (unsigned)(101 + 2 * i));
    ck_assert_uint_eq(asked, 2 * KEPT);
}
END_TEST

START_TEST(what_scores_less_than_asked_for_is_left_out) {
    float values[MANY] = {0};
    struct kvq_retriever_hit hits[KEPT];
    values[10] = 3;
    values[20] = 2;
    ck_assert_uint_eq(best_of(values, hits, NULL, 2.0F), 2);
    ck_assert_uint_eq(hits[0].id, 110);
    ck_assert_uint_eq(hits[1].id, 120);
}
END_TEST

static struct vectors_format cosine_of(uint32_t dim, enum kvq_retriever_dtype dtype) {
    return (struct vectors_format){dim, dtype, KVQ_RETRIEVER_COSINE};
}

START_TEST(a_cosine_does_not_depend_on_lengths) {
    struct vectors_format format = cosine_of(2, KVQ_RETRIEVER_F16);
    uint16_t row[2] = {float_to_half(0.5F), float_to_half(0)};
    float query[2] = {3e10F, 3e10F}, inverse_length;
    vectors_prepare_query(&format, query, query);
    vectors_inverse_lengths(&format, row, 1, &inverse_length);
    ck_assert_float_eq(inverse_length, 2);
    ck_assert_float_eq_tol(vectors_score(&format, query, row), (float)M_SQRT1_2, 1e-6F);
}
END_TEST

START_TEST(a_query_with_a_fault_is_told) {
    const float queries[][2] = {{1, 2}, {NAN, 0}, {0, -INFINITY}, {0, 0x1p61F}, {0, 0x1p-70F}, {0}};
    struct vectors_format format = cosine_of(2, KVQ_RETRIEVER_F16);
    ck_assert_int_eq(vectors_check_query(&format, queries[0]), VECTORS_FINE);
    ck_assert_int_eq(vectors_check_query(&format, queries[1]), VECTORS_NOT_FINITE);
    ck_assert_int_eq(vectors_check_query(&format, queries[2]), VECTORS_NOT_FINITE);
    ck_assert_int_eq(vectors_check_query(&format, queries[3]), VECTORS_TOO_LONG);
    ck_assert_int_eq(vectors_check_query(&format, queries[4]), VECTORS_ZERO);
    ck_assert_int_eq(vectors_check_query(&format, queries[5]), VECTORS_ZERO);
    format.metric = KVQ_RETRIEVER_INNER_PRODUCT;
    ck_assert_int_eq(vectors_check_query(&format, queries[5]), VECTORS_FINE);
}
END_TEST

START_TEST(only_known_formats_are_taken) {
    float value = 1;
    struct vectors_format formats[] = {cosine_of(0, KVQ_RETRIEVER_F32),
                                       cosine_of(4097, KVQ_RETRIEVER_F32),
                                       cosine_of(1, (enum kvq_retriever_dtype)2),
                                       {1, KVQ_RETRIEVER_F32, (enum kvq_retriever_metric)2}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        ck_assert_int_eq(vectors_check_query(&formats[i], &value), VECTORS_WRONG_FORMAT);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recall_flat");
    TCase *cases = tcase_create("recall_flat");
    tcase_add_loop_test(cases, every_table_adds_up_products_as_exactly_as_it_says, 0, ALL_TABLES);
    tcase_add_test(cases, the_best_come_first_and_of_equals_the_lower_id);
    tcase_add_test(cases, only_rows_that_would_be_kept_are_asked_about);
    tcase_add_test(cases, what_scores_less_than_asked_for_is_left_out);
    tcase_add_test(cases, a_cosine_does_not_depend_on_lengths);
    tcase_add_test(cases, a_query_with_a_fault_is_told);
    tcase_add_test(cases, only_known_formats_are_taken);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
