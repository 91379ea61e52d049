/* One append or fetch over several connections of one client: from which size on they gain.
 *
 *   bench_transfer KVQUANTD [--levels exact,fast8] [--rounds N] [--memory SIZE]
 *
 * Prints lines of JSON (json_line.h): for each level, size, operation and number of connections the
 * seconds, and the median of what each sample is of the one over one connection in the same round.
 * Appends settle. Below SHARE_BYTES_MIN (client/c/append_run.c) and RANGE_BYTES_MIN
 * (client/c/fetch.c) a connection libkvq uses fewer than it may: set these to 1 to see why.
 */
#include "tests/bench/arguments.h"
#include "tests/bench/clock.h"
#include "tests/bench/fail.h"
#include "tests/bench/folder.h"
#include "tests/bench/json_line.h"
#include "tests/bench/kv_values.h"
#include "tests/bench/kvq_store.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS_MAX = 8, ROUNDS_MAX = 100, SIZES = 4, COUNTS = 3, OPERATIONS = 2, TOKENS_MAX = 2913 };

static const uint32_t sizes_mib[SIZES] = {8, 16, 32, 64}, counts[COUNTS] = {1, 2, 4};
static const char *const operations[OPERATIONS] = {"append", "fetch"};
static const struct kvq_geometry geometry = {
    .layers = 30, .heads = 3, .head_dim_k = 64, .head_dim_v = 64, .dtype = KVQ_F16};

struct bench {
    struct kvq_client *clients[COUNTS];
    char *k, *v, *target_k, *target_v; /* [layers, TOKENS_MAX, heads, head_dim] */
    unsigned rounds;
    double seconds[OPERATIONS][COUNTS][ROUNDS_MAX];
};

static size_t token_part_bytes(void) {
    return (size_t)geometry.heads * geometry.head_dim_k * 2;
}

static void fill(struct bench *bench) {
    size_t layer_bytes = TOKENS_MAX * token_part_bytes(), bytes = geometry.layers * layer_bytes;
    bench->k = touched_memory(bytes);
    bench->v = touched_memory(bytes);
    bench->target_k = touched_memory(bytes);
    bench->target_v = touched_memory(bytes);
    for (uint32_t layer = 0; layer < geometry.layers; layer++) {
        size_t channels = (size_t)geometry.heads * geometry.head_dim_k;
        kv_values_fill((uint16_t *)(void *)(bench->k + layer * layer_bytes), TOKENS_MAX, channels,
                       2.0f, layer);
        kv_values_fill((uint16_t *)(void *)(bench->v + layer * layer_bytes), TOKENS_MAX, channels,
                       0.2f, 1000 + layer);
    }
}

/* One session made, fetched and deleted over the connections that the client may use. */
static void one_sample(struct bench *bench, const char *level, uint64_t tokens, int count,
                       unsigned round) {
    struct kvq_client *client = bench->clients[count];
    ptrdiff_t layer_stride = (ptrdiff_t)(TOKENS_MAX * token_part_bytes());
    struct kvq_session_state state;
    struct kvq_open_options open = {.size = sizeof open,
                                    .session = "transfer",
                                    .model = "bench",
                                    .geometry = &geometry,
                                    .has_level = true,
                                    .level = kvq_level_of(level),
                                    .mode = KVQ_OPEN_NEW};
    struct kvq_append_options append = {.size = sizeof append,
                                        .tokens = tokens,
                                        .k = {.block = bench->k, .layer_stride = layer_stride},
                                        .v = {.block = bench->v, .layer_stride = layer_stride},
                                        .settle = true};
    struct kvq_fetch_options fetch = {
        .size = sizeof fetch,
        .k = {.block = bench->target_k, .layer_stride = layer_stride},
        .v = {.block = bench->target_v, .layer_stride = layer_stride}};
    kvq_check(client, kvq_open(client, &open, &state));
    double start = clock_seconds();
    kvq_check(client, kvq_append(client, &state, &append));
    double middle = clock_seconds();
    kvq_check(client, kvq_fetch(client, &state, &fetch, NULL));
    bench->seconds[0][count][round] = middle - start;
    bench->seconds[1][count][round] = clock_seconds() - middle;
    kvq_check(client, kvq_delete(client, "transfer", NULL));
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_share(const struct bench *bench, int operation, int count) {
    double shares[ROUNDS_MAX];
    for (unsigned i = 0; i < bench->rounds; i++)
        shares[i] = bench->seconds[operation][count][i] / bench->seconds[operation][0][i];
    qsort(shares, bench->rounds, sizeof *shares, compare);
    return shares[bench->rounds / 2];
}

static void run_size(struct bench *bench, const char *level, uint32_t mib) {
    uint64_t token_bytes = 2 * geometry.layers * token_part_bytes();
    uint64_t tokens = ((uint64_t)mib << 20) / token_bytes + 1;
    for (unsigned round = 0; round < bench->rounds; round++)
        for (int count = 0; count < COUNTS; count++)
            one_sample(bench, level, tokens, count, round);
    for (int operation = 0; operation < OPERATIONS; operation++)
        for (int count = 0; count < COUNTS; count++) {
            json_begin("transfer");
            json_string("level", level);
            json_string("operation", operations[operation]);
            json_number("bytes", (double)(tokens * token_bytes));
            json_number("connections", counts[count]);
            json_number("of_one_connection", median_share(bench, operation, count));
            json_numbers("seconds", bench->seconds[operation][count], bench->rounds);
            json_end();
        }
}

/* Each opens all its connections before the next connects: the daemon deals connections out to its
 * reactors in turn, and two of one client on one reactor gain nothing. */
static void connect_all(struct bench *bench, const struct kvq_daemon *daemon) {
    for (int i = 0; i < COUNTS; i++) {
        struct kvq_connect_options options = {
            .size = sizeof options, .socket = daemon->address, .connections = counts[i]};
        int error = kvq_connect(&options, &bench->clients[i]);
        if (!bench->clients[i])
            fail("kvq_connect");
        kvq_check(bench->clients[i], error);
        one_sample(bench, "fast8", TOKENS_MAX, i, 0);
    }
}

int main(int argc, char **argv) {
    enum { LEVELS, ROUNDS, MEMORY };
    struct argument arguments[] = {
        {"--levels", "exact,fast8", NULL}, {"--rounds", "11", NULL}, {"--memory", "1G", NULL}};
    static struct bench bench;
    struct kvq_daemon daemon;
    const char *words[LEVELS_MAX];
    const char *program =
        arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
    char *levels = strdup(arguments[LEVELS].value);
    if (!levels)
        fail("strdup");
    size_t level_count = argument_words(levels, words, LEVELS_MAX);
    bench.rounds = argument_number(&arguments[ROUNDS], ROUNDS_MAX);
    fill(&bench);
    kvq_daemon_start(&daemon, program, "unix", folder_make(), arguments[MEMORY].value,
                     PLACEMENT_ANY);
    connect_all(&bench, &daemon);
    for (size_t level = 0; level < level_count; level++)
        for (int size = 0; size < SIZES; size++)
            run_size(&bench, words[level], sizes_mib[size]);
    for (int i = 0; i < COUNTS; i++)
        kvq_close(bench.clients[i]);
    kvq_daemon_stop(&daemon);
    free(bench.k);
    free(bench.v);
    free(bench.target_k);
    free(bench.target_v);
    free(levels);
    return EXIT_SUCCESS;
}
