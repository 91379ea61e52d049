#include "daemon/server/listeners.h"

#include <stdlib.h>

#include "daemon/base/address.h"
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
    size_t count = 1, all = 1 + (size_t)(config->tcp != NULL) + (size_t)(config->tls != NULL);
    if (allocate(listeners, all) < 0 ||
        unix_socket_open(&listeners->all[0], config->socket, (unsigned)config->socket_mode) < 0)
        return -1;
    if (config->tcp && tcp_socket_open(&listeners->all[count++], config->tcp) < 0)
        return -1;
    if (!config->tls)
        return 0;
    listeners->all[count].is_tls = true;
    return tcp_socket_open(&listeners->all[count], config->tls);
}

/* What a unix socket's file says by its mode, the log says of TCP. */
static void say_who_may_connect(const struct listener *listener, bool need_token) {
    union address address;
    bool is_local = address_parse_loopback(listener->name, &address);
    if (listener->is_tls)
        log_info("who has a certificate can connect to %s", listener->name);
    else if (is_local)
        log_info(need_token ? "who has a token can connect to %s"
                            : "whoever is on this machine can connect to %s",
                 listener->name);
    else
        log_warning("%s is open to other machines in the clear: whoever is on the way reads and "
                    "changes %s (tcp_beyond_loopback = yes)",
                    listener->name,
                    need_token ? "tokens, K and V" : "K and V, and nobody needs a token");
}

int listeners_init(struct listeners *listeners, const struct config *config,
                   struct inherited *inherited) {
    *listeners = (struct listeners){.config = config};
    int activated = inherited_left(inherited);
    if (activated == 0)
        return open_configured(listeners, config);
    if (allocate(listeners, (size_t)activated) < 0)
        return -1;
    for (int i = 0; i < activated; i++) {
        struct activated one = {.number = i + 1};
        one.socket = inherited_take_next(inherited, &one.name);
        if (activation_open(&listeners->all[i], &one, config) < 0)
            return -1;
    }
    return 0;
}

int listeners_start(struct listeners *listeners, uv_loop_t *loop, struct dealer *dealer) {
    for (size_t i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->all[i];
        if (listener->is_tcp)
            say_who_may_connect(listener, listeners->config->tcp_token != 0);
        if (listener_start(listener, loop, dealer) < 0)
            return -1;
    }
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
