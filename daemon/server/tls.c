#include "daemon/server/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/server/certificate.h"
#include "daemon/server/peer.h"

enum {
    KEEPALIVE_S = 60,
    KEY_UPDATES_MAX = 1000, /* of a client: one each gigabyte is plenty */
    DROPPED_BYTES = 4096,   /* at a time, of what a refused client sends */
    DROPS_MOST = 16
};

/* --- the handle --- */

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct connection *connection = poll->data;
    struct tls *tls = connection->tls;
    if (status < 0) {
        tls->broken = true;
        connection_close(connection);
        return;
    }
    if (events & UV_READABLE)
        tls->readable = true;
    if (events & UV_WRITABLE)
        tls->wants_write = false;
    connection_step(connection);
}

/* A client that changes its keys all the time would have others wait for it. */
static void on_message(int is_sent, int version, int type, const void *bytes, size_t count,
                       SSL *ssl, void *context) {
    struct tls *tls = context;
    (void)version;
    (void)ssl;
    if (!is_sent && type == SSL3_RT_HANDSHAKE && count > 0 &&
        *(const unsigned char *)bytes == SSL3_MT_KEY_UPDATE)
        tls->key_updates++;
}

static void set_tcp_options(int socket) {
    int on = 1, seconds = KEEPALIVE_S;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
}

int tls_open(struct connection *connection, int socket, struct tls_context *context) {
    struct tls *tls = calloc(1, sizeof *tls);
    if (tls)
        *tls = (struct tls){.ssl = tls_context_new_connection(context),
                            .context = context,
                            .socket = socket,
                            .readable = true};
    if (!tls || !tls->ssl || SSL_set_fd(tls->ssl, socket) != 1 ||
        uv_poll_init(&connection->reactor->loop, &connection->poll, socket) < 0) {
        SSL_free(tls ? tls->ssl : NULL);
        free(tls);
        return -1;
    }
    SSL_set_accept_state(tls->ssl);
    SSL_set_msg_callback(tls->ssl, on_message);
    SSL_set_msg_callback_arg(tls->ssl, tls);
    set_tcp_options(socket);
    connection->handle.data = connection;
    connection->tls = tls;
    return 0;
}

void tls_watch(struct connection *connection, bool for_reading) {
    struct tls *tls = connection->tls;
    bool for_writing = tls->wants_write || connection->writing;
    int events =
        (for_reading && !tls->readable ? UV_READABLE : 0) | (for_writing ? UV_WRITABLE : 0);
    if (events == tls->events)
        return;
    tls->events = events;
    if (events)
        uv_poll_start(&connection->poll, events, on_poll);
    else
        uv_poll_stop(&connection->poll);
}

void tls_say_end(struct connection *connection) {
    const struct tls *tls = connection->tls;
    ERR_clear_error();
    if (tls->established && !tls->broken && !connection->writing)
        SSL_shutdown(tls->ssl);
}

void tls_free(struct tls *tls) {
    SSL_free(tls->ssl);
    close(tls->socket);
    free(tls);
}

/* --- the handshake --- */

static const char *fault_of(const SSL *ssl) {
    long verdict = SSL_get_verify_result(ssl);
    unsigned long error = ERR_peek_last_error();
    if (verdict != X509_V_OK)
        return X509_verify_cert_error_string(verdict);
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    return reason ? reason : "the connection ended";
}

/* What is sent after the alert that says why would have the system drop that alert, were the socket
 * closed now: the client closes first, or has no time left. */
static void refuse(struct connection *connection, const char *fault) {
    struct tls *tls = connection->tls;
    atomic_fetch_add(&tls->context->failed, 1);
    connection_log(connection, LOG_LEVEL_INFO, NULL, "a client's TLS handshake failed: %s", fault);
    tls->refused = tls->broken = true;
    tls->readable = false; /* the socket is watched for the client's end */
    shutdown(tls->socket, SHUT_WR);
}

static void drop_what_comes(struct connection *connection) {
    char dropped[DROPPED_BYTES];
    ssize_t count = 1;
    for (int i = 0; count > 0 && i < DROPS_MOST; i++)
        count = recv(connection->tls->socket, dropped, sizeof dropped, MSG_DONTWAIT);
    connection->tls->readable = false;
    if (count == 0 || (count < 0 && errno != EAGAIN))
        connection_close(connection);
}

static void establish(struct connection *connection) {
    struct tls *tls = connection->tls;
    const unsigned char *protocol;
    unsigned protocol_bytes;
    SSL_get0_alpn_selected(tls->ssl, &protocol, &protocol_bytes);
    if (protocol_bytes == 0) {
        refuse(connection, "it names no protocol; kvq/1 is what is spoken here");
        return;
    }
    atomic_fetch_add(&tls->context->established, 1);
    tls->established = true;
    certificate_read_names(SSL_get0_peer_certificate(tls->ssl), &tls->names);
    connection->peer.certificate = tls->names.subject;
    peer_identify(connection);
    connection_log(connection, LOG_LEVEL_DEBUG, NULL, "TLS is established with %s",
                   tls->names.subject);
}

bool tls_shake_hands(struct connection *connection) {
    struct tls *tls = connection->tls;
    if (tls->established)
        return true;
    if (tls->refused) {
        drop_what_comes(connection);
        return false;
    }
    ERR_clear_error();
    int status = SSL_do_handshake(tls->ssl);
    if (status == 1) {
        establish(connection);
        return tls->established;
    }
    int error = SSL_get_error(tls->ssl, status);
    if (error == SSL_ERROR_WANT_WRITE)
        tls->wants_write = true;
    else if (error == SSL_ERROR_WANT_READ)
        tls->readable = false;
    else
        refuse(connection, fault_of(tls->ssl));
    return false;
}

/* --- what comes and goes --- */

bool tls_is_readable(const struct tls *tls) {
    return tls->readable && !tls->wants_write;
}

ssize_t tls_read(struct connection *connection, void *bytes, size_t count) {
    struct tls *tls = connection->tls;
    size_t read = 0;
    ERR_clear_error();
    int status = SSL_read_ex(tls->ssl, bytes, count, &read);
    int error = status == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, status);
    tls->wants_write = error == SSL_ERROR_WANT_WRITE;
    /* where OpenSSL has nothing left, the socket's being watched says whether there is more */
    tls->readable = SSL_has_pending(tls->ssl) && error != SSL_ERROR_WANT_READ;
    if (tls->key_updates > KEY_UPDATES_MAX) {
        connection_log(connection, LOG_LEVEL_INFO, NULL,
                       "a client changes its keys all the time; its connection is closed");
        return -1;
    }
    if (error == SSL_ERROR_NONE || error == SSL_ERROR_WANT_READ || tls->wants_write)
        return (ssize_t)read;
    tls->broken = error != SSL_ERROR_ZERO_RETURN;
    return -1;
}

static ssize_t write_some(struct tls *tls, const char *bytes, size_t count) {
    size_t written = 0;
    ERR_clear_error();
    int status = SSL_write_ex(tls->ssl, bytes, count, &written);
    int error = status == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, status);
    if (error == SSL_ERROR_NONE || error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ)
        return (ssize_t)written;
    tls->broken = true;
    return -1;
}

/* A record at a time. */
ssize_t tls_write(struct connection *connection, const void *bytes, size_t count) {
    size_t at = 0;
    ssize_t written = 1;
    while (at < count && written > 0) {
        written = write_some(connection->tls, (const char *)bytes + at, count - at);
        at += written > 0 ? (size_t)written : 0;
    }
    return written < 0 ? -1 : (ssize_t)at;
}
