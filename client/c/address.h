/* Where the daemon listens: a unix socket's path, or a host and port. */
#ifndef CLIENT_C_ADDRESS_H
#define CLIENT_C_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

struct kvq_client;

enum { KVQ_ADDRESS_BYTES = 256, KVQ_ADDRESSES_MAX = 8 };

struct kvq_address {
    struct sockaddr_storage socket;
    socklen_t bytes;
};

#pragma GCC visibility push(hidden)

/* Fills in the client's address as text and all that it means, to be tried in turn. given NULL: the
 * environment's, or the usual place. A host's name is looked up, which may block. Failures are
 * recorded. */
int kvq_find_addresses(struct kvq_client *client, const char *given);

#pragma GCC visibility pop

#endif
