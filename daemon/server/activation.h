/* Sockets that the service manager opened and handed over. */
#ifndef DAEMON_SERVER_ACTIVATION_H
#define DAEMON_SERVER_ACTIVATION_H

#include "daemon/base/config.h"
#include "daemon/server/listener.h"

/* A socket that was handed over, as its unit has it. */
struct activated {
    int socket;
    int number;       /* from 1 on, for the log */
    const char *name; /* FileDescriptorName=; "tls": TLS is spoken on it */
};

/* Takes a socket if it listens and is a unix stream socket, TCP on loopback or anywhere if the
 * configuration says so, or TCP for TLS. 0, or -1, logged. */
int activation_open(struct listener *listener, const struct activated *activated,
                    const struct config *config) __attribute__((warn_unused_result));

#endif
