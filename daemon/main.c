/* kvquantd: parse -> set up -> run -> exit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/base/cgroup.h"
#include "daemon/base/clock.h"
#include "daemon/base/command_line.h"
#include "daemon/base/inherited.h"
#include "daemon/base/log.h"
#include "daemon/ops/keeping.h"
#include "daemon/ops/manual.h"
#include "daemon/ops/monitor.h"
#include "daemon/ops/notify.h"
#include "daemon/ops/reload.h"
#include "daemon/ops/status.h"
#include "daemon/ops/watchdog.h"
#include "daemon/recall/plugin.h"
#include "daemon/recall/recall.h"
#include "daemon/server/listeners.h"
#include "daemon/server/reactor.h"
#include "daemon/server/tls_context.h"
#include "daemon/store/saving.h"
#include "daemon/store/store.h"

enum { CODEC_THREADS_MOST = 64, RECODER_SHARE = 16 };
enum { REACTORS_MAX = 64, LEASES_LEAST = 8, LEASES_MOST = 64, LEASE_SHARE = 32, USAGE = 2 };
enum {
    OUTSIDE_BYTES = 64 << 20
}; /* of `memory`: the program, its threads' stacks, the kernel's own */
enum { PAGE_CACHES_SHARE = 64, PAGE_CACHE_BYTES_MOST = 16 << 20 };

struct kvquantd {
    struct command_line line;
    struct config config;
    struct inherited inherited;
    struct keeping keeping;
    struct store store;
    struct plugin *plugin; /* NULL: none */
    struct recall *recall;
    struct rpc_daemon rpc;
    struct credentials credentials;
    struct tls_context tls;
    struct tenant_quota *quotas; /* that were read, and not set yet */
    size_t quota_count;
    struct lease_pool leases;
    struct reactor reactors[REACTORS_MAX];
    _Atomic size_t reactor_count; /* those that were started; the store's threads wake them */
    struct listeners listeners;
    struct dealer dealer;
    uv_loop_t loop;
    uv_signal_t on_terminate, on_interrupt, on_hangup;
    uv_timer_t limit;          /* of the shutdown */
    uv_async_t told;           /* by a reactor */
    _Atomic uint64_t stall_ms; /* the reactors' */
    struct watchdog watchdog;
    struct status status;
    struct monitor monitor;
    char sockets[256];   /* in words */
    bool stored, served; /* the store is there; and is served */
};

/* Memory was freed or the keeper got on; from any thread. */
static void on_progress(void *context) {
    struct kvquantd *daemon = context;
    for (size_t i = 0; i < daemon->reactor_count; i++)
        reactor_wake(&daemon->reactors[i]);
    status_changed(&daemon->status);
}

static size_t lease_count(const struct config *config) {
    uint64_t count = config->memory_bytes / LEASE_SHARE / lease_pool_bytes(1);
    return (size_t)(count < LEASES_LEAST  ? LEASES_LEAST
                    : count > LEASES_MOST ? LEASES_MOST
                                          : count);
}

/* A chunk of 32 layers of 8 heads of 128 fits into the largest. */
static size_t page_cache_bytes(const struct config *config) {
    uint64_t bytes = config->memory_bytes / PAGE_CACHES_SHARE / config->reactors;
    return (size_t)(bytes < PAGE_CACHE_BYTES_MOST ? bytes / 64 * 64 : PAGE_CACHE_BYTES_MOST);
}

/* What the daemon takes ahead, apart from the store. */
static uint64_t own_bytes(const struct config *config) {
    return lease_pool_bytes(lease_count(config)) +
           config->reactors * (REACTOR_BYTES + page_cache_bytes(config)) +
           (config->metrics ? MONITOR_BYTES : 0) + tls_context_bytes(config);
}

/* 0 means as many as leave a processor to the reactors, where memory is not short. */
static size_t codec_threads(const struct config *config) {
    uint64_t cores = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t most = config->memory_bytes / RECODER_SHARE / RECODER_BYTES;
    uint64_t count = cores - 1 < most ? cores - 1 : most;
    if (config->codec_threads > 0)
        return (size_t)config->codec_threads;
    return count < 1 ? 1 : count < CODEC_THREADS_MOST ? (size_t)count : (size_t)CODEC_THREADS_MOST;
}

/* What the daemon itself needs, were that its limit: its buffers grow with the limit. */
static uint64_t needed_bytes(const struct config *config) {
    struct config least = *config;
    for (;;) {
        uint64_t bytes = own_bytes(&least) + store_empty_bytes(codec_threads(&least));
        if (bytes <= least.memory_bytes)
            return least.memory_bytes;
        least.memory_bytes = ((bytes >> 20) + 1) << 20;
    }
}

/* 0, or -1 with what is wrong in message; then what was there before still holds. */
static int read_credentials(struct kvquantd *daemon, char *message, size_t message_bytes) {
    const struct config *config = &daemon->config;
    struct credentials_table table;
    daemon->credentials.tcp_is_open = !config->tcp_token;
    if (!config->tenants)
        return 0;
    if (credentials_read(&table, config->tenants, message, message_bytes) < 0)
        return -1;
    credentials_set(&daemon->credentials, &table);
    free(daemon->quotas);
    daemon->quotas = table.quotas;
    daemon->quota_count = table.quota_count;
    return 0;
}

/* Once the store is there. */
static void set_quotas(struct kvquantd *daemon) {
    tenants_set_quotas(&daemon->store.tenants, daemon->quotas, daemon->quota_count);
    daemon->quotas = NULL;
    daemon->quota_count = 0;
    keeper_poke(&daemon->store.keeper);
}

/* The same of what TLS is set up with, where all of that is named. */
static int read_tls(struct kvquantd *daemon, char *message, size_t message_bytes) {
    const struct config *config = &daemon->config;
    if (!tls_context_is_wanted(config))
        return 0;
    return tls_context_read(&daemon->tls, config, message, message_bytes);
}

/* A daemon that nobody could use does not start. 0, or -1 with the fault in message. */
static int check_credentials(const struct kvquantd *daemon, char *message, size_t message_bytes) {
    const struct config *config = &daemon->config;
    const struct credentials_table *table = &daemon->credentials.table;
    if (config->tcp && config->tcp_token && table->tokens == 0) {
        snprintf(message, message_bytes,
                 "tcp = %s: clients need a token there, and `tenants` has none: `kvq token` makes "
                 "one; tcp_token = no does without",
                 config->tcp);
        return -1;
    }
    if (config->tls && table->certificates == 0) {
        snprintf(message, message_bytes,
                 "tls = %s: `tenants` has no row `certificate SUBJECT TENANT ROLE`, which says "
                 "whose clients are",
                 config->tls);
        return -1;
    }
    return 0;
}

/* 0, or -1 with what the command line or the file has wrong in message. */
static int configure(struct kvquantd *daemon, char *message, int message_bytes) {
    const struct config *config = &daemon->config;
    credentials_init(&daemon->credentials);
    tls_context_init(&daemon->tls);
    if (command_line_configure(&daemon->line, &daemon->config, message, message_bytes) < 0 ||
        read_credentials(daemon, message, (size_t)message_bytes) < 0 ||
        check_credentials(daemon, message, (size_t)message_bytes) < 0 ||
        read_tls(daemon, message, (size_t)message_bytes) < 0)
        return -1;
    uint64_t needed = needed_bytes(config);
    if (needed <= config->memory_bytes)
        return 0;
    snprintf(message, (size_t)message_bytes,
             "memory = %lluM: with %llu reactors and %zu codec threads the daemon itself needs "
             "%lluM",
             (unsigned long long)config->memory_bytes >> 20, (unsigned long long)config->reactors,
             codec_threads(config), (unsigned long long)needed >> 20);
    return -1;
}

/* Without it, recall is exact: the daemon is no less of use. */
static void load_plugin(struct kvquantd *daemon) {
    const struct config *config = &daemon->config;
    char message[512];
    if (!config->recall_plugin)
        return;
    bool saves_plainly = config->save_on_exit && !config->disk_key;
    struct plugin_options options = {.path_and_options = config->recall_plugin,
                                     .timeout_ms = config->recall_timeout_ms,
                                     .budget = &daemon->store.budget,
                                     .directory = saves_plainly ? config->disk : NULL};
    daemon->plugin = plugin_load(&options, message, sizeof message);
    if (!daemon->plugin)
        log_error("recall_plugin: %s; the exact index answers", message);
}

static int set_up_store(struct kvquantd *daemon) {
    const struct config *config = &daemon->config;
    struct store_options options = {
        .memory_bytes = config->memory_bytes,
        .fixed_bytes = own_bytes(config),
        .landing_level = (int)config->landing_level + PAGE_LEVEL_MIN,
        .codec_threads = codec_threads(config),
        .memory_high_percent = (uint32_t)config->memory_high_percent,
        .memory_low_percent = (uint32_t)config->memory_low_percent,
        .disk = {.directory = config->disk,
                 .limit_bytes = config->disk_bytes,
                 .key_file = config->disk_key},
        .pool_file = daemon->keeping.pool,
        .on_progress = on_progress,
        .context = daemon,
    };
    if (lease_pool_init(&daemon->leases, lease_count(config), &daemon->store.budget, on_progress,
                        daemon) < 0) {
        log_error("no memory for the connections' buffers");
        return -1;
    }
    load_plugin(daemon);
    daemon->recall = recall_new(&(struct recall_options){
        .plugin = daemon->plugin, .on_done = on_progress, .context = daemon});
    if (!daemon->recall) {
        log_error("no thread to recall with");
        return -1;
    }
    options.batch_listener = recall_listener(daemon->recall);
    if (store_init(&daemon->store, &options) < 0)
        return -1;
    daemon->stored = true;
    set_quotas(daemon);
    keeping_settle(&daemon->keeping, &daemon->store);
    return 0;
}

/* Past its own limit a client is refused; past the kernel's the daemon is killed, or as good as. */
static void compare_with_kernels_limit(const struct config *config) {
    uint64_t most = cgroup_memory_bytes("/proc/self/cgroup", "/sys/fs/cgroup");
    if (most < config->memory_bytes + OUTSIDE_BYTES)
        log_warning("memory = %lluM, and beside it the daemon takes up to %dM, but the service "
                    "manager allows it %lluM (MemoryMax= or MemoryHigh= of its unit or slice): "
                    "past that the kernel slows it down or kills it",
                    (unsigned long long)config->memory_bytes >> 20, OUTSIDE_BYTES >> 20,
                    (unsigned long long)most >> 20);
}

static void set_limit(struct kvquantd *daemon) {
    struct store_limits limits = store_limits(&daemon->store);
    if (store_set_limit(&daemon->store, daemon->config.memory_bytes) < 0)
        log_warning("memory can be from %lluM to %lluM without a restart; it stays as it was",
                    (unsigned long long)limits.least_bytes >> 20,
                    (unsigned long long)limits.most_bytes >> 20);
}

/* What a reload may change, to where it is used. */
static void apply_live(struct kvquantd *daemon) {
    const struct config *config = &daemon->config;
    set_limit(daemon);
    compare_with_kernels_limit(config);
    daemon->store.landing_level = (int)config->landing_level + PAGE_LEVEL_MIN;
    struct rpc_default_policy *policy = &daemon->rpc.default_policy;
    policy->level = (int)config->level + PAGE_LEVEL_MIN;
    policy->newest_tokens = config->newest_tokens;
    policy->newest_level = (int)config->newest_level + PAGE_LEVEL_MIN;
    policy->floor = (int)config->floor + PAGE_LEVEL_MIN;
    policy->idle_step_ms = config->idle_step_ms;
    policy->ttl_ms = config->ttl_ms;
    daemon->store.pressure.high_percent = (uint32_t)config->memory_high_percent;
    daemon->store.pressure.low_percent = (uint32_t)config->memory_low_percent;
    ageing_set_tails(&daemon->store.ageing, config->tail_idle_ms,
                     (int)config->tail_idle_level + PAGE_LEVEL_MIN);
    daemon->rpc.append_wait_ms = (uint32_t)config->append_wait_ms;
    daemon->rpc.slow_request_ms = config->slow_request_ms;
    if (daemon->plugin)
        plugin_set_timeout(daemon->plugin, config->recall_timeout_ms);
    daemon->stall_ms = config->stall_ms;
    daemon->rpc.request_ms = config->request_ms;
    daemon->rpc.idle_ms = config->idle_ms;
    daemon->dealer.connections_max = config->connections;
}

static int set_up_monitor(struct kvquantd *daemon) {
    const struct config *config = &daemon->config;
    struct metrics_sources sources = {
        .rpc = &daemon->rpc,
        .reactors = daemon->reactors,
        .reactor_count = daemon->reactor_count,
        .leases = &daemon->leases,
        .tls = &daemon->tls,
    };
    if (!config->metrics)
        return 0;
    return monitor_start(&daemon->monitor, config->metrics, (unsigned)config->socket_mode,
                         &sources);
}

static int set_up_server(struct kvquantd *daemon) {
    const struct config *config = &daemon->config;
    if (listeners_init(&daemon->listeners, config, &daemon->inherited) < 0)
        return -1;
    daemon->rpc = (struct rpc_daemon){
        .page_cache_bytes = page_cache_bytes(config),
        .store = &daemon->store,
        .recall = daemon->recall,
        .plugin = daemon->plugin,
        .budget = &daemon->store.budget,
        .credentials = &daemon->credentials,
        .state = RPC_NORMAL,
        .sockets = daemon->listeners.names,
        .socket_count = daemon->listeners.count,
        .started_ns = clock_now_ns(),
        .set_aside_bytes = keeping_set_aside_bytes(&daemon->keeping),
        .on_change = status_changed,
        .change_context = &daemon->status,
    };
    apply_live(daemon);
    for (size_t i = 0; i < config->reactors; i++) {
        if (reactor_start(&daemon->reactors[i], &daemon->rpc, &daemon->leases, &daemon->stall_ms,
                          &daemon->told) < 0)
            return -1;
        daemon->reactor_count++;
    }
    daemon->dealer.reactors = daemon->reactors;
    daemon->dealer.reactor_count = daemon->reactor_count;
    daemon->dealer.tls = &daemon->tls;
    if (set_up_monitor(daemon) < 0)
        return -1;
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

/* A faulty file changes nothing. */
static void reread_credentials(struct kvquantd *daemon) {
    char message[512];
    if (read_credentials(daemon, message, sizeof message) < 0)
        log_error("%s; tenants stay as they were", message);
    else if (daemon->config.tenants) {
        size_t quotas = daemon->quota_count;
        set_quotas(daemon);
        log_info("%s was read again: %zu lines, %zu of limits", daemon->config.tenants,
                 daemon->credentials.table.count, quotas);
    }
}

static void reread_tls(struct kvquantd *daemon) {
    char message[512];
    if (read_tls(daemon, message, sizeof message) < 0)
        log_error("%s; TLS goes on with what was read before", message);
    else if (daemon->tls.context)
        log_info("%s and the other files of TLS were read again", daemon->config.tls_certificate);
}

static void on_reload(uv_signal_t *handle, int signal) {
    struct kvquantd *daemon = handle->data;
    struct config_changes changes;
    char line[STATUS_BYTES];
    (void)signal;
    if (uv_is_active((uv_handle_t *)&daemon->limit))
        return; /* it is ending */
    notify_reloading();
    if (reload(&daemon->config, &daemon->line, &changes)) {
        apply_live(daemon);
        reload_say(&changes); /* before a level that hides it */
        reread_credentials(daemon);
        reread_tls(daemon);
        log_set_level((enum log_level)daemon->config.log_level);
    }
    status_write(&daemon->status, line);
    notify_ready(line);
}

/* Signals come to the main thread, and only while its loop has handlers for them. */
static void take_signals(int how) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(how, &signals, NULL);
}

/* Once every reactor's thread has ended, nothing is left for the loop to do. */
static void end_if_all_ended(struct kvquantd *daemon) {
    for (size_t i = 0; i < daemon->reactor_count; i++)
        if (!reactor_has_ended(&daemon->reactors[i]))
            return;
    if (uv_is_closing((uv_handle_t *)&daemon->told))
        return;
    take_signals(SIG_BLOCK);
    uv_close((uv_handle_t *)&daemon->told, NULL);
    uv_close((uv_handle_t *)&daemon->limit, NULL);
    uv_close((uv_handle_t *)&daemon->on_terminate, NULL);
    uv_close((uv_handle_t *)&daemon->on_interrupt, NULL);
    uv_close((uv_handle_t *)&daemon->on_hangup, NULL);
    watchdog_close(&daemon->watchdog);
    status_close(&daemon->status);
    monitor_close(&daemon->monitor);
    listeners_stop(&daemon->listeners);
}

/* A reactor has ended, or answered the watchdog. */
static void on_told(uv_async_t *handle) {
    struct kvquantd *daemon = handle->data;
    watchdog_on_answer(&daemon->watchdog);
    end_if_all_ended(daemon);
}

static int set_up_loop(struct kvquantd *daemon) {
    if (uv_loop_init(&daemon->loop) < 0)
        return -1;
    uv_async_init(&daemon->loop, &daemon->told, on_told);
    uv_timer_init(&daemon->loop, &daemon->limit);
    uv_signal_init(&daemon->loop, &daemon->on_terminate);
    uv_signal_init(&daemon->loop, &daemon->on_interrupt);
    uv_signal_init(&daemon->loop, &daemon->on_hangup);
    watchdog_init(&daemon->watchdog, &daemon->loop);
    status_init(&daemon->status, &daemon->loop, &daemon->store);
    monitor_init(&daemon->monitor, &daemon->loop);
    daemon->told.data = daemon->limit.data = daemon;
    daemon->on_terminate.data = daemon->on_interrupt.data = daemon->on_hangup.data = daemon;
    uv_signal_start(&daemon->on_terminate, on_signal, SIGTERM);
    uv_signal_start(&daemon->on_interrupt, on_signal, SIGINT);
    uv_signal_start(&daemon->on_hangup, on_reload, SIGHUP);
    return 0;
}

static void announce(struct kvquantd *daemon) {
    char line[STATUS_BYTES];
    for (size_t i = 0, at = 0; i < daemon->listeners.count && at < sizeof daemon->sockets; i++)
        at += (size_t)snprintf(daemon->sockets + at, sizeof daemon->sockets - at, "%s%s",
                               i ? ", " : "", daemon->listeners.names[i]);
    log_info("version %s, Listening on %s; memory limit %llu MiB", KVQUANT_VERSION, daemon->sockets,
             (unsigned long long)daemon->config.memory_bytes >> 20);
    status_start(&daemon->status, daemon->sockets, line);
    notify_ready(line);
    watchdog_start(&daemon->watchdog, daemon->reactors, daemon->reactor_count);
}

/* Ends the reactors, waits for them and the loop, and frees all. Non-zero if a loop was not empty.
 */
static int tear_down(struct kvquantd *daemon) {
    int left = 0;
    monitor_stop(&daemon->monitor);
    drain(daemon, true);
    if (daemon->reactor_count == 0)
        end_if_all_ended(daemon);
    uv_run(&daemon->loop, UV_RUN_DEFAULT);
    keeper_stop(&daemon->store.keeper);
    for (size_t i = 0; i < daemon->reactor_count; i++)
        left |= reactor_join(&daemon->reactors[i]);
    left |= uv_loop_close(&daemon->loop);
    listeners_deinit(&daemon->listeners);
    if (daemon->served && daemon->config.save_on_exit)
        saving_save_all(&daemon->store);
    if (daemon->recall)
        recall_stop(daemon->recall);
    if (daemon->plugin)
        plugin_free(daemon->plugin);
    if (daemon->stored && notify_is_wanted())
        (void)store_hand_over(&daemon->store);
    store_deinit(&daemon->store); /* ends the last threads that wake reactors */
    if (daemon->recall)
        recall_free(daemon->recall);
    for (size_t i = 0; i < daemon->reactor_count; i++)
        reactor_deinit(&daemon->reactors[i]);
    status_deinit(&daemon->status);
    monitor_deinit(&daemon->monitor);
    lease_pool_deinit(&daemon->leases);
    keeping_deinit(&daemon->keeping);
    inherited_deinit(&daemon->inherited);
    if (left)
        log_error("an event loop was not empty at the end");
    return left;
}

/* What the heap has, names and token ids and keys, cannot be told apart for a core file. */
static void set_core_files(const struct config *config) {
    if (!config->core_files && prctl(PR_SET_DUMPABLE, 0) < 0)
        log_warning("core files cannot be ruled out: %s", strerror(errno));
}

static int run(struct kvquantd *daemon) {
    signal(SIGPIPE, SIG_IGN);
    set_core_files(&daemon->config);
    take_signals(SIG_BLOCK); /* the threads that follow inherit it */
    if (set_up_loop(daemon) < 0) {
        log_error("no event loop");
        return EXIT_FAILURE;
    }
    int status = inherited_init(&daemon->inherited);
    keeping_init(&daemon->keeping, &daemon->inherited);
    if (status == 0)
        status = set_up_store(daemon) == 0 && set_up_server(daemon) == 0 ? 0 : -1;
    if (status == 0) {
        daemon->served = true;
        announce(daemon);
        take_signals(SIG_UNBLOCK);
        uv_run(&daemon->loop, UV_RUN_DEFAULT);
    }
    int left = tear_down(daemon);
    if (status == 0)
        log_info("ended");
    return status == 0 && left == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* What ends without serving anybody. */
static void print(enum command command) {
    switch (command) {
    case COMMAND_PRINT_CONFIG:
        manual_print_config();
        break;
    case COMMAND_PRINT_MANUAL:
        manual_print_page();
        break;
    case COMMAND_PRINT_CONFIG_MANUAL:
        manual_print_config_page();
        break;
    case COMMAND_PRINT_HELP:
        manual_print_help();
        break;
    default:
        puts("kvquantd " KVQUANT_VERSION);
    }
}

int main(int count, char **values) {
    static struct kvquantd daemon;
    const struct command_line *line = &daemon.line;
    char message[800];
    if (command_line_parse(&daemon.line, count, values) < 0)
        return USAGE;
    if (line->command != COMMAND_RUN && line->command != COMMAND_CHECK_CONFIG) {
        print(line->command);
        return EXIT_SUCCESS;
    }
    int status = EXIT_SUCCESS;
    if (configure(&daemon, message, sizeof message) < 0) {
        fprintf(stderr, "kvquantd: %s\n", message);
        status = USAGE;
    } else if (line->command == COMMAND_RUN) {
        log_init((enum log_level)daemon.config.log_level);
        status = run(&daemon);
    } else {
        puts("the configuration is valid");
    }
    tls_context_deinit(&daemon.tls);
    credentials_deinit(&daemon.credentials);
    free(daemon.quotas);
    config_deinit(&daemon.config);
    return status;
}
