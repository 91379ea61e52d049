/* Append and fetch through libkvq and a daemon, against plain copies and a raw store of the same
 * bytes.
 *
 *   bench_socket KVQUANTD [--transport unix|tcp] [--connections 1,2,8] [--levels exact,fast8,3]
 *                [--shape 8x128|3x64] [--batches N] [--rounds N] [--sessions N]
 *                [--placement any|apart|together] [--memory SIZE]
 *
 * Prints lines of JSON (json_line.h): what copies take, what the raw store takes with buffers of
 * several sizes, and then, for each number of connections and level, the samples of the raw store
 * and of kvq in the same rounds (rounds.h). The rounds are divided into batches, in each of which
 * all numbers of connections and levels have their turn, so that these too can be compared on a
 * machine whose speed changes. Appends settle: the reply comes when all is coded at the level;
 * "@LEVEL" in the list of levels measures the time to the reply without that.
 */
#include "tests/bench/arguments.h"
#include "tests/bench/copies.h"
#include "tests/bench/fail.h"
#include "tests/bench/folder.h"
#include "tests/bench/kvq_store.h"
#include "tests/bench/raw_store.h"
#include "tests/bench/rounds.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS_MAX = 16, COUNTS_MAX = 8, RAW = 0, KVQ = 1 };

struct bench {
    struct workload workload;
    struct raw_store raw;
    struct kvq_daemon daemon;
    const char *transport;
    size_t rounds, count_count, level_count;
    uint32_t counts[COUNTS_MAX]; /* of connections */
    int buffer_bytes[COUNTS_MAX];
    struct kvq_store levels[LEVELS_MAX];
    struct rounds_result results[COUNTS_MAX][LEVELS_MAX][2];
};

static void read_counts(struct bench *bench, const char *list, uint32_t sessions) {
    const char *words[COUNTS_MAX];
    char *copy = strdup(list);
    if (!copy)
        fail("strdup");
    bench->count_count = argument_words(copy, words, COUNTS_MAX);
    for (size_t i = 0; i < bench->count_count; i++) {
        struct argument count = {"--connections", "", words[i]};
        bench->counts[i] = argument_number(&count, sessions);
    }
    free(copy);
}

/* The words stay where they are: levels point into them. */
static void read_levels(struct bench *bench, char *list) {
    const char *words[LEVELS_MAX];
    bench->level_count = argument_words(list, words, LEVELS_MAX);
    for (size_t i = 0; i < bench->level_count; i++) {
        bool settle = words[i][0] != '@';
        bench->levels[i] =
            (struct kvq_store){&bench->daemon, settle ? words[i] : words[i] + 1, settle};
        (void)kvq_level_of(bench->levels[i].level); /* rather now than after the ceilings */
    }
}

static void measure_ceilings(struct bench *bench) {
    for (size_t i = 0; i < bench->count_count; i++) {
        copies_measure(&bench->workload, bench->counts[i], bench->rounds);
        raw_store_tune(&bench->raw, &bench->workload, bench->counts[i]);
        bench->buffer_bytes[i] = bench->raw.buffer_bytes;
    }
}

static void run_batch(struct bench *bench) {
    for (size_t i = 0; i < bench->count_count; i++)
        for (size_t l = 0; l < bench->level_count; l++) {
            struct contender contenders[] = {[RAW] = raw_store_contender(&bench->raw),
                                             [KVQ] = kvq_store_contender(&bench->levels[l])};
            bench->raw.buffer_bytes = bench->buffer_bytes[i];
            rounds_run(&bench->workload, contenders, 2, bench->counts[i], bench->rounds,
                       bench->results[i][l]);
        }
}

static void print(struct bench *bench) {
    for (size_t i = 0; i < bench->count_count; i++)
        for (size_t l = 0; l < bench->level_count; l++) {
            struct contender kvq = kvq_store_contender(&bench->levels[l]);
            struct contender raw = raw_store_contender(&bench->raw);
            raw.level = kvq.level; /* whose neighbour it was */
            raw.variant = kvq.variant;
            rounds_print(&bench->workload, &raw, bench->transport, bench->counts[i],
                         &bench->results[i][l][RAW]);
            rounds_print(&bench->workload, &kvq, bench->transport, bench->counts[i],
                         &bench->results[i][l][KVQ]);
        }
}

int main(int argc, char **argv) {
    enum { TRANSPORT, CONNECTIONS, LEVELS, SHAPE, BATCHES, ROUNDS, SESSIONS, PLACEMENT, MEMORY };
    struct argument arguments[] = {
        {"--transport", "unix", NULL}, {"--connections", "1", NULL}, {"--levels", "fast8", NULL},
        {"--shape", "8x128", NULL},    {"--batches", "1", NULL},     {"--rounds", "5", NULL},
        {"--sessions", "8", NULL},     {"--placement", "any", NULL}, {"--memory", "2G", NULL},
    };
    static struct bench bench;
    const char *program =
        arguments_parse(argc, argv, arguments, sizeof arguments / sizeof *arguments);
    const char *folder = folder_make();
    enum placement placement = placement_of(arguments[PLACEMENT].value);
    unsigned batches = argument_number(&arguments[BATCHES], ROUNDS_MAX);
    uint32_t sessions = argument_number(&arguments[SESSIONS], WORKLOAD_SESSIONS_MAX);
    char *levels = strdup(arguments[LEVELS].value);
    if (!levels)
        fail("strdup");
    bench.transport = arguments[TRANSPORT].value;
    bench.rounds = argument_number(&arguments[ROUNDS], ROUNDS_MAX / batches);
    read_counts(&bench, arguments[CONNECTIONS].value, sessions);
    read_levels(&bench, levels);
    workload_init(&bench.workload, arguments[SHAPE].value, sessions);
    raw_store_start(&bench.raw, bench.transport, folder, &bench.workload, placement);
    kvq_daemon_start(&bench.daemon, program, bench.transport, folder, arguments[MEMORY].value,
                     placement);
    placement_client(placement);
    measure_ceilings(&bench);
    for (unsigned batch = 0; batch < batches; batch++)
        run_batch(&bench);
    print(&bench);
    kvq_daemon_stop(&bench.daemon);
    raw_store_stop(&bench.raw);
    workload_deinit(&bench.workload);
    free(levels);
    return EXIT_SUCCESS;
}
