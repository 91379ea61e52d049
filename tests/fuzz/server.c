#include "tests/fuzz/server.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/private_memory.h"
#include "daemon/recall/recall.h"
#include "daemon/server/connection.h"
#include "daemon/server/tls_context.h"
#include "tests/fuzz/answers.h"
#include "tests/fuzz/must.h"

enum {
    LEASES = 8,
    PAGE_CACHE_BYTES = 64 << 10,
    DISK_BYTES = 256 << 20,
    RECEIVE_BYTES = 1 << 16,
    TURNS_MOST = 1000,  /* of the loop while something comes back */
    WAITING_TURNS = 10, /* while requests wait: for recall, the keeper, memory */
    CLOSING_TURNS = 5000,
    FREEING_WAITS = 100000,
    INDEX_BYTES_MAX = 64 << 10, /* that the tables of names and blocks keep */
};

static struct server {
    bool started, log_is_set;
    struct store store;
    struct recall *recall;
    struct rpc_daemon rpc;
    struct credentials credentials;
    struct lease_pool leases;
    struct tls_context tls; /* without a certificate */
    _Atomic bool reactor_started;
    struct reactor reactor;
    _Atomic uint64_t stall_ms;
    uv_async_t owner; /* never sent: the reactor has no thread that ends */
    int client;
    bool closed; /* by the daemon */
    struct answers answers;
} server;

static void on_progress(void *context) {
    (void)context;
    if (server.reactor_started)
        reactor_wake(&server.reactor);
}

static void start_store(const char *directory) {
    struct store_options options = {.memory_bytes = SERVER_MEMORY_BYTES,
                                    .fixed_bytes = lease_pool_bytes(LEASES) + REACTOR_BYTES,
                                    .landing_level = PAGE_FAST8,
                                    .codec_threads = 1,
                                    .memory_high_percent = 92,
                                    .memory_low_percent = 88,
                                    .disk = {.directory = directory, .limit_bytes = DISK_BYTES},
                                    .on_progress = on_progress};
    server.recall = recall_new(&(struct recall_options){.on_done = on_progress});
    must(server.recall != NULL, "recall starts");
    options.batch_listener = recall_listener(server.recall);
    must(store_init(&server.store, &options) == 0, "the store starts");
    while (store_is_recovering(&server.store))
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    must(lease_pool_init(&server.leases, LEASES, &server.store.budget, on_progress, NULL) == 0,
         "there is memory for buffers");
}

void server_start(const char *directory) {
    if (!server.log_is_set)
        log_init(LOG_LEVEL_ERROR);
    server.log_is_set = true;
    start_store(directory);
    server.stall_ms = 60000;
    credentials_init(&server.credentials);
    server.rpc = (struct rpc_daemon){
        .page_cache_bytes = PAGE_CACHE_BYTES,
        .store = &server.store,
        .recall = server.recall,
        .budget = &server.store.budget,
        .credentials = &server.credentials,
        .state = RPC_NORMAL,
        .append_wait_ms = 20,
        .request_ms = 60000,
        .default_policy = {.level = 3, .newest_level = PAGE_FAST8, .floor = 4},
    };
    must(reactor_init(&server.reactor, &server.rpc, &server.leases, &server.stall_ms,
                      &server.owner) == 0,
         "the reactor is made");
    server.reactor_started = server.started = true;
}

/* As main.c does it, but for the reactor, which has no thread to wait for. */
void server_stop(void) {
    reactor_drain(&server.reactor, true);
    uv_run(&server.reactor.loop, UV_RUN_DEFAULT);
    keeper_stop(&server.store.keeper);
    must(uv_loop_close(&server.reactor.loop) == 0, "the loop is empty");
    recall_stop(server.recall);
    store_deinit(&server.store);
    recall_free(server.recall);
    server.reactor_started = server.started = false;
    private_memory_free(server.reactor.memory, REACTOR_BYTES + PAGE_CACHE_BYTES);
    reactor_deinit(&server.reactor);
    lease_pool_deinit(&server.leases);
    credentials_deinit(&server.credentials);
}

static void delete_all(struct list *list) {
    struct session *session;
    while ((session = list_after(list, 0))) {
        struct session_discard *discard;
        if (store_delete_session(&server.store, session, NULL, &discard) == STORE_OK) {
            while (session_discard_step(discard))
                ;
            session_discard_free(discard);
        }
        session_unref(session);
    }
}

/* What is reserved and is not the daemon's own, the keeper's or warm memory. */
static uint64_t held_bytes(void) {
    struct store *store = &server.store;
    return store->budget.used_bytes - store->fixed_bytes - store->keeper.budget.limit_bytes -
           pool_warm_bytes(store->pool);
}

/* The keeper may still have to free something. */
static void check_all_is_freed(void) {
    for (int i = 0; i < FREEING_WAITS && held_bytes() > INDEX_BYTES_MAX; i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    must(held_bytes() <= INDEX_BYTES_MAX, "nothing is reserved for sessions that are deleted");
}

void server_reset(void) {
    if (!server.started)
        server_start(NULL);
    delete_all(&server.store.list);
    delete_all(&server.store.chains);
    check_all_is_freed();
    server.rpc.state = RPC_NORMAL;
    must(store_set_limit(&server.store, SERVER_MEMORY_BYTES) == 0, "the limit is the first again");
}

struct metrics_sources server_sources(void) {
    return (struct metrics_sources){.rpc = &server.rpc,
                                    .reactors = &server.reactor,
                                    .reactor_count = 1,
                                    .leases = &server.leases,
                                    .tls = &server.tls,
                                    .tells_names = true};
}

void server_connect(void) {
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0,
         "there are sockets");
    server.client = ends[1];
    server.closed = false;
    answers_begin(&server.answers);
    atomic_fetch_add(&server.rpc.connections, 1);
    connection_new(&server.reactor, (struct arrival){.socket = ends[0]});
}

/* Whether anything came, or the end. */
static bool receive(void) {
    static uint8_t bytes[RECEIVE_BYTES];
    ssize_t count = recv(server.client, bytes, sizeof bytes, 0);
    if (count < 0)
        must(errno == EAGAIN || errno == ECONNRESET, "the client can receive");
    if (count > 0)
        answers_take(&server.answers, bytes, (size_t)count);
    bool ended = count == 0 || (count < 0 && errno == ECONNRESET);
    bool news = count > 0 || (ended && !server.closed);
    server.closed |= ended;
    return news;
}

/* Until nothing comes any more, nor is about to. */
static void serve(void) {
    for (int i = 0; i < TURNS_MOST; i++) {
        uv_run(&server.reactor.loop, UV_RUN_NOWAIT);
        if (!receive() && server.reactor.turns.listed == 0 && server.reactor.writing == 0)
            return;
    }
}

bool server_take(const uint8_t *bytes, size_t count) {
    answers_expect(&server.answers, bytes, count);
    for (int i = 0; count > 0 && i < TURNS_MOST && !server.closed; i++) {
        ssize_t sent = send(server.client, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            break;
        bytes += sent < 0 ? 0 : sent;
        count -= sent < 0 ? 0 : (size_t)sent;
        serve();
        if (sent < 0 && server.reactor.waiting > 0) /* not read before the tick */
            uv_run(&server.reactor.loop, UV_RUN_ONCE);
    }
    return !server.closed;
}

/* Everybody's connections are gone, and what they held. */
static bool is_given_back(void) {
    return !server.reactor.connections && server.leases.free_count == LEASES &&
           server.leases.waiting == 0 && server.reactor.waiting == 0 && server.reactor.writing == 0;
}

void server_disconnect(void) {
    for (int i = 0; i < WAITING_TURNS && server.reactor.waiting > 0 && !server.closed; i++) {
        uv_run(&server.reactor.loop, UV_RUN_ONCE);
        serve();
    }
    close(server.client);
    for (int i = 0; i < CLOSING_TURNS && !is_given_back(); i++)
        uv_run(&server.reactor.loop, UV_RUN_NOWAIT);
    must(is_given_back(), "a client that is gone holds no connection and no buffer");
    must(server.rpc.connections == 0, "connections are counted down");
}
