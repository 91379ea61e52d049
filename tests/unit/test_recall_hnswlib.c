/* The retriever over hnswlib, where it is built: it finds nearly all that the exact index finds. */
#include "daemon/recall/flat.h"
#include "proto/page/convert.h"
#include "tests/unit/test_page_support.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { DIM = 32, ROWS = 1200, CENTRES = 50, QUERIES = 50, K = 10 };

/* Ids are of rows; those that are wanted are from `first` to `end`, every `step`th. */
struct fixture {
    void *index;
    struct vectors_format format;
    float rows[ROWS][DIM];
    uint16_t halves[ROWS][DIM];
    float inverse_lengths[ROWS];
    size_t first, end, step;
};

static const struct kvq_retriever *plugin;

static const struct kvq_retriever *load_plugin(void) {
    char program[2048] = {0}, path[4096];
    if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0)
        return NULL;
    *strrchr(program, '/') = '\0'; /* build/tests/unit */
    snprintf(path, sizeof path, "%s/../../recall-hnswlib.so", program);
    void *library = dlopen(path, RTLD_NOW);
    return library ? dlsym(library, KVQ_RETRIEVER_SYMBOL) : NULL;
}

static const void *vectors(const struct fixture *fixture, size_t row) {
    return fixture->format.dtype == KVQ_RETRIEVER_F32 ? (const void *)fixture->rows[row]
                                                      : (const void *)fixture->halves[row];
}

static void draw(struct fixture *fixture) {
    static float centres[CENTRES][DIM];
    uint64_t random = 3;
    for (size_t c = 0; c < CENTRES; c++)
        for (size_t i = 0; i < DIM; i++)
            centres[c][i] = (float)random_normal(&random);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t i = 0; i < DIM; i++) {
            fixture->rows[r][i] = centres[r % CENTRES][i] + (float)random_normal(&random) / 2;
            fixture->halves[r][i] = float_to_half(fixture->rows[r][i]);
        }
    vectors_inverse_lengths(&fixture->format, vectors(fixture, 0), ROWS, fixture->inverse_lengths);
}

static void *open_index(const struct fixture *fixture) {
    struct kvq_retriever_options options = {.size = sizeof options,
                                            .dim = DIM,
                                            .dtype = fixture->format.dtype,
                                            .metric = fixture->format.metric,
                                            .options = "m=12 ef=100"};
    void *index = NULL;
    ck_assert_int_eq(plugin->open(&options, &index), 0);
    return index;
}

static void add(const struct fixture *fixture, size_t first, size_t end) {
    ck_assert_int_eq(plugin->add(fixture->index, first, vectors(fixture, first), end - first), 0);
}

static struct fixture *set_up(enum kvq_retriever_dtype dtype, enum kvq_retriever_metric metric) {
    static struct fixture fixture;
    fixture = (struct fixture){.format = {DIM, dtype, metric}, .end = ROWS, .step = 1};
    draw(&fixture);
    fixture.index = open_index(&fixture);
    add(&fixture, 0, ROWS);
    return &fixture;
}

static bool is_wanted(void *context, uint64_t id) {
    const struct fixture *fixture = context;
    return id >= fixture->first && id < fixture->end && id % fixture->step == 0;
}

static size_t exact(struct fixture *fixture, const float *unit, struct kvq_retriever_hit hits[K]) {
    struct flat_query query = {&fixture->format, unit, is_wanted, fixture};
    struct flat_rows rows = {0, vectors(fixture, 0), ROWS, fixture->inverse_lengths};
    struct nearest nearest = {.hits = hits, .k = K, .least = -INFINITY};
    flat_scan(&query, &rows, 0, &nearest);
    nearest_sort(&nearest);
    return nearest.count;
}

/* How many of the exact hits the plugin finds; it finds as many, wanted ones, best first. */
static size_t found_of(struct fixture *fixture, const float *unit, size_t *expected) {
    struct kvq_retriever_hit hits[K], right[K];
    struct kvq_retriever_query query = {sizeof query, unit, K, is_wanted, fixture};
    size_t found = 0;
    *expected = exact(fixture, unit, right);
    ck_assert_int_eq(plugin->search(fixture->index, &query, hits), (ptrdiff_t)*expected);
    for (size_t i = 0; i < *expected; i++) {
        ck_assert(is_wanted(fixture, hits[i].id));
        ck_assert(i == 0 || hits[i].score <= hits[i - 1].score);
        ck_assert_float_eq_tol(vectors_score(&fixture->format, unit, vectors(fixture, hits[i].id)),
                               hits[i].score, 1e-3F);
        for (size_t j = 0; j < *expected; j++)
            found += hits[i].id == right[j].id;
    }
    return found;
}

static double recall(struct fixture *fixture) {
    size_t found = 0, expected = 0;
    uint64_t random = 9;
    for (int q = 0; q < QUERIES; q++) {
        float unit[DIM];
        size_t most;
        for (size_t i = 0; i < DIM; i++)
            unit[i] = fixture->rows[q * 7][i] + (float)random_normal(&random) / 2;
        vectors_prepare_query(&fixture->format, unit, unit);
        found += found_of(fixture, unit, &most);
        expected += most;
    }
    return (double)found / (double)expected;
}

START_TEST(nearly_all_of_the_nearest_are_found) {
    if (plugin == NULL)
        return;
    struct fixture *fixture = set_up(_i & 1 ? KVQ_RETRIEVER_F16 : KVQ_RETRIEVER_F32,
                                     _i & 2 ? KVQ_RETRIEVER_INNER_PRODUCT : KVQ_RETRIEVER_COSINE);
    ck_assert_double_ge(recall(fixture), 0.95);
    ck_assert_uint_gt(plugin->memory_bytes(fixture->index), ROWS * DIM * sizeof(float));
    plugin->close(fixture->index);
}
END_TEST

START_TEST(few_wanted_rows_among_many_are_found) {
    if (plugin == NULL)
        return;
    struct fixture *fixture = set_up(KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE);
    fixture->step = 500;
    ck_assert_double_eq(recall(fixture), 1);
    plugin->close(fixture->index);
}
END_TEST

START_TEST(removed_rows_are_not_found_and_their_places_are_taken_again) {
    if (plugin == NULL)
        return;
    struct fixture *fixture = set_up(KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE);
    uint64_t bytes = plugin->memory_bytes(fixture->index);
    ck_assert_int_eq(plugin->remove(fixture->index, 0, ROWS / 2), 0);
    fixture->first = ROWS / 2;
    ck_assert_double_ge(recall(fixture), 0.95);
    fixture->first = 0;
    add(fixture, 0, ROWS / 2);
    ck_assert_double_ge(recall(fixture), 0.95);
    ck_assert_uint_eq(plugin->memory_bytes(fixture->index), bytes);
    plugin->close(fixture->index);
}
END_TEST

START_TEST(a_saved_index_is_there_again_with_the_rows_that_are_added_again) {
    if (plugin == NULL)
        return;
    struct fixture *fixture = set_up(KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE);
    char path[] = "/tmp/test_recall_hnswlib.XXXXXX";
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    close(file);
    ck_assert_int_eq(plugin->save(fixture->index, path), 0);
    plugin->close(fixture->index);
    fixture->index = open_index(fixture);
    ck_assert_int_eq(plugin->load(fixture->index, path), 0);
    add(fixture, 100, ROWS);
    fixture->first = 100;
    ck_assert_double_ge(recall(fixture), 0.95);
    plugin->close(fixture->index);
    unlink(path);
}
END_TEST

START_TEST(what_is_no_saved_index_and_no_option_is_refused) {
    if (plugin == NULL)
        return;
    struct fixture *fixture = set_up(KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE);
    ck_assert_int_eq(plugin->load(fixture->index, "/proc/self/exe"), -1);
    ck_assert_double_ge(recall(fixture), 0.95);
    plugin->close(fixture->index);
    struct kvq_retriever_options options = {.size = sizeof options, .dim = 1, .options = "x=1"};
    void *index;
    ck_assert_int_eq(plugin->open(&options, &index), -1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recall_hnswlib");
    TCase *cases = tcase_create("recall_hnswlib");
    plugin = load_plugin();
    tcase_set_timeout(cases, 240);
    tcase_add_loop_test(cases, nearly_all_of_the_nearest_are_found, 0, 4);
    tcase_add_test(cases, few_wanted_rows_among_many_are_found);
    tcase_add_test(cases, removed_rows_are_not_found_and_their_places_are_taken_again);
    tcase_add_test(cases, a_saved_index_is_there_again_with_the_rows_that_are_added_again);
    tcase_add_test(cases, what_is_no_saved_index_and_no_option_is_refused);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
