/* Metrics, health and the status page over HTTP, for this machine alone.
 *
 * libmicrohttpd serves it on a thread of its own that only reads, so that no reactor waits for it.
 * All else is on the main loop.
 */
#ifndef DAEMON_OPS_MONITOR_H
#define DAEMON_OPS_MONITOR_H

#include "daemon/ops/status_json.h"
#include "daemon/server/listener.h"

struct MHD_Daemon;

/* What all of its connections together may take. */
enum { MONITOR_CONNECTIONS = 16, MONITOR_BYTES = MONITOR_CONNECTIONS * (320 << 10) };

struct monitor {
    struct listener listener; /* its socket; nothing else of it is used */
    struct MHD_Daemon *server;
    struct status_sources sources;
    struct timeline timeline;
    struct session_table table; /* the server's thread's */
    uv_timer_t sampling;
    bool initialised;
};

/* Closed by monitor_close(), before the loop ends. */
void monitor_init(struct monitor *monitor, uv_loop_t *loop);
void monitor_close(struct monitor *monitor);

/* Opens the socket, a path of that mode or HOST:PORT, and serves. 0, or -1, logged. */
int monitor_start(struct monitor *monitor, const char *address, unsigned mode,
                  const struct metrics_sources *sources) __attribute__((warn_unused_result));

/* Before what it reads goes away: nobody is served after that. deinit also after a failed start. */
void monitor_stop(struct monitor *monitor);
void monitor_deinit(struct monitor *monitor);

#endif
