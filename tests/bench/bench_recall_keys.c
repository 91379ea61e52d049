/* Speed of recall by keys on one core, beside a plain summing read of the same summaries.
 *
 *   bench_recall_keys [--chunks 1000] [--layers 32] [--shape 8x128] [--query-heads 8] [--k 1000]
 *                     [--rounds 7] [--core 0]
 *
 * A session of so many chunks of 128 tokens has summaries, and records on a disk that is not there:
 * nobody asks for them. A sample is the time on the processor of one recall for one query of all
 * layers, or of reading the summaries once, chunk by chunk. A round takes one of each, one after
 * the other: a ratio is of neighbours in time, and the median over rounds is told. The first round
 * is a rehearsal. Prints a line of JSON. KVQ_CPU in the environment chooses the kernels.
 */
#include "daemon/recall/key_kernels.h"
#include "daemon/recall/recall_keys.h"
#include "daemon/store/record_disk.h"
#include "tests/bench/arguments.h"
#include "tests/bench/fail.h"
#include "tests/bench/json_line.h"
#include "tests/bench/summing_read.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MAX = 100, TOKENS = 128, READ_STEP_BYTES = 512, READ_AHEAD_BYTES = 4096 };

static struct {
    struct store store;
    struct geometry geometry;
    struct session *session;
    size_t chunks, rounds, query_heads, k;
    float *queries;
    double recall_seconds[ROUNDS_MAX], read_seconds[ROUNDS_MAX];
} bench;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- the session ---- */

static struct record *absent_record(void) {
    struct record said = {.bytes = 1 << 20, .tokens = TOKENS, .level = 3};
    uint8_t summary[RECORD_SUMMARY_BYTES];
    said.levels[3 - PAGE_LEVEL_MIN].pages = 1;
    record_write_summary(&said, summary);
    struct record *record = record_read_summary(bench.store.pool, &bench.store.budget, summary);
    if (!record)
        fail_because("no memory for a record");
    return record;
}

/* Of values that are as real ones are as far as this goes: centres and steps of any size. */
static void fill(const struct key_summary *summary, uint64_t *random) {
    uint8_t *memory = key_summary_memory(summary);
    for (size_t i = 0; i + 8 <= summary->bytes; i += 8) {
        uint64_t word = next_random(random);
        memcpy(memory + i, &word, sizeof word);
    }
    for (uint32_t layer = 0; layer < bench.geometry.layers; layer++)
        for (uint32_t head = 0; head < bench.geometry.heads; head++) {
            const float scales[2] = {0.02F, 0.004F};
            memcpy(key_summary_layer(summary, &bench.geometry, TOKENS, layer) +
                       head * sizeof scales,
                   scales, sizeof scales);
        }
}

static void add_chunk(size_t i, uint64_t *random) {
    struct store *store = &bench.store;
    struct chunk *chunk = chunk_new(&store->budget, &store->usage, &bench.geometry);
    if (!chunk || key_summary_init(&chunk->summary, store->pool, &store->budget,
                                   key_summary_bytes(&bench.geometry, TOKENS)) != STORE_OK)
        fail_because("no memory for a summary");
    fill(&chunk->summary, random);
    chunk_complete(chunk, absent_record());
    chunk_own(chunk, 3);
    chunk_unref(chunk);
    bench.session->slices[i] =
        (struct slice){.chunk = chunk, .start = i * TOKENS, .tokens = TOKENS, .level = 3};
    bench.session->slice_count = i + 1;
}

static void make_session(void) {
    struct session_state state;
    struct store_open open = {.session = {.text = "bench", .bytes = 5},
                              .model = {.text = "model", .bytes = 5},
                              .geometry = &bench.geometry,
                              .policy = {.level = 3, .floor = 3},
                              .key_summaries = true};
    uint64_t random = 88172645463325252U;
    if (store_open(&bench.store, &open, &state) != STORE_OK)
        fail_because("the session cannot be opened");
    bench.session = store_find(&bench.store, open.session);
    if (session_reserve_slices(bench.session, bench.chunks) != STORE_OK)
        fail_because("no memory for the session");
    for (size_t i = 0; i < bench.chunks; i++)
        add_chunk(i, &random);
    session_set_length(bench.session, bench.chunks * TOKENS, 0);
}

static void make_queries(void) {
    size_t count = (size_t)bench.geometry.layers * bench.query_heads * bench.geometry.head_dim_k;
    uint64_t random = 88172645463325252U;
    bench.queries = calloc(count, sizeof *bench.queries);
    for (size_t i = 0; i < count; i++)
        bench.queries[i] = (float)(int32_t)next_random(&random) * 0x1p-31F;
}

/* ---- what is measured ---- */

static size_t layer_values(void) {
    return bench.query_heads * bench.geometry.head_dim_k;
}

static void put_queries(struct recall_keys *recall) {
    for (uint32_t layer = 0; layer < bench.geometry.layers; layer++)
        if (recall_keys_put(recall, layer, bench.queries + layer * layer_values(),
                            layer_values() * sizeof *bench.queries) != STORE_OK)
            fail_because("the queries are not taken");
}

static double recall_once(void) {
    struct recall_keys *recall;
    struct fetch fetch;
    struct fetch_request wanted = {.session = {.text = "bench", .bytes = 5}};
    const char *fault;
    double start = seconds_now();
    int status = fetch_begin(&bench.store, &wanted, &fetch);
    struct recall_keys_request request = {
        .fetch = &fetch, .queries = (uint32_t)bench.query_heads, .k = (uint32_t)bench.k};
    if (status != STORE_OK ||
        recall_keys_begin(&bench.store, &request, &recall, &fault) != STORE_OK)
        fail_because("the recall cannot begin");
    put_queries(recall);
    while ((status = recall_keys_step(recall)) == STORE_MORE)
        ;
    if (status != STORE_OK)
        fail_because("the recall fails");
    recall_keys_end(recall);
    return seconds_now() - start;
}

static size_t read_bytes(const struct key_summary *summary) {
    return summary->bytes / READ_STEP_BYTES * READ_STEP_BYTES;
}

static double read_once(void) {
    static volatile uint64_t sum; /* nobody may leave the reading out */
    double start = seconds_now();
    for (size_t i = 0; i < bench.chunks; i++) {
        const struct key_summary *summary = &bench.session->slices[i].chunk->summary;
        sum =
            sum + summing_read(key_summary_memory(summary), read_bytes(summary), READ_AHEAD_BYTES);
    }
    return seconds_now() - start;
}

static void play_round(size_t round) {
    double read = read_once(), recall = recall_once();
    if (round == 0)
        return;
    bench.read_seconds[round - 1] = read;
    bench.recall_seconds[round - 1] = recall;
}

/* ---- what is printed ---- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values) {
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, bench.rounds * sizeof *values);
    qsort(sorted, bench.rounds, sizeof *sorted, by_size);
    return (sorted[(bench.rounds - 1) / 2] + sorted[bench.rounds / 2]) / 2;
}

static void print(void) {
    double ratios[ROUNDS_MAX], bytes = 0;
    for (size_t i = 0; i < bench.rounds; i++)
        ratios[i] = bench.read_seconds[i] / bench.recall_seconds[i];
    for (size_t i = 0; i < bench.chunks; i++)
        bytes += (double)read_bytes(&bench.session->slices[i].chunk->summary);
    json_begin("recall keys");
    json_string("kernels", key_kernels()->name);
    json_number("chunks", (double)bench.chunks);
    json_number("layers", bench.geometry.layers);
    json_number("heads", bench.geometry.heads);
    json_number("head_dim", bench.geometry.head_dim_k);
    json_number("query_heads", (double)bench.query_heads);
    json_number("k", (double)bench.k);
    json_number("bytes", bytes);
    json_number("recall_gb_per_second", bytes / median(bench.recall_seconds) / 1e9);
    json_number("read_gb_per_second", bytes / median(bench.read_seconds) / 1e9);
    json_number("recall_of_read", median(ratios));
    json_numbers("recall_seconds", bench.recall_seconds, bench.rounds);
    json_numbers("read_seconds", bench.read_seconds, bench.rounds);
    json_end();
}

/* ---- the command line ---- */

enum { CHUNKS, LAYERS, SHAPE, QUERY_HEADS, K, ROUNDS, CORE, ARGUMENTS };

static struct argument arguments[ARGUMENTS] = {
    {"--chunks", "1000", NULL},   {"--layers", "32", NULL}, {"--shape", "8x128", NULL},
    {"--query-heads", "8", NULL}, {"--k", "1000", NULL},    {"--rounds", "7", NULL},
    {"--core", "0", NULL},
};

static void pin_to(unsigned core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores))
        fail("sched_setaffinity");
}

static void read_arguments(void) {
    struct geometry *geometry = &bench.geometry;
    int end = 0;
    if (sscanf(arguments[SHAPE].value, "%ux%u%n", &geometry->heads, &geometry->head_dim_k, &end) !=
            2 ||
        arguments[SHAPE].value[end] != '\0')
        fail_because("--shape is HEADSxHEAD_DIM");
    geometry->head_dim_v = geometry->head_dim_k;
    geometry->dtype = PAGE_F16;
    geometry->layers = (uint32_t)argument_number(&arguments[LAYERS], 1 << 10);
    bench.chunks = argument_number(&arguments[CHUNKS], 1 << 16);
    bench.query_heads = argument_number(&arguments[QUERY_HEADS], 1 << 10);
    bench.k = argument_number(&arguments[K], RECALL_BLOCKS_MAX);
    bench.rounds = argument_number(&arguments[ROUNDS], ROUNDS_MAX);
}

int main(int argc, char **argv) {
    (void)argc;
    arguments_parse_alone(argv, arguments, ARGUMENTS);
    pin_to((unsigned)strtoul(arguments[CORE].value, NULL, 10));
    read_arguments();
    struct store_options options = {.memory_bytes = (uint64_t)8 << 30,
                                    .landing_level = PAGE_FAST8,
                                    .codec_threads = 1,
                                    .memory_high_percent = 92,
                                    .memory_low_percent = 88};
    if (store_init(&bench.store, &options) != 0)
        fail_because("there is no store");
    make_session();
    make_queries();
    for (size_t round = 0; round <= bench.rounds; round++)
        play_round(round);
    print();
    return 0;
}
