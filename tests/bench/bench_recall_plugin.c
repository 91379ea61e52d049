/* What a retriever plugin finds of the exact index's hits, and how fast.
 *
 *   bench_recall_plugin --plugin PATH [--options ""] [--rows 100000] [--dim 384] [--clusters 1000]
 *                       [--queries 200] [--k 10]
 *
 * Rows are drawn around centres, queries from the same: each a centre and half as much of its own.
 * The plugin gets all rows, and after the queries loses the first tenth of them and is asked again.
 * Then the index is saved, and loaded into another that is asked a third time. Prints a line of
 * JSON: `recall` is the part of the exact k that the plugin has among its k, as a mean over
 * queries.
 */
#include "daemon/recall/flat.h"
#include "tests/bench/arguments.h"
#include "tests/bench/clock.h"
#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { K_MOST = 1000, ROWS_AT_ONCE = 16, REMOVED_SHARE = 10 };
enum { PLUGIN, OPTIONS, ROWS, DIM, CLUSTERS, QUERIES, K, ARGUMENTS };

static struct argument arguments[ARGUMENTS] = {
    {"--plugin", "", NULL}, {"--options", "", NULL},      {"--rows", "100000", NULL},
    {"--dim", "384", NULL}, {"--clusters", "1000", NULL}, {"--queries", "200", NULL},
    {"--k", "10", NULL},
};

struct bench {
    const struct kvq_retriever *plugin;
    struct kvq_retriever_options options;
    void *index;
    struct vectors_format format;
    size_t rows, queries, k, removed;
    float *vectors, *asked, *inverse_lengths;
};

struct answers {
    double recall, plugin_seconds, exact_seconds;
};

/* Of nearly normal distribution: the sum of four. */
static float random_value(uint64_t *state) {
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        sum += (float)(int32_t)*state * 0x1p-31f;
    }
    return sum;
}

static float *draw(const float *centres, size_t clusters, size_t rows, size_t dim,
                   uint64_t *random) {
    float *drawn = malloc(rows * dim * sizeof *drawn);
    if (!drawn)
        fail("malloc");
    for (size_t r = 0; r < rows; r++) {
        size_t centre = (size_t)(random_value(random) * 1e6F + 1e7F) % clusters;
        for (size_t i = 0; i < dim; i++) {
            float base = centres ? centres[centre * dim + i] : 0;
            drawn[r * dim + i] = base + (centres ? 0.5F : 1) * random_value(random);
        }
    }
    return drawn;
}

static void fill(struct bench *bench) {
    uint64_t random = 88172645463325252u;
    size_t dim = bench->format.dim, clusters = argument_number(&arguments[CLUSTERS], 1 << 20);
    float *centres = draw(NULL, 1, clusters, dim, &random);
    bench->vectors = draw(centres, clusters, bench->rows, dim, &random);
    bench->asked = draw(centres, clusters, bench->queries, dim, &random);
    bench->inverse_lengths = malloc(bench->rows * sizeof *bench->inverse_lengths);
    if (!bench->inverse_lengths)
        fail("malloc");
    vectors_inverse_lengths(&bench->format, bench->vectors, bench->rows, bench->inverse_lengths);
    for (size_t q = 0; q < bench->queries; q++)
        vectors_prepare_query(&bench->format, bench->asked + q * dim, bench->asked + q * dim);
    free(centres);
}

static bool is_there(void *context, uint64_t id) {
    const struct bench *bench = context;
    return id >= bench->removed && id < bench->rows;
}

static double add_all(struct bench *bench, void *index) {
    double start = clock_seconds();
    for (size_t first = bench->removed; first < bench->rows; first += ROWS_AT_ONCE) {
        size_t left = bench->rows - first, count = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
        if (bench->plugin->add(index, first, bench->vectors + first * bench->format.dim, count))
            fail_because("the plugin does not add rows");
    }
    return clock_seconds() - start;
}

static size_t in_common(const struct kvq_retriever_hit *a, const struct kvq_retriever_hit *b,
                        size_t count) {
    size_t common = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++)
            common += a[i].id == b[j].id;
    return common;
}

static void ask_exact(struct bench *bench, const float *unit, struct kvq_retriever_hit *hits) {
    struct flat_query query = {&bench->format, unit, is_there, bench};
    struct flat_rows rows = {0, bench->vectors, bench->rows, bench->inverse_lengths};
    struct nearest nearest = {.hits = hits, .k = bench->k, .least = -INFINITY};
    flat_scan(&query, &rows, 0, &nearest);
    nearest_sort(&nearest);
}

static void ask_plugin(struct bench *bench, void *index, const float *unit,
                       struct kvq_retriever_hit *hits) {
    struct kvq_retriever_query query = {sizeof query, unit, bench->k, is_there, bench};
    if (bench->plugin->search(index, &query, hits) < 0)
        fail_because("the plugin does not search");
}

static struct answers ask(struct bench *bench, void *index) {
    struct answers answers = {0};
    size_t found = 0;
    for (size_t q = 0; q < bench->queries; q++) {
        struct kvq_retriever_hit hits[K_MOST] = {0}, exact[K_MOST] = {0};
        const float *unit = bench->asked + q * bench->format.dim;
        double start = clock_seconds();
        ask_plugin(bench, index, unit, hits);
        double middle = clock_seconds();
        ask_exact(bench, unit, exact);
        answers.plugin_seconds += middle - start;
        answers.exact_seconds += clock_seconds() - middle;
        found += in_common(hits, exact, bench->k);
    }
    answers.recall = (double)found / (double)(bench->queries * bench->k);
    return answers;
}

static struct answers ask_reloaded(struct bench *bench) {
    char path[] = "/tmp/bench_recall_plugin.XXXXXX";
    int file = mkstemp(path);
    void *index = NULL;
    if (file < 0)
        fail("mkstemp");
    close(file);
    if (bench->plugin->save(bench->index, path) || bench->plugin->open(&bench->options, &index) ||
        bench->plugin->load(index, path))
        fail_because("the plugin does not save and load");
    unlink(path);
    (void)add_all(bench, index);
    struct answers answers = ask(bench, index);
    bench->plugin->close(index);
    return answers;
}

static void run(struct bench *bench) {
    double add_seconds = add_all(bench, bench->index);
    struct answers answers = ask(bench, bench->index);
    json_begin("recall plugin");
    json_string("plugin", bench->plugin->name);
    json_number("rows", (double)bench->rows);
    json_number("dim", bench->format.dim);
    json_number("k", (double)bench->k);
    json_number("added_per_second", (double)bench->rows / add_seconds);
    json_number("bytes", (double)bench->plugin->memory_bytes(bench->index));
    json_number("recall", answers.recall);
    json_number("search_us", 1e6 * answers.plugin_seconds / (double)bench->queries);
    json_number("exact_search_us", 1e6 * answers.exact_seconds / (double)bench->queries);
    bench->removed = bench->rows / REMOVED_SHARE;
    if (bench->plugin->remove(bench->index, 0, bench->removed))
        fail_because("the plugin does not remove rows");
    json_number("recall_after_removal", ask(bench, bench->index).recall);
    if (bench->plugin->save)
        json_number("recall_after_load", ask_reloaded(bench).recall);
    json_end();
}

int main(int argc, char **argv) {
    static struct bench bench;
    (void)argc;
    arguments_parse_alone(argv, arguments, ARGUMENTS);
    void *library = dlopen(arguments[PLUGIN].value, RTLD_NOW);
    bench.plugin = library ? dlsym(library, KVQ_RETRIEVER_SYMBOL) : NULL;
    if (!bench.plugin)
        fail_because("--plugin: %s", dlerror());
    bench.format = (struct vectors_format){argument_number(&arguments[DIM], VECTORS_DIM_MOST),
                                           KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE};
    bench.options =
        (struct kvq_retriever_options){sizeof bench.options, bench.format.dim, bench.format.dtype,
                                       bench.format.metric, arguments[OPTIONS].value};
    bench.rows = argument_number(&arguments[ROWS], 1 << 30);
    bench.queries = argument_number(&arguments[QUERIES], 1 << 20);
    bench.k = argument_number(&arguments[K], K_MOST);
    fill(&bench);
    if (bench.plugin->open(&bench.options, &bench.index))
        fail_because("the plugin does not open an index");
    run(&bench);
    bench.plugin->close(bench.index);
    return 0;
}
