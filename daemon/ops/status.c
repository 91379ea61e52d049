#include "daemon/ops/status.h"

#include <stdio.h>

#include "daemon/ops/notify.h"
#include "daemon/store/info.h"

static void tell(struct status *status) {
    char line[STATUS_BYTES];
    pthread_mutex_lock(&status->lock);
    status->pending = false; /* before the sums are read: what changes meanwhile is told next */
    pthread_mutex_unlock(&status->lock);
    status->told_ms = uv_now(status->later.loop);
    status_write(status, line);
    notify_status(line);
}

static void on_later(uv_timer_t *timer) {
    tell(timer->data);
}

static void on_changed(uv_async_t *handle) {
    struct status *status = handle->data;
    uint64_t since_ms = uv_now(handle->loop) - status->told_ms;
    if (uv_is_active((uv_handle_t *)&status->later))
        return;
    uv_timer_start(&status->later, on_later, since_ms < STATUS_MS ? STATUS_MS - since_ms : 0, 0);
}

void status_init(struct status *status, uv_loop_t *loop, struct store *store) {
    *status = (struct status){.store = store, .sockets = ""};
    pthread_mutex_init(&status->lock, NULL);
    uv_async_init(loop, &status->changed, on_changed);
    uv_timer_init(loop, &status->later);
    status->changed.data = status->later.data = status;
}

void status_start(struct status *status, const char *sockets, char line[STATUS_BYTES]) {
    status->sockets = sockets;
    status->told_ms = uv_now(status->later.loop);
    status_write(status, line);
    pthread_mutex_lock(&status->lock);
    status->open = notify_is_wanted();
    pthread_mutex_unlock(&status->lock);
}

void status_close(struct status *status) {
    pthread_mutex_lock(&status->lock);
    status->open = false;
    pthread_mutex_unlock(&status->lock);
    uv_close((uv_handle_t *)&status->changed, NULL);
    uv_close((uv_handle_t *)&status->later, NULL);
}

void status_deinit(struct status *status) {
    pthread_mutex_destroy(&status->lock);
}

void status_write(const struct status *status, char line[STATUS_BYTES]) {
    struct store_totals totals;
    char ratio[40] = "";
    info_totals(status->store, &totals);
    if (totals.stored_bytes > 0)
        snprintf(ratio, sizeof ratio, " (ratio %.2f)",
                 (double)totals.logical_bytes / (double)totals.stored_bytes);
    snprintf(line, STATUS_BYTES, "%llu sessions in %.1f MiB%s; listening on %s",
             (unsigned long long)totals.sessions, (double)totals.stored_bytes / (1 << 20), ratio,
             status->sockets);
}

void status_changed(void *context) {
    struct status *status = context;
    pthread_mutex_lock(&status->lock);
    if (status->open && !status->pending) {
        status->pending = true;
        uv_async_send(&status->changed);
    }
    pthread_mutex_unlock(&status->lock);
}
