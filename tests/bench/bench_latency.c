/* How long one small thing takes: a ping, appending one token, fetching 128 tokens.
 *
 *   bench_latency KVQUANTD [--transport unix|tcp] [--placement any|apart|together] [--blocks N]
 *                 [--pings N] [--tokens N] [--fetches N]
 *
 * The model has 32 layers, 8 heads of 128 dims and float16: a token is 128 KiB, 128 tokens 16 MiB.
 * The raw store does the same with the same bytes: a ping is 24 bytes each way, as ours. Work is in
 * blocks, the raw store's and ours in turn, so that a machine that is slower for a while is so for
 * both. Prints lines of JSON (json_line.h) with what 50 and 99 of 100 take at most, over all
 * blocks, and the blocks' own medians.
 */
#include "proto/wire/frame.h"
#include "tests/bench/arguments.h"
#include "tests/bench/clock.h"
#include "tests/bench/fail.h"
#include "tests/bench/folder.h"
#include "tests/bench/json_line.h"
#include "tests/bench/kvq_store.h"
#include "tests/bench/raw_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 128, BLOCKS_MAX = 1000, SAMPLES_MAX = 1000000, RAW = 0, KVQ = 1 };

struct bench {
    struct workload workload; /* one session */
    struct raw_store raw;
    struct kvq_daemon daemon;
    void *raw_connection;
    struct kvq_client *client;
    struct kvq_session_state state;
    enum placement placement;
    const char *transport;
    size_t blocks;
};

/* What one side takes for one operation. Samples are told in seconds. */
struct side {
    double *samples; /* of all blocks; later sorted */
    size_t count;
    double medians[BLOCKS_MAX]; /* of each block */
};

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The first `of 100` of sorted samples end here. */
static double quantile(const double *sorted, size_t count, size_t of_100) {
    size_t index = count * of_100 / 100;
    return sorted[index < count ? index : count - 1];
}

static double median_of(const double *samples, size_t count) {
    double *sorted = malloc(count * sizeof *sorted);
    if (!sorted)
        fail("malloc");
    memcpy(sorted, samples, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    double median = quantile(sorted, count, 50);
    free(sorted);
    return median;
}

/* --- the operations, each of both sides; `last` ends a block --- */

static void raw_ping(struct bench *bench, bool last) {
    raw_store_ping(bench->raw_connection, WIRE_HEADER_BYTES, last);
}

static void kvq_ping_once(struct bench *bench, bool last) {
    (void)last;
    kvq_check(bench->client, kvq_ping(bench->client));
}

static size_t token_bytes(const struct bench *bench) {
    return bench->workload.session_bytes / bench->workload.tokens;
}

static void raw_append(struct bench *bench, bool last) {
    (void)last;
    raw_store_append_bytes(bench->raw_connection, bench->workload.source[0], token_bytes(bench),
                           token_bytes(bench));
}

static void kvq_append_token(struct bench *bench, bool last) {
    const struct workload *workload = &bench->workload;
    size_t layer_bytes = workload->part_bytes / workload->geometry.layers;
    size_t at = bench->state.tokens % workload->tokens * (layer_bytes / workload->tokens);
    (void)last;
    struct kvq_append_options options = {
        .size = sizeof options,
        .first = KVQ_AT_END,
        .tokens = 1,
        .k = {.block = workload->source[0] + at, .layer_stride = (ptrdiff_t)layer_bytes},
        .v = {.block = workload->source[0] + workload->part_bytes + at,
              .layer_stride = (ptrdiff_t)layer_bytes}};
    kvq_check(bench->client, kvq_append(bench->client, &bench->state, &options));
}

static void raw_fetch(struct bench *bench, bool last) {
    (void)last;
    raw_store_fetch_bytes(bench->raw_connection, bench->workload.target[0],
                          TOKENS * token_bytes(bench), bench->workload.page_bytes);
}

static void kvq_fetch_tokens(struct bench *bench, bool last) {
    (void)last;
    struct kvq_fetch_options options = {.size = sizeof options,
                                        .end = TOKENS,
                                        .k.block = bench->workload.target[0],
                                        .v.block =
                                            bench->workload.target[0] + bench->workload.part_bytes};
    kvq_check(bench->client, kvq_fetch(bench->client, &bench->state, &options, NULL));
}

/* --- measuring --- */

static void run_block(struct bench *bench, struct side *side, size_t block, size_t samples,
                      void (*once)(struct bench *, bool)) {
    double *first = side->samples + side->count;
    for (size_t i = 0; i < samples; i++) {
        double start = clock_seconds();
        once(bench, i + 1 == samples);
        side->samples[side->count++] = clock_seconds() - start;
    }
    side->medians[block] = median_of(first, samples);
}

static void print_side(const struct bench *bench, const char *contender, const char *operation,
                       const char *level, struct side *side) {
    qsort(side->samples, side->count, sizeof *side->samples, compare);
    json_begin("latency");
    json_string("contender", contender);
    json_string("operation", operation);
    json_string("level", level);
    json_string("transport", bench->transport);
    json_string("placement", placement_name(bench->placement));
    json_number("samples", (double)side->count);
    json_number("p50_us", 1e6 * quantile(side->samples, side->count, 50));
    json_number("p99_us", 1e6 * quantile(side->samples, side->count, 99));
    json_number("max_us", 1e6 * side->samples[side->count - 1]);
    json_numbers("block_medians", side->medians, bench->blocks);
    json_end();
}

static void measure(struct bench *bench, const char *operation, const char *level, size_t samples,
                    void (*raw)(struct bench *, bool), void (*kvq)(struct bench *, bool)) {
    struct side sides[2];
    if (samples == 0 || samples * bench->blocks > SAMPLES_MAX)
        fail_because("too many samples, or fewer than one a block");
    for (int i = 0; i < 2; i++) {
        sides[i].count = 0;
        sides[i].samples = malloc(samples * bench->blocks * sizeof *sides[i].samples);
        if (!sides[i].samples)
            fail("malloc");
    }
    for (size_t block = 0; block < bench->blocks; block++) {
        if (raw == raw_ping)
            raw_store_begin_pings(bench->raw_connection, WIRE_HEADER_BYTES);
        run_block(bench, &sides[RAW], block, samples, raw);
        run_block(bench, &sides[KVQ], block, samples, kvq);
    }
    print_side(bench, "raw", operation, level, &sides[RAW]);
    print_side(bench, "kvq", operation, level, &sides[KVQ]);
    free(sides[RAW].samples);
    free(sides[KVQ].samples);
}

/* --- sessions --- */

static void open_session(struct bench *bench, const char *level) {
    struct kvq_open_options open = {.size = sizeof open,
                                    .session = level,
                                    .model = "bench",
                                    .geometry = &bench->workload.geometry,
                                    .has_level = true,
                                    .level = kvq_level_of(level),
                                    .mode = KVQ_OPEN_NEW};
    kvq_check(bench->client, kvq_open(bench->client, &open, &bench->state));
}

static void measure_append(struct bench *bench, size_t samples) {
    open_session(bench, "3");
    measure(bench, "append 1 token", "3", samples, raw_append, kvq_append_token);
    kvq_check(bench->client, kvq_delete(bench->client, "3", NULL));
}

static void measure_fetch(struct bench *bench, const char *level, size_t samples) {
    open_session(bench, level);
    struct kvq_append_options options = {.size = sizeof options,
                                         .tokens = bench->workload.tokens,
                                         .k.block = bench->workload.source[0],
                                         .v.block =
                                             bench->workload.source[0] + bench->workload.part_bytes,
                                         .settle = true};
    kvq_check(bench->client, kvq_append(bench->client, &bench->state, &options));
    measure(bench, "fetch 128 tokens", level, samples, raw_fetch, kvq_fetch_tokens);
    kvq_check(bench->client, kvq_delete(bench->client, level, NULL));
}

int main(int argc, char **argv) {
    enum { TRANSPORT, PLACEMENT, BLOCKS, PINGS, APPENDS, FETCHES, COUNT };
    struct argument arguments[COUNT] = {
        {"--transport", "unix", NULL}, {"--placement", "any", NULL}, {"--blocks", "40", NULL},
        {"--pings", "250", NULL},      {"--tokens", "32", NULL},     {"--fetches", "5", NULL},
    };
    static struct bench bench;
    const char *program = arguments_parse(argc, argv, arguments, COUNT);
    const char *folder = folder_make();
    bench.transport = arguments[TRANSPORT].value;
    bench.placement = placement_of(arguments[PLACEMENT].value);
    bench.blocks = argument_number(&arguments[BLOCKS], BLOCKS_MAX);
    workload_init(&bench.workload, "8x128", 1);
    raw_store_start(&bench.raw, bench.transport, folder, &bench.workload, bench.placement);
    kvq_daemon_start(&bench.daemon, program, bench.transport, folder, "1G", bench.placement);
    placement_client(bench.placement);
    struct contender raw = raw_store_contender(&bench.raw);
    bench.raw_connection = raw.connect(raw.context);
    bench.client = kvq_daemon_connect(&bench.daemon);
    size_t fetches = argument_number(&arguments[FETCHES], SAMPLES_MAX);
    measure(&bench, "ping", "", argument_number(&arguments[PINGS], SAMPLES_MAX), raw_ping,
            kvq_ping_once);
    measure_append(&bench, argument_number(&arguments[APPENDS], SAMPLES_MAX));
    measure_fetch(&bench, "fast8", fetches);
    measure_fetch(&bench, "3", fetches);
    measure_fetch(&bench, "exact", fetches);
    raw.disconnect(bench.raw_connection);
    kvq_close(bench.client);
    kvq_daemon_stop(&bench.daemon);
    raw_store_stop(&bench.raw);
    workload_deinit(&bench.workload);
    return EXIT_SUCCESS;
}
