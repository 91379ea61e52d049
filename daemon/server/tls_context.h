/* What TLS connections are made with: the daemon's certificate and key, whose clients' certificates
 * it believes, and which of these are revoked. Read from files, and read again while in use.
 *
 * TLS 1.3 alone, with a client's certificate at each connection: no sessions are resumed, no early
 * data is taken. Safe from any thread.
 */
#ifndef DAEMON_SERVER_TLS_CONTEXT_H
#define DAEMON_SERVER_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/base/config.h"

struct tls_context {
    pthread_mutex_t lock;
    SSL_CTX *context; /* NULL: none yet */
    /* When what was read is no longer valid, of several the first: in seconds since 1970; 0: none
     */
    _Atomic int64_t certificate_end, authorities_end, revocations_end;
    _Atomic uint64_t established; /* connections */
    _Atomic uint64_t failed;      /* handshakes */
};

void tls_context_init(struct tls_context *tls);
void tls_context_deinit(struct tls_context *tls);

/* What the memory of private keys takes: locked, and in no core file. Each connection has one, too,
 * that its session keys came from; where there are more connections than at the start was said,
 * handshakes fail for want of it. */
uint64_t tls_context_bytes(const struct config *config);

/* Whether the files of TLS are named. */
bool tls_context_is_wanted(const struct config *config);

/* Reads the files, for the connections that come from now on. 0, or -1 with what is wrong in
 * message; then nothing has changed. */
int tls_context_read(struct tls_context *tls, const struct config *config, char *message,
                     size_t message_bytes) __attribute__((warn_unused_result));

/* The server's side of a new connection, the caller's, or NULL without memory. */
SSL *tls_context_new_connection(struct tls_context *tls) __attribute__((warn_unused_result));

#endif
