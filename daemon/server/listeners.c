#include "daemon/server/listeners.h"

#include <stdlib.h>

#include "daemon/base/log.h"
#include "daemon/server/activation.h"
#include "daemon/server/tcp_socket.h"
#include "daemon/server/unix_socket.h"

static int allocate(struct listeners *listeners, size_t count) {
    listeners->all = calloc(count, sizeof *listeners->all);
    listeners->names = calloc(count, sizeof *listeners->names);
    if (!listeners->all || !listeners->names) {
        log_error("no memory for %zu sockets", count);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        listeners->all[i].socket = -1;
        listeners->names[i] = listeners->all[i].name;
    }
    listeners->count = count;
    return 0;
}

static int open_configured(struct listeners *listeners, const struct config *config) {
    if (allocate(listeners, config->tcp ? 2 : 1) < 0 ||
        unix_socket_open(&listeners->all[0], config->socket, (unsigned)config->socket_mode) < 0)
        return -1;
    return config->tcp ? tcp_socket_open(&listeners->all[1], config->tcp) : 0;
}

/* What a unix socket's file says by its mode, the log says of TCP. */
static void say_who_may_connect(const struct listeners *listeners) {
    for (size_t i = 0; i < listeners->count; i++)
        if (listeners->all[i].is_tcp)
            log_info(listeners->need_token ? "who has a token can connect to %s"
                                           : "whoever is on this machine can connect to %s",
                     listeners->names[i]);
}

int listeners_init(struct listeners *listeners, const struct config *config,
                   struct inherited *inherited) {
    *listeners = (struct listeners){.need_token = config->tcp_token != 0};
    int activated = inherited_left(inherited);
    if (activated == 0)
        return open_configured(listeners, config);
    if (allocate(listeners, (size_t)activated) < 0)
        return -1;
    for (int i = 0; i < activated; i++)
        if (activation_open(&listeners->all[i], inherited_take_next(inherited), i + 1) < 0)
            return -1;
    return 0;
}

int listeners_start(struct listeners *listeners, uv_loop_t *loop, struct dealer *dealer) {
    say_who_may_connect(listeners);
    for (size_t i = 0; i < listeners->count; i++)
        if (listener_start(&listeners->all[i], loop, dealer) < 0)
            return -1;
    return 0;
}

void listeners_stop(struct listeners *listeners) {
    for (size_t i = 0; i < listeners->count; i++)
        listener_stop(&listeners->all[i]);
}

void listeners_deinit(struct listeners *listeners) {
    free(listeners->all);
    free(listeners->names);
    *listeners = (struct listeners){0};
}
