/* A connected socket's bytes over TLS: what a channel sends and receives where it is not plain.
 *
 * What is sent is encrypted into the stream's own buffer, and out of that to the socket, as far as
 * it takes it. What is received goes straight to where it is wanted. A stream owns neither its
 * socket nor the files' context, and says nothing to the peer when it ends: the frames within tell
 * whether they are whole, and a forked process may close its copy.
 */
#ifndef CLIENT_C_TLS_STREAM_H
#define CLIENT_C_TLS_STREAM_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct kvq_client;
struct kvq_tls_stream;

#pragma GCC visibility push(hidden)

/* Reading and writing the socket, for OpenSSL. NULL: no memory. */
BIO_METHOD *kvq_tls_socket_method(void);

/* Over a socket that has just been connected, for the client. NULL: no memory. */
struct kvq_tls_stream *kvq_tls_stream_new(struct kvq_client *client, int socket);
void kvq_tls_stream_free(struct kvq_tls_stream *stream);

/* These four are as recvmsg() and sendmsg(), with the flags of the former: how many bytes, 0 for
 * the end, or -1 and errno. A handshake gives 1 once it is done. */
ssize_t kvq_tls_stream_handshake(struct kvq_tls_stream *stream, int flags);
ssize_t kvq_tls_stream_receive(struct kvq_tls_stream *stream, void *memory, size_t bytes,
                               int flags);
ssize_t kvq_tls_stream_send(struct kvq_tls_stream *stream, const struct iovec *pieces,
                            size_t count);
bool kvq_tls_stream_hung_up(struct kvq_tls_stream *stream);

/* Whether there is something that is encrypted and not sent yet. */
bool kvq_tls_stream_has_output(const struct kvq_tls_stream *stream);

/* Whether there may be bytes to receive that no poll() of the socket tells of. */
bool kvq_tls_stream_has_input(const struct kvq_tls_stream *stream);

/* What went wrong, in words; "" where the peer just went away. `error` is then that of the call.
 * The stream's. */
const char *kvq_tls_stream_failure(const struct kvq_tls_stream *stream, int *error);

#pragma GCC visibility pop

#endif
