/* The status line that the service manager shows: what is stored, and where the daemon listens.
 *
 * It follows changes, at most every STATUS_MS; while nothing changes nothing runs. On the main
 * loop but for status_changed().
 */
#ifndef DAEMON_OPS_STATUS_H
#define DAEMON_OPS_STATUS_H

#include <pthread.h>
#include <uv.h>

#include "daemon/store/store.h"

enum { STATUS_BYTES = 512, STATUS_MS = 5000 };

struct status {
    uv_async_t changed;
    uv_timer_t later;
    struct store *store;
    const char *sockets;  /* in words */
    uint64_t told_ms;     /* by the loop's clock */
    pthread_mutex_t lock; /* of the two that follow */
    bool open;
    bool pending; /* a change that has not been told */
};

/* Closed by status_close(), before the loop ends; status_changed() may still be called then. */
void status_init(struct status *status, uv_loop_t *loop, struct store *store);
void status_close(struct status *status);
void status_deinit(struct status *status);

/* From now on changes are told. Writes the line as it is now. */
void status_start(struct status *status, const char *sockets, char line[STATUS_BYTES]);

void status_write(const struct status *status, char line[STATUS_BYTES]);

/* Sessions or their bytes changed; context is the struct status. From any thread. */
void status_changed(void *context);

#endif
