/* All sockets of a daemon: those that the service manager handed over, else those of the
 * configuration.
 *
 * Runs on the main loop.
 */
#ifndef DAEMON_SERVER_LISTENERS_H
#define DAEMON_SERVER_LISTENERS_H

#include "daemon/base/config.h"
#include "daemon/base/inherited.h"
#include "daemon/server/listener.h"

struct listeners {
    struct listener *all;
    const char **names; /* of each */
    size_t count;
    const struct config *config;
};

/* Opens every socket, without accepting yet; what is left of what was inherited are sockets. 0, or
 * -1, logged. deinit also after a failure. */
int listeners_init(struct listeners *listeners, const struct config *config,
                   struct inherited *inherited) __attribute__((warn_unused_result));
void listeners_deinit(struct listeners *listeners);

/* 0, or -1, logged. */
int listeners_start(struct listeners *listeners, uv_loop_t *loop, struct dealer *dealer)
    __attribute__((warn_unused_result));
void listeners_stop(struct listeners *listeners);

#endif
