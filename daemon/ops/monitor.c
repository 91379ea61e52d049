#include "daemon/ops/monitor.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/base/address.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/ops/page.h"
#include "daemon/server/tcp_socket.h"
#include "daemon/server/unix_socket.h"

enum { TIMEOUT_S = 10, CONNECTION_BYTES = 16 << 10, POLICY_BYTES = 256 };

#define STUCK_NS (30 * CLOCK_NS_PER_S)

static const char plain[] = "text/plain; charset=utf-8";

/* What is answered: a text, that libmicrohttpd frees. */
struct answer {
    unsigned status;
    const char *type;
    char *text; /* NULL: there was no memory */
    size_t bytes;
    char policy[POLICY_BYTES]; /* of the content's security */
};

static void say(struct answer *answer, unsigned status, const char *text) {
    answer->status = status;
    answer->type = plain;
    answer->text = strdup(text);
    answer->bytes = answer->text ? strlen(text) : 0;
}

/* OpenMetrics, unless the client takes only what was before it. */
static bool wants_open_metrics(struct MHD_Connection *connection) {
    const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Accept");
    return !accept || strstr(accept, "openmetrics") || !strstr(accept, "text/plain");
}

static void answer_metrics(struct monitor *monitor, struct MHD_Connection *connection,
                           struct answer *answer) {
    struct exposition exposition = {.open_metrics = wants_open_metrics(connection)};
    answer->status = MHD_HTTP_OK;
    answer->type = exposition.open_metrics
                       ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                       : "text/plain; version=0.0.4; charset=utf-8";
    exposition.out = open_memstream(&answer->text, &answer->bytes);
    if (!exposition.out)
        return;
    metrics_write(&monitor->sources.metrics, &exposition);
    fclose(exposition.out);
}

static void answer_health(struct monitor *monitor, struct MHD_Connection *connection,
                          struct answer *answer) {
    const struct metrics_sources *sources = &monitor->sources.metrics;
    (void)connection;
    if (store_is_recovering(sources->rpc->store)) {
        say(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "recovering: still reading the disk\n");
        return;
    }
    for (size_t i = 0; i < sources->reactor_count; i++)
        if (reactor_busy_ns(&sources->reactors[i]) > STUCK_NS) {
            say(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "stuck: a reactor does not come back\n");
            return;
        }
    say(answer, MHD_HTTP_OK, "ok\n");
}

static void answer_status(struct monitor *monitor, struct MHD_Connection *connection,
                          struct answer *answer) {
    const char *since = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "since");
    answer->status = MHD_HTTP_OK;
    answer->type = "application/json";
    answer->text = status_json(&monitor->sources, since ? strtoull(since, NULL, 10) : 0);
    answer->bytes = answer->text ? strlen(answer->text) : 0;
}

/* Only what carries this answer's nonce runs, and nothing is loaded but the numbers. */
static void answer_page(struct monitor *monitor, struct MHD_Connection *connection,
                        struct answer *answer) {
    uint8_t random[16];
    char nonce[2 * sizeof random + 1];
    (void)monitor;
    (void)connection;
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(nonce + 2 * i, 3, "%02x", random[i]);
    answer->status = MHD_HTTP_OK;
    answer->type = "text/html; charset=utf-8";
    answer->text = page_write(nonce, &answer->bytes);
    snprintf(answer->policy, sizeof answer->policy,
             "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; "
             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
             nonce, nonce);
}

struct route {
    const char *path;
    void (*answer)(struct monitor *monitor, struct MHD_Connection *connection,
                   struct answer *answer);
};

static const struct route routes[] = {
    {"/", answer_page},
    {"/metrics", answer_metrics},
    {"/status.json", answer_status},
    {"/healthz", answer_health},
};

static const struct route *find_route(const char *path) {
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    return NULL;
}

/* A page of the web that had its own name lead to this machine would come with that name. */
static bool is_for_us(const struct monitor *monitor, struct MHD_Connection *connection) {
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    char text[ADDRESS_TEXT_BYTES];
    union address address;
    if (!monitor->listener.is_tcp || !host)
        return true;
    const char *colon = strrchr(host, ':');
    bool has_port = colon && !strchr(colon, ']');
    snprintf(text, sizeof text, "%s%s", host, has_port ? "" : ":80");
    return strlen(host) < sizeof text - 4 && address_parse_loopback(text, &address);
}

static void find_answer(struct monitor *monitor, struct MHD_Connection *connection,
                        const char *path, const char *method, struct answer *answer) {
    const struct route *route = find_route(path);
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        say(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    else if (!is_for_us(monitor, connection))
        say(answer, MHD_HTTP_FORBIDDEN, "the Host is not this machine\n");
    else if (!route)
        say(answer, MHD_HTTP_NOT_FOUND, "there are /, /metrics, /status.json and /healthz\n");
    else
        route->answer(monitor, connection, answer);
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, const struct answer *answer) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->bytes, answer->text, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(answer->text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", answer->type);
    MHD_add_response_header(response, "Content-Security-Policy",
                            answer->policy[0] ? answer->policy : "default-src 'none'");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", "GET, HEAD");
    enum MHD_Result queued = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return queued;
}

/* The library's signature: NOLINTNEXTLINE(readability-function-size) */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *upload, size_t *upload_bytes, void **state) {
    struct answer answer = {0};
    (void)version;
    (void)upload;
    bool has_body = *upload_bytes > 0 || *state == NULL;
    if (has_body && strcmp(method, MHD_HTTP_METHOD_GET) == 0) {
        *state = context; /* a body, which is of no use, is read past */
        *upload_bytes = 0;
        return MHD_YES;
    }
    find_answer(context, connection, path, method, &answer);
    return answer.text ? send_answer(connection, &answer) : MHD_NO;
}

static void on_sampling(uv_timer_t *timer) {
    struct monitor *monitor = timer->data;
    timeline_add(&monitor->timeline, timeline_sample(monitor->sources.metrics.rpc));
}

void monitor_init(struct monitor *monitor, uv_loop_t *loop) {
    monitor->listener.socket = -1;
    monitor->initialised = true;
    timeline_init(&monitor->timeline);
    uv_timer_init(loop, &monitor->sampling);
    monitor->sampling.data = monitor;
}

void monitor_close(struct monitor *monitor) {
    uv_close((uv_handle_t *)&monitor->sampling, NULL);
}

static int open_socket(struct listener *listener, const char *address, unsigned mode) {
    return strchr(address, '/') ? unix_socket_open(listener, address, mode)
                                : tcp_socket_open(listener, address);
}

int monitor_start(struct monitor *monitor, const char *address, unsigned mode,
                  const struct metrics_sources *sources) {
    monitor->sources = (struct status_sources){*sources, &monitor->timeline, &monitor->table};
    if (open_socket(&monitor->listener, address, mode) < 0)
        return -1;
    monitor->sources.metrics.tells_names = !monitor->listener.is_tcp;
    monitor->server = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_USE_ITC, 0, NULL, NULL, on_request,
        monitor, MHD_OPTION_LISTEN_SOCKET, monitor->listener.socket, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)MONITOR_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_END);
    if (!monitor->server) {
        log_error("no thread to serve metrics with");
        return -1;
    }
    uv_timer_start(&monitor->sampling, on_sampling, 0, TIMELINE_PERIOD_MS);
    log_info("metrics and the status page are on %s", monitor->listener.name);
    return 0;
}

/* The socket is the listener's again, which removes its file. */
void monitor_stop(struct monitor *monitor) {
    if (monitor->server) {
        MHD_quiesce_daemon(monitor->server);
        MHD_stop_daemon(monitor->server);
    }
    monitor->server = NULL;
    if (monitor->initialised)
        listener_stop(&monitor->listener);
}

void monitor_deinit(struct monitor *monitor) {
    if (monitor->initialised)
        timeline_deinit(&monitor->timeline);
}
