/* A connection's TLS, over its socket: OpenSSL reads and writes the socket itself and holds a
 * record at most of what comes and of what goes; what is in the clear goes between the connection's
 * leased buffers and OpenSSL.
 *
 * Owned by its connection; the callback only records what the socket is ready for.
 */
#ifndef DAEMON_SERVER_TLS_H
#define DAEMON_SERVER_TLS_H

#include <sys/types.h>

#include "daemon/server/connection.h"
#include "daemon/server/tls_context.h"

struct tls {
    SSL *ssl;
    struct tls_context *context;
    int socket;
    int events; /* that the socket is watched for */
    bool established;
    bool refused;      /* no more is sent; the client is yet to read why */
    bool broken;       /* nothing can be sent */
    bool readable;     /* there may be something to read */
    bool holds_part;   /* of a record, as of the last read */
    bool wants_write;  /* before anything else can be done */
    size_t sent_bytes; /* of the frames in `out` */
    unsigned key_updates;
    struct certificate_names names;
};

/* What a TLS connection is charged, beside the connection itself: what OpenSSL keeps of one that is
 * idle, and a part of its two buffers of a record, which only those have of which a record is
 * coming in or waits to go out. */
enum { TLS_BYTES = 36 << 10 };

/* Makes the connection one over TLS, with its handle. 0, or -1 without memory: then the socket
 * stays the caller's. */
int tls_open(struct connection *connection, int socket, struct tls_context *context)
    __attribute__((warn_unused_result));

/* Goes on with the handshake. True if the connection is established. */
bool tls_shake_hands(struct connection *connection);

/* Whether there may be something to read. */
bool tls_is_readable(const struct tls *tls);

/* Bytes that came, 0 if nothing more is there now, or -1 at the end. */
ssize_t tls_read(struct connection *connection, void *bytes, size_t count);

/* Bytes that went, fewer if the socket takes no more now, or -1 if nothing can be sent. */
ssize_t tls_write(struct connection *connection, const void *bytes, size_t count);

/* Has the socket watched for what the connection waits for. */
void tls_watch(struct connection *connection, bool for_reading);

/* Says goodbye, if that can be said at once. */
void tls_say_end(struct connection *connection);

/* After the handle is closed: closes the socket, frees all. */
void tls_free(struct tls *tls);

#endif
