/* Append and fetch through libkvq and a daemon, against plain copies and a raw store of the same
 * bytes.
 *
 *   bench_socket KVQUANTD [--transport unix|tcp] [--connections N] [--levels exact,fast8,3]
 *                [--shape 8x128|3x64] [--rounds N] [--sessions N] [--placement any|apart|together]
 *
 * Prints lines of JSON (json_line.h): what copies take, what the raw store takes with buffers of
 * several sizes, and then, for each level, the samples of the raw store and of kvq in the same
 * rounds (rounds.h). Appends settle: the reply comes when all is coded at the level; "@LEVEL" in
 * the list of levels measures the time to the reply without that.
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

enum { LEVELS_MAX = 16 };

struct bench {
    struct workload workload;
    struct raw_store raw;
    struct kvq_daemon daemon;
    const char *transport;
    uint32_t connections;
    size_t rounds;
};

static void measure_level(struct bench *bench, const char *level) {
    bool settle = level[0] != '@';
    struct kvq_store store = {&bench->daemon, settle ? level : level + 1, settle};
    struct contender contenders[] = {raw_store_contender(&bench->raw), kvq_store_contender(&store)};
    static struct rounds_result results[2];
    rounds_run(&bench->workload, contenders, 2, bench->connections, bench->rounds, results);
    for (size_t i = 0; i < 2; i++) {
        /* Which level the raw store was a neighbour of. */
        contenders[i].level = store.level;
        contenders[i].variant = contenders[1].variant;
        rounds_print(&bench->workload, &contenders[i], bench->transport, bench->connections,
                     &results[i]);
    }
}

int main(int argc, char **argv) {
    enum { TRANSPORT, CONNECTIONS, LEVELS, SHAPE, ROUNDS, SESSIONS, PLACEMENT, MEMORY, COUNT };
    struct argument arguments[COUNT] = {
        {"--transport", "unix", NULL}, {"--connections", "1", NULL}, {"--levels", "fast8", NULL},
        {"--shape", "8x128", NULL},    {"--rounds", "5", NULL},      {"--sessions", "8", NULL},
        {"--placement", "any", NULL},  {"--memory", "2G", NULL},
    };
    static struct bench bench;
    const char *words[LEVELS_MAX];
    const char *program = arguments_parse(argc, argv, arguments, COUNT);
    const char *folder = folder_make();
    enum placement placement = placement_of(arguments[PLACEMENT].value);
    char *levels = strdup(arguments[LEVELS].value);
    if (!levels)
        fail("strdup");
    size_t level_count = argument_words(levels, words, LEVELS_MAX);
    bench.transport = arguments[TRANSPORT].value;
    bench.rounds = argument_number(&arguments[ROUNDS], ROUNDS_MAX);
    uint32_t sessions = argument_number(&arguments[SESSIONS], WORKLOAD_SESSIONS_MAX);
    bench.connections = argument_number(&arguments[CONNECTIONS], sessions);
    workload_init(&bench.workload, arguments[SHAPE].value, sessions);
    raw_store_start(&bench.raw, bench.transport, folder, &bench.workload, placement);
    kvq_daemon_start(&bench.daemon, program, bench.transport, folder, arguments[MEMORY].value,
                     placement);
    placement_client(placement);
    copies_measure(&bench.workload, bench.connections, bench.rounds);
    raw_store_tune(&bench.raw, &bench.workload, bench.connections);
    for (size_t i = 0; i < level_count; i++)
        measure_level(&bench, words[i]);
    kvq_daemon_stop(&bench.daemon);
    raw_store_stop(&bench.raw);
    workload_deinit(&bench.workload);
    folder_remove(folder);
    free(levels);
    return EXIT_SUCCESS;
}
