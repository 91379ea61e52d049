#include "tests/bench/kvq_store.h"

#include "tests/bench/clock.h"
#include "tests/bench/fail.h"
#include "tests/bench/socket_io.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_SECONDS = 20, RETRY_US = 20000, NAME_BYTES = 32 };

/* --- the daemon --- */

/* A port that was free a moment ago. */
static uint16_t free_port(void) {
    uint16_t port;
    close(listen_on("tcp", "", &port));
    return port;
}

struct start {
    const char *program, *memory, *config;
    enum placement placement;
};

static _Noreturn void run_daemon(const struct kvq_daemon *daemon, const struct start *start) {
    bool tcp = strcmp(daemon->socket, daemon->address) != 0;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    placement_server(start->placement);
    execl(start->program, start->program, "--socket", daemon->socket, "--memory", start->memory,
          "--log-level", "warning", "--config", start->config, "--tcp-token", "no",
          tcp ? "--tcp" : (char *)NULL, daemon->address, (char *)NULL);
    fail(start->program);
}

static struct kvq_client *try_to_connect(const struct kvq_daemon *daemon, int *error) {
    struct kvq_connect_options options = {.size = sizeof options, .socket = daemon->address};
    struct kvq_client *client;
    *error = kvq_connect(&options, &client);
    if (!client)
        fail("kvq_connect");
    return client;
}

static void await(const struct kvq_daemon *daemon) {
    double end = clock_seconds() + START_SECONDS;
    for (;;) {
        int error;
        struct kvq_client *client = try_to_connect(daemon, &error);
        if (error && (waitpid(daemon->pid, NULL, WNOHANG) != 0 || clock_seconds() > end))
            fail_because("kvquantd does not answer: %s", kvq_client_message(client));
        kvq_close(client);
        if (!error)
            return;
        usleep(RETRY_US);
    }
}

static void run(struct kvq_daemon *daemon, const struct start *start) {
    daemon->pid = fork();
    if (daemon->pid < 0)
        fail("fork");
    if (daemon->pid == 0)
        run_daemon(daemon, start);
    await(daemon);
}

void kvq_daemon_start(struct kvq_daemon *daemon, const char *program, const char *transport,
                      const char *folder, const char *memory, enum placement placement) {
    snprintf(daemon->socket, sizeof daemon->socket, "%s/kvquantd.sock", folder);
    if (!strcmp(transport, "tcp"))
        snprintf(daemon->address, sizeof daemon->address, "127.0.0.1:%u", free_port());
    else
        memcpy(daemon->address, daemon->socket, sizeof daemon->address);
    run(daemon, &(struct start){program, memory, "/dev/null", placement});
}

void kvq_daemon_start_configured(struct kvq_daemon *daemon, const char *program, const char *folder,
                                 const char *memory, const char *config) {
    snprintf(daemon->socket, sizeof daemon->socket, "%s/kvquantd.sock", folder);
    memcpy(daemon->address, daemon->socket, sizeof daemon->address);
    run(daemon, &(struct start){program, memory, config, PLACEMENT_ANY});
}

void kvq_daemon_stop(struct kvq_daemon *daemon) {
    kill(daemon->pid, SIGTERM);
    waitpid(daemon->pid, NULL, 0);
}

struct kvq_client *kvq_daemon_connect(const struct kvq_daemon *daemon) {
    int error;
    struct kvq_client *client = try_to_connect(daemon, &error);
    kvq_check(client, error);
    return client;
}

void kvq_check(const struct kvq_client *client, int error) {
    if (error)
        fail_because("%s: %s", kvq_error_name(error), kvq_client_message(client));
}

int kvq_level_of(const char *name) {
    if (!strcmp(name, "exact"))
        return KVQ_LEVEL_EXACT;
    if (!strcmp(name, "fast8"))
        return KVQ_LEVEL_FAST8;
    if (name[0] < '0' || name[0] > '5' || name[1])
        fail_because("no such level: %s", name);
    return name[0] - '0';
}

/* --- the contender --- */

struct kvq_connection {
    const struct kvq_store *store;
    struct kvq_client *client;
};

static void *connect_kvq(void *context) {
    struct kvq_connection *connection = malloc(sizeof *connection);
    if (!connection)
        fail("malloc");
    connection->store = context;
    connection->client = kvq_daemon_connect(connection->store->daemon);
    return connection;
}

static void disconnect_kvq(void *argument) {
    struct kvq_connection *connection = argument;
    kvq_close(connection->client);
    free(connection);
}

static void name_session(char name[NAME_BYTES], const struct kvq_store *store, uint32_t session) {
    snprintf(name, NAME_BYTES, "%s %d %u", store->level, store->settle, session);
}

static void append(void *argument, const struct workload *workload, uint32_t session) {
    struct kvq_connection *connection = argument;
    struct kvq_session_state state;
    char name[NAME_BYTES];
    name_session(name, connection->store, session);
    struct kvq_open_options open = {.size = sizeof open,
                                    .session = name,
                                    .model = "bench",
                                    .geometry = &workload->geometry,
                                    .has_level = true,
                                    .level = kvq_level_of(connection->store->level),
                                    .mode = KVQ_OPEN_NEW};
    kvq_check(connection->client, kvq_open(connection->client, &open, &state));
    struct kvq_append_options options = {.size = sizeof options,
                                         .tokens = workload->tokens,
                                         .k.block = workload->source[session],
                                         .v.block =
                                             workload->source[session] + workload->part_bytes,
                                         .settle = connection->store->settle};
    kvq_check(connection->client, kvq_append(connection->client, &state, &options));
}

static void fetch(void *argument, const struct workload *workload, uint32_t session) {
    struct kvq_connection *connection = argument;
    struct kvq_session_state state;
    char name[NAME_BYTES];
    name_session(name, connection->store, session);
    kvq_check(connection->client, kvq_find(connection->client, name, &state));
    struct kvq_fetch_options options = {.size = sizeof options,
                                        .k.block = workload->target[session],
                                        .v.block =
                                            workload->target[session] + workload->part_bytes};
    kvq_check(connection->client, kvq_fetch(connection->client, &state, &options, NULL));
}

static void clear(void *argument, uint32_t session) {
    struct kvq_connection *connection = argument;
    char name[NAME_BYTES];
    name_session(name, connection->store, session);
    kvq_check(connection->client, kvq_delete(connection->client, name, NULL));
}

/* Memory that is touched ahead for appends to come is no session's. */
static struct contender_memory memory(void *argument) {
    struct kvq_connection *connection = argument;
    struct kvq_stats stats;
    kvq_check(connection->client, kvq_stats(connection->client, &stats));
    return (struct contender_memory){(double)stats.used_bytes,
                                     (double)stats.rss_bytes - (double)stats.memory.warm_bytes};
}

struct contender kvq_store_contender(struct kvq_store *store) {
    return (struct contender){
        .name = "kvq",
        .variant = store->settle ? "settled" : "at once",
        .level = store->level,
        .exact = kvq_level_of(store->level) == KVQ_LEVEL_EXACT,
        .context = store,
        .connect = connect_kvq,
        .disconnect = disconnect_kvq,
        .append = append,
        .fetch = fetch,
        .clear = clear,
        .memory = memory,
    };
}
