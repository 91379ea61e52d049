/* kvquantd: parse -> set up -> run -> exit. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/config.h"
#include "daemon/base/log.h"
#include "daemon/ops/notify.h"
#include "daemon/server/listeners.h"
#include "daemon/server/reactor.h"
#include "daemon/store/store.h"

enum { REACTORS_MAX = 64, LEASES_LEAST = 8, LEASES_MOST = 64, LEASE_SHARE = 32, USAGE = 2 };

struct kvquantd {
    struct config config;
    struct store store;
    struct rpc_daemon rpc;
    struct lease_pool leases;
    struct reactor reactors[REACTORS_MAX];
    size_t reactor_count; /* those that were started */
    struct listeners listeners;
    struct dealer dealer;
    uv_loop_t loop;
    uv_signal_t on_terminate, on_interrupt;
    uv_timer_t limit; /* of the shutdown */
    uv_async_t ended;
};

static const char usage[] =
    "usage: kvquantd [options]\n"
    "Holds the KV caches of language models, compressed.\n"
    "\n"
    "  --config FILE      read options from FILE (kvquantd.conf documents them)\n"
    "  --socket PATH      listen on this unix socket\n"
    "  --tcp HOST:PORT    listen on this port of the loopback interface, too\n"
    "  --memory SIZE      the memory limit, such as 512M or 8G\n"
    "  --log-level LEVEL  error, warning, info or debug\n"
    "  --check-config     say whether the configuration is valid, and end\n"
    "  --version          print the version\n"
    "  --help             print this\n"
    "\n"
    "Options of the command line override those of the file.\n";

enum action { RUN, CHECK, END_WELL, END_BADLY };

struct arguments {
    const char *config_path, *socket, *tcp, *memory, *log_level;
};

static enum action parse(int count, char **values, struct arguments *arguments) {
    static const struct option long_options[] = {{"config", required_argument, NULL, 'c'},
                                                 {"socket", required_argument, NULL, 's'},
                                                 {"tcp", required_argument, NULL, 't'},
                                                 {"memory", required_argument, NULL, 'm'},
                                                 {"log-level", required_argument, NULL, 'l'},
                                                 {"check-config", no_argument, NULL, 'k'},
                                                 {"version", no_argument, NULL, 'v'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {NULL, 0, NULL, 0}};
    enum action action = RUN;
    int letter;
    while ((letter = getopt_long(count, values, "", long_options, NULL)) != -1) {
        switch (letter) {
        case 'c':
            arguments->config_path = optarg;
            break;
        case 's':
            arguments->socket = optarg;
            break;
        case 't':
            arguments->tcp = optarg;
            break;
        case 'm':
            arguments->memory = optarg;
            break;
        case 'l':
            arguments->log_level = optarg;
            break;
        case 'k':
            action = CHECK;
            break;
        case 'v':
            puts("kvquantd " KVQUANT_VERSION);
            return END_WELL;
        case 'h':
            fputs(usage, stdout);
            return END_WELL;
        default:
            fputs("try kvquantd --help\n", stderr);
            return END_BADLY;
        }
    }
    if (optind == count)
        return action;
    fprintf(stderr, "kvquantd: %s is not an option; try kvquantd --help\n", values[optind]);
    return END_BADLY;
}

static int configure(struct config *config, const struct arguments *arguments) {
    const char *const overrides[][2] = {{"socket", arguments->socket},
                                        {"tcp", arguments->tcp},
                                        {"memory", arguments->memory},
                                        {"log_level", arguments->log_level}};
    char message[800] = "no memory";
    int status = config_init(config);
    if (status == 0 && arguments->config_path)
        status = config_read(config, arguments->config_path, message, sizeof message);
    for (size_t i = 0; status == 0 && i < sizeof overrides / sizeof overrides[0]; i++)
        if (overrides[i][1])
            status = config_set(config, overrides[i][0], overrides[i][1], message, sizeof message);
    if (status == 0)
        status = config_finish(config, message, sizeof message);
    if (status < 0)
        fprintf(stderr, "kvquantd: %s\n", message);
    return status;
}

/* Memory was freed or the keeper got on; from any thread. */
static void on_progress(void *context) {
    struct kvquantd *daemon = context;
    for (size_t i = 0; i < daemon->reactor_count; i++)
        reactor_wake(&daemon->reactors[i]);
}

static size_t lease_count(const struct config *config) {
    uint64_t count = config->memory_bytes / LEASE_SHARE / lease_pool_bytes(1);
    return (size_t)(count < LEASES_LEAST  ? LEASES_LEAST
                    : count > LEASES_MOST ? LEASES_MOST
                                          : count);
}

static int set_up_store(struct kvquantd *daemon) {
    const struct config *config = &daemon->config;
    struct store_options options = {
        .memory_bytes = config->memory_bytes,
        .fixed_bytes = lease_pool_bytes(lease_count(config)) + config->reactors * REACTOR_BYTES,
        .landing_level = (int)config->landing_level + PAGE_LEVEL_MIN,
        .on_progress = on_progress,
        .context = daemon,
    };
    if (lease_pool_init(&daemon->leases, lease_count(config), &daemon->store.budget, on_progress,
                        daemon) < 0) {
        log_error("no memory for the connections' buffers");
        return -1;
    }
    return store_init(&daemon->store, &options);
}

static int set_up_server(struct kvquantd *daemon) {
    const struct config *config = &daemon->config;
    if (listeners_init(&daemon->listeners, config) < 0)
        return -1;
    daemon->rpc = (struct rpc_daemon){
        .store = &daemon->store,
        .budget = &daemon->store.budget,
        .sockets = daemon->listeners.names,
        .socket_count = daemon->listeners.count,
        .started_ns = clock_now_ns(),
        .append_wait_ms = (uint32_t)config->append_wait_ms,
        .default_level = (int)config->level + PAGE_LEVEL_MIN,
    };
    for (size_t i = 0; i < config->reactors; i++) {
        if (reactor_start(&daemon->reactors[i], &daemon->rpc, &daemon->leases,
                          config->stall_ms * CLOCK_NS_PER_MS, &daemon->ended) < 0)
            return -1;
        daemon->reactor_count++;
    }
    daemon->dealer = (struct dealer){.reactors = daemon->reactors,
                                     .reactor_count = daemon->reactor_count,
                                     .connections_max = config->connections};
    return listeners_start(&daemon->listeners, &daemon->loop, &daemon->dealer);
}

static void drain(struct kvquantd *daemon, bool abandon) {
    for (size_t i = 0; i < daemon->reactor_count; i++)
        reactor_drain(&daemon->reactors[i], abandon);
}

static void on_limit(uv_timer_t *timer) {
    log_warning("some requests did not end in time; they are dropped");
    drain(timer->data, true);
}

static void on_signal(uv_signal_t *handle, int signal) {
    struct kvquantd *daemon = handle->data;
    if (uv_is_active((uv_handle_t *)&daemon->limit))
        return;
    log_info("%s: finishing what runs", signal == SIGTERM ? "SIGTERM" : "SIGINT");
    notify_stopping();
    listeners_stop(&daemon->listeners);
    uv_timer_start(&daemon->limit, on_limit, daemon->config.shutdown_ms, 0);
    drain(daemon, false);
}

/* Signals come to the main thread, and only while its loop has handlers for them. */
static void take_signals(int how) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(how, &signals, NULL);
}

/* A reactor's thread has ended. */
static void on_ended(uv_async_t *handle) {
    struct kvquantd *daemon = handle->data;
    for (size_t i = 0; i < daemon->reactor_count; i++)
        if (!reactor_has_ended(&daemon->reactors[i]))
            return;
    if (uv_is_closing((uv_handle_t *)&daemon->ended))
        return;
    take_signals(SIG_BLOCK);
    uv_close((uv_handle_t *)&daemon->ended, NULL);
    uv_close((uv_handle_t *)&daemon->limit, NULL);
    uv_close((uv_handle_t *)&daemon->on_terminate, NULL);
    uv_close((uv_handle_t *)&daemon->on_interrupt, NULL);
    listeners_stop(&daemon->listeners);
}

static int set_up_loop(struct kvquantd *daemon) {
    if (uv_loop_init(&daemon->loop) < 0)
        return -1;
    uv_async_init(&daemon->loop, &daemon->ended, on_ended);
    uv_timer_init(&daemon->loop, &daemon->limit);
    uv_signal_init(&daemon->loop, &daemon->on_terminate);
    uv_signal_init(&daemon->loop, &daemon->on_interrupt);
    daemon->ended.data = daemon->limit.data = daemon;
    daemon->on_terminate.data = daemon->on_interrupt.data = daemon;
    uv_signal_start(&daemon->on_terminate, on_signal, SIGTERM);
    uv_signal_start(&daemon->on_interrupt, on_signal, SIGINT);
    return 0;
}

static void announce(const struct kvquantd *daemon) {
    char sockets[256] = "";
    for (size_t i = 0, at = 0; i < daemon->listeners.count && at < sizeof sockets; i++)
        at += (size_t)snprintf(sockets + at, sizeof sockets - at, "%s%s", i ? ", " : "",
                               daemon->listeners.names[i]);
    char status[400];
    snprintf(status, sizeof status, "Listening on %s; memory limit %llu MiB", sockets,
             (unsigned long long)daemon->config.memory_bytes >> 20);
    log_info("version %s, %s", KVQUANT_VERSION, status);
    notify_ready(status);
}

/* Ends the reactors, waits for them and the loop, and frees all. Non-zero if a loop was not empty.
 */
static int tear_down(struct kvquantd *daemon) {
    int left = 0;
    drain(daemon, true);
    if (daemon->reactor_count == 0)
        on_ended(&daemon->ended);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    keeper_stop(&daemon->store.keeper); /* the last other thread that wakes reactors */
    for (size_t i = 0; i < daemon->reactor_count; i++)
        left |= reactor_join(&daemon->reactors[i]);
    daemon->reactor_count = 0;
    left |= uv_loop_close(&daemon->loop);
    listeners_deinit(&daemon->listeners);
    store_deinit(&daemon->store);
    lease_pool_deinit(&daemon->leases);
    if (left)
        log_error("an event loop was not empty at the end");
    return left;
}

static int run(struct kvquantd *daemon) {
    signal(SIGPIPE, SIG_IGN);
    take_signals(SIG_BLOCK); /* the threads that follow inherit it */
    if (set_up_loop(daemon) < 0) {
        log_error("no event loop");
        return EXIT_FAILURE;
    }
    int status = set_up_store(daemon) == 0 && set_up_server(daemon) == 0 ? 0 : -1;
    if (status == 0) {
        announce(daemon);
        take_signals(SIG_UNBLOCK);
        uv_run(&daemon->loop, UV_RUN_DEFAULT);
    }
    int left = tear_down(daemon);
    if (status == 0)
        log_info("ended");
    return status == 0 && left == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int count, char **values) {
    static struct kvquantd daemon;
    struct arguments arguments = {0};
    enum action action = parse(count, values, &arguments);
    if (action == END_WELL || action == END_BADLY)
        return action == END_WELL ? EXIT_SUCCESS : USAGE;
    int status = configure(&daemon.config, &arguments) == 0 ? EXIT_SUCCESS : USAGE;
    if (status == EXIT_SUCCESS && action == RUN) {
        log_init((enum log_level)daemon.config.log_level);
        status = run(&daemon);
    } else if (status == EXIT_SUCCESS) {
        puts("the configuration is valid");
    }
    config_deinit(&daemon.config);
    return status;
}
