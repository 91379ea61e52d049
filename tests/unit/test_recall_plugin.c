/* A retriever with a plugin answers as the exact index does, whatever the plugin does. */
#include "daemon/base/budget.h"
#include "daemon/recall/plugin.h"
#include "daemon/recall/retriever.h"
#include "tests/unit/test_page_support.h"

#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

/* So many bytes that the plugin is asked. */
enum { DIM = 1024, BATCHES = 3, ROWS = 400, K = 10, FAULTS_MOST = 8 };
enum { SHORT_MS = 20, ENDLESS_MS = 600000 }; /* of a plugin that blocks, and of one that does not */

static float vectors[BATCHES][ROWS][DIM];
static _Atomic int released[BATCHES];
static float question[DIM];

static const char *plugin_path(const char *name) {
    static char path[4096];
    char program[2048] = {0};
    ck_assert_int_gt(readlink("/proc/self/exe", program, sizeof program - 1), 0);
    *strrchr(program, '/') = '\0'; /* build/tests/unit */
    snprintf(path, sizeof path, "%s/../plugins/%s", program, name);
    return path;
}

static _Atomic int *plugin_variable(const char *name) {
    void *library = dlopen(plugin_path("misbehaving.so"), RTLD_NOW);
    ck_assert_ptr_nonnull(library);
    _Atomic int *variable = dlsym(library, name);
    ck_assert_ptr_nonnull(variable);
    return variable;
}

static struct plugin *load_with(const char *fault, struct plugin_options options) {
    char message[256], text[4200];
    snprintf(text, sizeof text, "%s  %s", plugin_path("misbehaving.so"), fault);
    options.path_and_options = text;
    struct plugin *plugin = plugin_load(&options, message, sizeof message);
    ck_assert_msg(plugin != NULL, "%s", message);
    return plugin;
}

static struct plugin *load(const char *fault, uint64_t timeout_ms) {
    return load_with(fault, (struct plugin_options){.timeout_ms = timeout_ms});
}

static struct plugin *load_within(struct budget *budget, uint64_t limit_bytes) {
    budget_init(budget, limit_bytes);
    return load_with("", (struct plugin_options){.timeout_ms = ENDLESS_MS, .budget = budget});
}

static int number_of(const void *batch) {
    return (int)((const float(*)[ROWS][DIM])batch - vectors);
}

static void note_released(void *context, void *batch) {
    (void)context;
    released[number_of(batch)]++;
}

static struct retriever *retriever_of(const char *model, struct plugin *plugin) {
    struct retriever_options options = {.format = {DIM, KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE},
                                        .plugin = plugin,
                                        .name = model,
                                        .name_bytes = strlen(model),
                                        .released = note_released};
    struct retriever *retriever = retriever_new(&options);
    ck_assert_ptr_nonnull(retriever);
    for (int b = 0; b < BATCHES; b++)
        ck_assert_int_eq(retriever_add(retriever, vectors[b], (uint64_t)b * 1000, vectors[b], ROWS),
                         0);
    return retriever;
}

static struct retriever *retriever_with(struct plugin *plugin) {
    return retriever_of("model", plugin);
}

static void fill(void) {
    uint64_t random = 7;
    for (int b = 0; b < BATCHES; b++)
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < DIM; i++)
                vectors[b][r][i] = (float)random_normal(&random);
    for (int i = 0; i < DIM; i++)
        question[i] = (float)random_normal(&random);
}

static void await_rows(struct retriever *retriever, uint64_t rows) {
    while (retriever_usage(retriever).plugin_rows != rows)
        usleep(1000);
}

static bool is_even_row(void *context, void *batch, size_t row) {
    (void)context;
    (void)batch;
    return row % 2 == 0;
}

static size_t search(struct retriever *retriever, struct kvq_retriever_hit hits[K]) {
    struct retriever_query query = {
        .vector = question, .k = K, .min_score = -INFINITY, .row_wanted = is_even_row};
    ptrdiff_t count = retriever_search(retriever, &query, hits);
    ck_assert_int_ge(count, 0);
    return (size_t)count;
}

static void check_search(struct retriever *retriever) {
    struct retriever *exact = retriever_with(NULL);
    struct kvq_retriever_hit hits[K], expected[K];
    ck_assert_uint_eq(search(exact, expected), K);
    ck_assert_uint_eq(search(retriever, hits), K);
    for (int i = 0; i < K; i++) {
        ck_assert_uint_eq(hits[i].id, expected[i].id);
        ck_assert(hits[i].score == expected[i].score);
    }
    retriever_free(exact);
    for (int b = 0; b < BATCHES; b++)
        released[b] = 0;
}

static void end(struct retriever *retriever, struct plugin *plugin) {
    retriever_free(retriever);
    for (int b = 0; b < BATCHES; b++)
        ck_assert_int_eq(released[b], 1);
    plugin_free(plugin);
}

START_TEST(a_plugin_that_does_well_is_asked) {
    struct plugin *plugin = load("", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    check_search(retriever);
    ck_assert_uint_eq(plugin_status(plugin).searches, 1);
    ck_assert_uint_eq(plugin_status(plugin).faulty_answers, 0);
    ck_assert_uint_gt(retriever_usage(retriever).plugin_bytes, 0);
    end(retriever, plugin);
}
END_TEST

START_TEST(a_search_in_few_rows_is_not_the_plugins) {
    struct plugin *plugin = load("", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    retriever_remove(retriever, 1000);
    struct kvq_retriever_hit hits[K];
    ck_assert_uint_eq(search(retriever, hits), K);
    ck_assert_uint_eq(plugin_status(plugin).searches, 0);
    end(retriever, plugin);
}
END_TEST

START_TEST(rows_that_the_plugin_has_not_yet_are_found) {
    struct plugin *plugin = load("blocks-add", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    check_search(retriever);
    ck_assert_uint_eq(retriever_usage(retriever).plugin_rows, 0);
    *plugin_variable("misbehaving_may_return") = 1;
    await_rows(retriever, BATCHES * ROWS);
    check_search(retriever);
    end(retriever, plugin);
}
END_TEST

START_TEST(a_batch_is_released_behind_the_plugins_removal) {
    struct plugin *plugin = load("", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    retriever_remove(retriever, 1000);
    while (released[1] == 0)
        usleep(1000);
    ck_assert_uint_eq(retriever_usage(retriever).plugin_rows, (BATCHES - 1) * ROWS);
    end(retriever, plugin);
}
END_TEST

START_TEST(a_batch_that_is_removed_while_it_is_added_is_released) {
    struct plugin *plugin = load("blocks-add", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    for (int b = BATCHES - 1; b >= 0; b--)
        retriever_remove(retriever, (uint64_t)b * 1000);
    *plugin_variable("misbehaving_may_return") = 1;
    for (int b = 0; b < BATCHES; b++)
        while (released[b] == 0)
            usleep(1000);
    ck_assert(plugin_status(plugin).on);
    end(retriever, plugin);
}
END_TEST

static const char *const faults[] = {"garbage-ids", "too-many", "duplicates",
                                     "nan",         "unwanted", "huge-count"};
enum { FAULTS = sizeof faults / sizeof *faults };

START_TEST(faulty_answers_are_not_believed_and_then_not_asked_for) {
    struct plugin *plugin = load(faults[_i], ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    for (int i = 0; i < FAULTS_MOST + 2; i++)
        check_search(retriever);
    struct plugin_status status = plugin_status(plugin);
    ck_assert(!status.on);
    ck_assert_uint_eq(status.searches, FAULTS_MOST);
    ck_assert_uint_eq(status.faulty_answers, FAULTS_MOST);
    ck_assert_uint_ge(status.dropped_hits, FAULTS_MOST);
    end(retriever, plugin);
}
END_TEST

START_TEST(scores_are_not_the_plugins) {
    struct plugin *plugin = load("wrong-scores", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    check_search(retriever);
    ck_assert_uint_eq(plugin_status(plugin).faulty_answers, 0);
    end(retriever, plugin);
}
END_TEST

static const char *const failures[] = {"fails-open", "fails-add"};
enum { FAILURES = sizeof failures / sizeof *failures };

START_TEST(a_plugin_that_fails_is_switched_off) {
    struct plugin *plugin = load(failures[_i], ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    while (plugin_status(plugin).on)
        usleep(1000);
    check_search(retriever);
    end(retriever, plugin);
}
END_TEST

START_TEST(a_plugin_whose_search_fails_is_switched_off) {
    struct plugin *plugin = load("fails-search", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    check_search(retriever);
    ck_assert(!plugin_status(plugin).on);
    end(retriever, plugin);
}
END_TEST

START_TEST(a_plugin_that_cannot_remove_is_switched_off) {
    struct plugin *plugin = load("fails-remove", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    retriever_remove(retriever, 0);
    while (plugin_status(plugin).on || released[0] == 0)
        usleep(1000);
    end(retriever, plugin);
}
END_TEST

/* Adding is quick even where time is short: a slow machine may switch the plugin off earlier. */
START_TEST(a_plugin_that_blocks_is_left_and_its_batches_are_released) {
    struct plugin *plugin = load("blocks-search", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    plugin_set_timeout(plugin, SHORT_MS);
    check_search(retriever);
    ck_assert(!plugin_status(plugin).on);
    ck_assert_uint_eq(plugin_status(plugin).timeouts, 1);
    check_search(retriever);
    retriever_remove(retriever, 1000);
    ck_assert_int_eq(released[1], 1);
    end(retriever, plugin);
}
END_TEST

START_TEST(a_plugin_that_returns_late_is_closed) {
    struct plugin *plugin = load("blocks-search", ENDLESS_MS);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    plugin_set_timeout(plugin, SHORT_MS);
    check_search(retriever);
    *plugin_variable("misbehaving_may_return") = 1;
    while (*plugin_variable("misbehaving_open_indexes") > 0)
        usleep(1000);
    check_search(retriever);
    plugin_set_timeout(plugin, ENDLESS_MS);
    end(retriever, plugin);
}
END_TEST

START_TEST(a_plugin_that_blocks_while_it_adds_is_left_by_the_next_search) {
    struct plugin *plugin = load("blocks-add", SHORT_MS);
    struct retriever *retriever = retriever_with(plugin);
    while (plugin_status(plugin).on)
        check_search(retriever);
    check_search(retriever);
    end(retriever, plugin);
}
END_TEST

START_TEST(what_a_plugin_takes_is_of_the_budget) {
    struct budget budget;
    struct plugin *plugin = load_within(&budget, UINT64_MAX);
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    ck_assert_uint_gt(budget.used_bytes, 0);
    ck_assert_uint_eq(budget.used_bytes, plugin_status(plugin).memory_bytes);
    end(retriever, plugin);
    ck_assert_uint_eq(budget.used_bytes, 0);
}
END_TEST

START_TEST(a_plugin_that_takes_more_than_is_left_is_switched_off) {
    struct budget budget;
    struct plugin *plugin = load_within(&budget, 1000);
    struct retriever *retriever = retriever_with(plugin);
    while (plugin_status(plugin).on)
        usleep(1000);
    check_search(retriever);
    end(retriever, plugin);
    ck_assert_uint_eq(budget.used_bytes, 0);
}
END_TEST

/* --- what is saved --- */

static char directory[] = "/tmp/test_recall_plugin.XXXXXX";

static void make_directory(void) {
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", directory);
    ck_assert_int_eq(system(command), 0);
}

/* How many there are, and one of them. */
static size_t find_files(char path[512]) {
    DIR *folder = opendir(directory);
    size_t count = 0;
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (entry->d_name[0] != '.') {
            snprintf(path, 512, "%s/%s", directory, entry->d_name);
            count++;
        }
    closedir(folder);
    return count;
}

/* From a start to an orderly end. How many rows were loaded. */
static int run_daemon(const char *fault, const char *model) {
    _Atomic int *loaded = plugin_variable("misbehaving_loaded_rows");
    struct plugin *plugin =
        load_with(fault, (struct plugin_options){.timeout_ms = ENDLESS_MS, .directory = directory});
    *loaded = 0;
    memset(released, 0, sizeof released);
    struct retriever *retriever = retriever_of(model, plugin);
    await_rows(retriever, BATCHES * ROWS);
    check_search(retriever);
    end(retriever, plugin);
    return *loaded;
}

START_TEST(an_index_is_saved_at_the_end_and_loaded_at_the_next_start) {
    char path[512];
    ck_assert_int_eq(run_daemon("", "model"), 0);
    ck_assert_uint_eq(find_files(path), 1);
    ck_assert_int_eq(run_daemon("", "model"), BATCHES * ROWS);
    ck_assert_int_eq(run_daemon("", "model"), BATCHES * ROWS);
}
END_TEST

START_TEST(a_file_is_used_once) {
    char path[512];
    run_daemon("", "model");
    struct plugin *plugin =
        load_with("", (struct plugin_options){.timeout_ms = ENDLESS_MS, .directory = directory});
    struct retriever *retriever = retriever_with(plugin);
    memset(released, 0, sizeof released);
    await_rows(retriever, BATCHES * ROWS);
    ck_assert_uint_eq(find_files(path), 0);
    end(retriever, plugin);
}
END_TEST

START_TEST(an_index_of_another_model_or_other_options_is_not_loaded) {
    run_daemon("", "model");
    ck_assert_int_eq(run_daemon("", "another model"), 0);
    run_daemon("", "model");
    ck_assert_int_eq(run_daemon("wrong-scores", "model"), 0);
}
END_TEST

START_TEST(a_file_with_other_bytes_is_not_loaded) {
    char path[512];
    run_daemon("", "model");
    ck_assert_uint_eq(find_files(path), 1);
    FILE *file = fopen(path, "a");
    fputc('0', file);
    fclose(file);
    ck_assert_int_eq(run_daemon("", "model"), 0);
}
END_TEST

static const char *const unsaved[] = {"fails-save", "fails-load"};

START_TEST(a_plugin_that_cannot_save_or_load_is_used_all_the_same) {
    ck_assert_int_eq(run_daemon(unsaved[_i], "model"), 0);
    ck_assert_int_eq(run_daemon(unsaved[_i], "model"), 0);
}
END_TEST

START_TEST(what_is_saved_goes_with_its_rows) {
    char path[512];
    struct plugin *plugin =
        load_with("", (struct plugin_options){.timeout_ms = ENDLESS_MS, .directory = directory});
    struct retriever *retriever = retriever_with(plugin);
    await_rows(retriever, BATCHES * ROWS);
    for (uint64_t b = 0; b < BATCHES; b++)
        retriever_remove(retriever, b * 1000);
    end(retriever, plugin);
    ck_assert_uint_eq(find_files(path), 0);
}
END_TEST

static void check_refused(const char *path_and_options, const char *reason) {
    char message[4500] = "";
    struct plugin_options options = {.path_and_options = path_and_options};
    ck_assert_ptr_null(plugin_load(&options, message, sizeof message));
    ck_assert_msg(strstr(message, reason) != NULL, "%s", message);
}

START_TEST(what_is_no_plugin_is_refused_with_a_reason) {
    check_refused(plugin_path("wrong_version.so"), "another version");
    check_refused(plugin_path("missing_functions.so"), "functions are missing");
    check_refused(plugin_path("exports_nothing.so"), "exports no kvq_retriever_v1");
    check_refused("/nowhere/plugin.so", "No such file");
    check_refused("plugin.so", "no absolute path");
    check_refused("", "no absolute path");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("recall_plugin");
    TCase *cases = tcase_create("recall_plugin");
    fill();
    tcase_set_timeout(cases, 240);
    tcase_add_test(cases, a_plugin_that_does_well_is_asked);
    tcase_add_test(cases, a_search_in_few_rows_is_not_the_plugins);
    tcase_add_test(cases, rows_that_the_plugin_has_not_yet_are_found);
    tcase_add_test(cases, a_batch_is_released_behind_the_plugins_removal);
    tcase_add_test(cases, a_batch_that_is_removed_while_it_is_added_is_released);
    tcase_add_loop_test(cases, faulty_answers_are_not_believed_and_then_not_asked_for, 0, FAULTS);
    tcase_add_test(cases, scores_are_not_the_plugins);
    tcase_add_loop_test(cases, a_plugin_that_fails_is_switched_off, 0, FAILURES);
    tcase_add_test(cases, a_plugin_whose_search_fails_is_switched_off);
    tcase_add_test(cases, a_plugin_that_cannot_remove_is_switched_off);
    tcase_add_test(cases, a_plugin_that_blocks_is_left_and_its_batches_are_released);
    tcase_add_test(cases, a_plugin_that_returns_late_is_closed);
    tcase_add_test(cases, a_plugin_that_blocks_while_it_adds_is_left_by_the_next_search);
    tcase_add_test(cases, what_a_plugin_takes_is_of_the_budget);
    tcase_add_test(cases, a_plugin_that_takes_more_than_is_left_is_switched_off);
    tcase_add_test(cases, what_is_no_plugin_is_refused_with_a_reason);
    suite_add_tcase(suite, cases);
    TCase *saved = tcase_create("saved");
    tcase_set_timeout(saved, 240);
    tcase_add_checked_fixture(saved, make_directory, remove_directory);
    tcase_add_test(saved, an_index_is_saved_at_the_end_and_loaded_at_the_next_start);
    tcase_add_test(saved, a_file_is_used_once);
    tcase_add_test(saved, an_index_of_another_model_or_other_options_is_not_loaded);
    tcase_add_test(saved, a_file_with_other_bytes_is_not_loaded);
    tcase_add_loop_test(saved, a_plugin_that_cannot_save_or_load_is_used_all_the_same, 0, 2);
    tcase_add_test(saved, what_is_saved_goes_with_its_rows);
    suite_add_tcase(suite, saved);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
