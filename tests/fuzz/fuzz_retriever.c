/* libFuzzer: any answers of a retriever plugin, from which what is found must be right all the
 * same.
 *
 * The first two bytes say how many hits are asked for, and of which rows; the rest is what the
 * plugin answers (tests/plugins/answering.c), one search after the other.
 */
#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/recall/plugin.h"
#include "daemon/recall/retriever.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/must.h"

/* So many bytes that the plugin is asked. */
enum { DIM = 4096, BATCHES = 2, ROWS = 140, FIRST_ID = 256, K_MOST = 32, SEARCHES = 4 };

static struct {
    struct plugin *plugin;
    struct retriever *retriever;
    const uint8_t *_Atomic *answers;
    _Atomic size_t *answers_count;
} tried;

static float vectors[BATCHES][ROWS][DIM], question[DIM];
static float scores[BATCHES][ROWS];
static size_t every; /* such a row is wanted */

static void released(void *context, void *batch) {
    (void)context;
    (void)batch;
}

static void fill(float *to, size_t count, uint32_t *state) {
    for (size_t i = 0; i < count; i++) {
        *state = *state * 1664525u + 1013904223u;
        to[i] = (float)(*state >> 8) / (1 << 23) - 1;
    }
}

static const char *plugin_path(void) {
    static char path[4096];
    char program[2048] = {0};
    must(readlink("/proc/self/exe", program, sizeof program - 1) > 0, "the program has a path");
    *strrchr(program, '/') = '\0'; /* tests/fuzz */
    snprintf(path, sizeof path, "%s/../plugins/answering.so", program);
    return path;
}

static struct retriever *retriever_with(struct plugin *plugin) {
    struct retriever_options options = {.format = {DIM, KVQ_RETRIEVER_F32, KVQ_RETRIEVER_COSINE},
                                        .plugin = plugin,
                                        .name = "model",
                                        .name_bytes = 5,
                                        .released = released};
    struct retriever *retriever = retriever_new(&options);
    must(retriever != NULL, "there is memory");
    for (size_t b = 0; b < BATCHES; b++)
        must(retriever_add(retriever, vectors[b], b * FIRST_ID, vectors[b], ROWS) == 0,
             "there is memory");
    return retriever;
}

static bool is_wanted(void *context, void *batch, size_t row) {
    (void)context;
    (void)batch;
    return row % every == 0;
}

static size_t search(struct retriever *retriever, size_t k, struct kvq_retriever_hit *hits) {
    struct retriever_query query = {
        .vector = question, .k = k, .min_score = -INFINITY, .row_wanted = is_wanted};
    ptrdiff_t count = retriever_search(retriever, &query, hits);
    must(count >= 0 && (size_t)count <= k, "there are as many as were asked for at most");
    return (size_t)count;
}

/* What each row's score is, by the exact index. */
static void learn_scores(void) {
    struct kvq_retriever_hit hits[BATCHES * ROWS];
    struct retriever *exact = retriever_with(NULL);
    every = 1;
    must(search(exact, BATCHES * ROWS, hits) == BATCHES * ROWS, "all rows are found");
    for (size_t i = 0; i < BATCHES * ROWS; i++)
        scores[hits[i].id / FIRST_ID][hits[i].id % FIRST_ID] = hits[i].score;
    retriever_free(exact);
}

static void begin(void) {
    uint32_t state = 1;
    log_init(LOG_LEVEL_ERROR);
    log_set_level((enum log_level) - 1); /* each time that a plugin is switched off */
    fill(&vectors[0][0][0], sizeof vectors / sizeof(float), &state);
    fill(question, DIM, &state);
    learn_scores();
    void *library = dlopen(plugin_path(), RTLD_NOW);
    must(library != NULL, "the plugin is there");
    tried.answers = dlsym(library, "answering_bytes");
    tried.answers_count = dlsym(library, "answering_count");
}

static void load(void) {
    char message[256];
    struct plugin_options options = {.path_and_options = plugin_path(), .timeout_ms = 600000};
    tried.plugin = plugin_load(&options, message, sizeof message);
    must(tried.plugin != NULL, message);
    tried.retriever = retriever_with(tried.plugin);
    while (retriever_usage(tried.retriever).plugin_rows < BATCHES * ROWS)
        usleep(100);
}

static void unload(void) {
    retriever_free(tried.retriever);
    plugin_free(tried.plugin);
    tried.plugin = NULL;
}

static void check(const struct kvq_retriever_hit *hits, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t batch = hits[i].id / FIRST_ID, row = hits[i].id % FIRST_ID;
        must(batch < BATCHES && row < ROWS, "a hit is a row that there is");
        must(row % every == 0, "a hit is wanted");
        must(hits[i].score == scores[batch][row], "a hit has its own score");
        must(i == 0 || hits[i - 1].score > hits[i].score ||
                 (hits[i - 1].score == hits[i].score && hits[i - 1].id < hits[i].id),
             "the best comes first, and none twice");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct kvq_retriever_hit hits[K_MOST];
    if (length < 2)
        return 0;
    if (!tried.answers)
        begin();
    if (!tried.plugin)
        load();
    every = 1 + bytes[1] % 3;
    *tried.answers_count = 0;
    *tried.answers = bytes + 2;
    *tried.answers_count = length - 2;
    for (int i = 0; i < SEARCHES; i++)
        check(hits, search(tried.retriever, 1 + bytes[0] % K_MOST, hits));
    if (!plugin_status(tried.plugin).on)
        unload();
    return 0;
}
