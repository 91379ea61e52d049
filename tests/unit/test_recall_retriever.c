/* A retriever: what was added is found, what was removed is not, and batches are let go in time. */
#include "daemon/recall/retriever.h"
#include "tests/unit/test_page_support.h"

#include <math.h>

enum { DIM = 2, BATCHES = 3, ROWS = 4, K = 20 };

/* Batch b has the ids b * 100 ..; its rows' first numbers are their scores for `ahead`. */
struct fixture {
    struct retriever *retriever;
    float vectors[BATCHES][ROWS][DIM];
    int released[BATCHES];
    int wanted_batch; /* -1: all */
    int removes;      /* a batch that is removed while its rows are looked at; -1: none */
};

static const float ahead[DIM] = {1, 0};

static int number_of(const struct fixture *fixture, const void *batch) {
    return (int)((const float(*)[ROWS][DIM])batch - fixture->vectors);
}

static void note_released(void *context, void *batch) {
    struct fixture *fixture = context;
    fixture->released[number_of(fixture, batch)]++;
}

static void add(struct fixture *fixture, int b) {
    ck_assert_int_eq(retriever_add(fixture->retriever, fixture->vectors[b], (uint64_t)b * 100,
                                   fixture->vectors[b], ROWS),
                     0);
}

static void set_up(struct fixture *fixture, enum kvq_retriever_metric metric) {
    struct retriever_options options = {
        .format = {DIM, KVQ_RETRIEVER_F32, metric}, .released = note_released, .context = fixture};
    *fixture = (struct fixture){.wanted_batch = -1, .removes = -1};
    fixture->retriever = retriever_new(&options);
    ck_assert_ptr_nonnull(fixture->retriever);
    for (int b = 0; b < BATCHES; b++)
        for (int r = 0; r < ROWS; r++) {
            fixture->vectors[b][r][0] = (float)(b + 10 * r);
            fixture->vectors[b][r][1] = 1;
        }
    for (int b = BATCHES - 1; b >= 0; b--)
        add(fixture, b);
}

static bool is_wanted_batch(void *context, void *batch) {
    const struct fixture *fixture = context;
    return fixture->wanted_batch < 0 || fixture->wanted_batch == number_of(fixture, batch);
}

static bool is_even_row(void *context, void *batch, size_t row) {
    struct fixture *fixture = context;
    int b = number_of(fixture, batch);
    if (b == fixture->removes) {
        retriever_remove(fixture->retriever, (uint64_t)b * 100);
        fixture->removes = -1;
        ck_assert_int_eq(fixture->released[b], 0);
    }
    return row % 2 == 0;
}

static size_t search(struct fixture *fixture, struct kvq_retriever_hit hits[K]) {
    struct retriever_query query = {.vector = ahead,
                                    .k = K,
                                    .min_score = -INFINITY,
                                    .batch_wanted = is_wanted_batch,
                                    .row_wanted = is_even_row,
                                    .context = fixture};
    ptrdiff_t count = retriever_search(fixture->retriever, &query, hits);
    ck_assert_int_ge(count, 0);
    return (size_t)count;
}

START_TEST(wanted_rows_of_all_batches_are_found_best_first) {
    struct fixture fixture;
    struct kvq_retriever_hit hits[K];
    static const uint64_t ids[] = {202, 102, 2, 200, 100, 0};
    set_up(&fixture, KVQ_RETRIEVER_INNER_PRODUCT);
    ck_assert_uint_eq(search(&fixture, hits), 6);
    for (size_t i = 0; i < 6; i++)
        ck_assert_uint_eq(hits[i].id, ids[i]);
    ck_assert_float_eq(hits[0].score, 22);
    retriever_free(fixture.retriever);
}
END_TEST

START_TEST(cosines_are_of_the_angle) {
    struct fixture fixture;
    struct kvq_retriever_hit hits[K];
    set_up(&fixture, KVQ_RETRIEVER_COSINE);
    ck_assert_uint_eq(search(&fixture, hits), 6);
    ck_assert_uint_eq(hits[0].id, 202);
    ck_assert_float_eq_tol(hits[0].score, 22 / sqrtf(22 * 22 + 1), 1e-6F);
    retriever_free(fixture.retriever);
}
END_TEST

START_TEST(a_batch_out_of_scope_is_not_looked_at) {
    struct fixture fixture;
    struct kvq_retriever_hit hits[K];
    set_up(&fixture, KVQ_RETRIEVER_INNER_PRODUCT);
    fixture.wanted_batch = 1;
    ck_assert_uint_eq(search(&fixture, hits), 2);
    ck_assert_uint_eq(hits[0].id, 102);
    ck_assert_uint_eq(hits[1].id, 100);
    retriever_free(fixture.retriever);
}
END_TEST

START_TEST(a_removed_batch_is_released_and_not_found) {
    struct fixture fixture;
    struct kvq_retriever_hit hits[K];
    set_up(&fixture, KVQ_RETRIEVER_INNER_PRODUCT);
    retriever_remove(fixture.retriever, 100);
    ck_assert_int_eq(fixture.released[1], 1);
    retriever_remove(fixture.retriever, 100);
    retriever_remove(fixture.retriever, 201);
    ck_assert_uint_eq(search(&fixture, hits), 4);
    for (size_t i = 0; i < 4; i++)
        ck_assert_uint_ne(hits[i].id / 100, 1);
    ck_assert_uint_eq(retriever_usage(fixture.retriever).rows, 2 * ROWS);
    retriever_free(fixture.retriever);
    ck_assert_int_eq(fixture.released[0], 1);
    ck_assert_int_eq(fixture.released[1], 1);
    ck_assert_int_eq(fixture.released[2], 1);
}
END_TEST

START_TEST(a_batch_that_is_removed_during_a_search_is_released_behind_it) {
    struct fixture fixture;
    struct kvq_retriever_hit hits[K];
    set_up(&fixture, KVQ_RETRIEVER_INNER_PRODUCT);
    fixture.removes = 2;
    ck_assert_uint_eq(search(&fixture, hits), 6);
    ck_assert_int_eq(fixture.released[2], 1);
    ck_assert_uint_eq(search(&fixture, hits), 4);
    retriever_free(fixture.retriever);
}
END_TEST

START_TEST(usage_goes_back_to_nothing) {
    struct fixture fixture;
    set_up(&fixture, KVQ_RETRIEVER_COSINE);
    struct vectors_format format = {DIM, KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE};
    ck_assert_uint_eq(retriever_usage(fixture.retriever).bytes,
                      BATCHES * retriever_batch_bytes(&format, ROWS));
    for (int b = 0; b < BATCHES; b++)
        retriever_remove(fixture.retriever, (uint64_t)b * 100);
    ck_assert_uint_eq(retriever_usage(fixture.retriever).bytes, 0);
    retriever_free(fixture.retriever);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recall_retriever");
    TCase *cases = tcase_create("recall_retriever");
    tcase_add_test(cases, wanted_rows_of_all_batches_are_found_best_first);
    tcase_add_test(cases, cosines_are_of_the_angle);
    tcase_add_test(cases, a_batch_out_of_scope_is_not_looked_at);
    tcase_add_test(cases, a_removed_batch_is_released_and_not_found);
    tcase_add_test(cases, a_batch_that_is_removed_during_a_search_is_released_behind_it);
    tcase_add_test(cases, usage_goes_back_to_nothing);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
