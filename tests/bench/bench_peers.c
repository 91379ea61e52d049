/* Redis and memcached at the work of bench_socket: the same sessions, beside a raw socket and kvq.
 *
 *   bench_peers KVQUANTD [--connections N] [--rounds N] [--sessions N]
 *
 * All of them take turns in every round (rounds.h), over unix sockets, each neighbour with several
 * settings and sizes of value. Prints lines of JSON (json_line.h): for each server its command
 * line, then the samples, with the memory that the sessions took in each.
 */
#include "tests/bench/arguments.h"
#include "tests/bench/folder.h"
#include "tests/bench/json_line.h"
#include "tests/bench/kvq_store.h"
#include "tests/bench/raw_store.h"
#include "tests/bench/rounds.h"
#include "tests/bench/text_store.h"

#include <stdlib.h>

static struct text_store peers[] = {
    {.protocol = &text_protocol_redis, .variant = "pages", .in_flight = 1},
    {.protocol = &text_protocol_redis, .variant = "pages, 4 in flight", .in_flight = 4},
    {.protocol = &text_protocol_redis,
     .variant = "pages, 4 in flight, 2 I/O threads",
     .settings = "--io-threads 2 --io-threads-do-reads yes",
     .in_flight = 4},
    {.protocol = &text_protocol_redis, .variant = "chunks", .chunks = true, .in_flight = 1},
    {.protocol = &text_protocol_memcached, .variant = "pages", .in_flight = 1},
    {.protocol = &text_protocol_memcached, .variant = "pages, 8 in flight", .in_flight = 8},
    {.protocol = &text_protocol_memcached,
     .variant = "pages, 8 in flight, -I 32m",
     .settings = "-I 32m",
     .in_flight = 8},
    {.protocol = &text_protocol_memcached,
     .variant = "chunks, -I 32m",
     .settings = "-I 32m",
     .chunks = true,
     .in_flight = 1},
};
static const char *const levels[] = {"fast8", "3", "exact"};

enum { PEERS = sizeof peers / sizeof *peers, LEVELS = sizeof levels / sizeof *levels };
enum { CONTENDERS = 1 + LEVELS + PEERS };

struct bench {
    struct workload workload;
    struct raw_store raw;
    struct kvq_daemon daemon;
    struct kvq_store stores[LEVELS];
};

static void print_peer(const struct text_store *store) {
    json_begin("peer");
    json_string("contender", store->protocol->name);
    json_string("variant", store->variant);
    json_string("program", store->protocol->program);
    json_string("settings", store->protocol->settings);
    json_string("own_settings", store->settings ? store->settings : "");
    json_number("in_flight", (double)store->in_flight);
    json_number("buffer_bytes", store->buffer_bytes);
    json_end();
}

static void enter(struct bench *bench, const char *folder, struct contender *contenders) {
    contenders[0] = raw_store_contender(&bench->raw);
    for (size_t i = 0; i < LEVELS; i++) {
        bench->stores[i] = (struct kvq_store){&bench->daemon, levels[i], true};
        contenders[1 + i] = kvq_store_contender(&bench->stores[i]);
    }
    for (size_t i = 0; i < PEERS; i++) {
        peers[i].buffer_bytes = bench->raw.buffer_bytes;
        text_store_start(&peers[i], folder);
        print_peer(&peers[i]);
        contenders[1 + LEVELS + i] = text_store_contender(&peers[i]);
    }
}

int main(int argc, char **argv) {
    struct argument arguments[] = {
        {"--connections", "1", NULL}, {"--rounds", "5", NULL}, {"--sessions", "8", NULL}};
    static struct bench bench;
    static struct rounds_result results[CONTENDERS];
    struct contender contenders[CONTENDERS];
    const char *program = arguments_parse(argc, argv, arguments, 3);
    const char *folder = folder_make();
    uint32_t sessions = argument_number(&arguments[2], WORKLOAD_SESSIONS_MAX);
    uint32_t connections = argument_number(&arguments[0], sessions);
    size_t rounds = argument_number(&arguments[1], ROUNDS_MAX);
    workload_init(&bench.workload, "8x128", sessions);
    raw_store_start(&bench.raw, "unix", folder, &bench.workload, PLACEMENT_ANY);
    kvq_daemon_start(&bench.daemon, program, "unix", folder, "2G", PLACEMENT_ANY);
    raw_store_tune(&bench.raw, &bench.workload, connections);
    enter(&bench, folder, contenders);
    rounds_run(&bench.workload, contenders, CONTENDERS, connections, rounds, results);
    for (size_t i = 0; i < CONTENDERS; i++)
        rounds_print(&bench.workload, &contenders[i], "unix", connections, &results[i]);
    for (size_t i = 0; i < PEERS; i++)
        text_store_stop(&peers[i]);
    kvq_daemon_stop(&bench.daemon);
    raw_store_stop(&bench.raw);
    workload_deinit(&bench.workload);
    return EXIT_SUCCESS;
}
