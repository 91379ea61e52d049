#include "client/c/tls_stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client/c/client.h"
#include "client/c/tls.h"

enum {
    RECORD_BYTES = SSL3_RT_MAX_PLAIN_LENGTH,
    RECORD_BYTES_MAX = RECORD_BYTES + 256, /* encrypted */
    OUTPUT_BYTES = 8 * RECORD_BYTES_MAX,
    FAILURE_BYTES = 256,
};

struct kvq_tls_stream {
    SSL *ssl;
    int socket, flags; /* of the read under way */
    bool is_dry;       /* the last read had all there was */
    int error;         /* with `failure` */
    char failure[FAILURE_BYTES];
    size_t output_start, output_end;
    uint8_t output[OUTPUT_BYTES];
    uint8_t gathered[RECORD_BYTES];
};

/* ---- The socket ---- */

static size_t room(const struct kvq_tls_stream *stream) {
    return sizeof stream->output - stream->output_end;
}

bool kvq_tls_stream_has_output(const struct kvq_tls_stream *stream) {
    return stream->output_end > stream->output_start;
}

/* Sends what is encrypted: 0, or -1 with errno where not all of it could go. */
static int flush(struct kvq_tls_stream *stream) {
    while (kvq_tls_stream_has_output(stream)) {
        ssize_t sent = send(stream->socket, stream->output + stream->output_start,
                            stream->output_end - stream->output_start, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EINTR)
            return -1;
        if (sent > 0)
            stream->output_start += (size_t)sent;
    }
    stream->output_start = stream->output_end = 0;
    return 0;
}

static int write_socket(BIO *bio, const char *bytes, int count) {
    struct kvq_tls_stream *stream = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if ((size_t)count > room(stream) && (flush(stream) || (size_t)count > room(stream))) {
        BIO_set_retry_write(bio);
        return -1;
    }
    memcpy(stream->output + stream->output_end, bytes, (size_t)count);
    stream->output_end += (size_t)count;
    return count;
}

/* What the peer may be waiting for goes first, and only then a read may sleep. */
static int read_socket(BIO *bio, char *memory, int bytes_max) {
    struct kvq_tls_stream *stream = BIO_get_data(bio);
    int flags = flush(stream) == 0 ? stream->flags : MSG_DONTWAIT;
    ssize_t got = recv(stream->socket, memory, (size_t)bytes_max, flags);
    BIO_clear_retry_flags(bio);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)got;
}

static long control_socket(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

BIO_METHOD *kvq_tls_socket_method(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "kvq");
    if (method && BIO_meth_set_write(method, write_socket) &&
        BIO_meth_set_read(method, read_socket) && BIO_meth_set_ctrl(method, control_socket))
        return method;
    BIO_meth_free(method);
    return NULL;
}

/* ---- The stream ---- */

/* The name, be it a number or a host's, that the peer's certificate must bear. */
static bool expect_name(SSL *ssl, const char *name) {
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                                X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    if (X509_VERIFY_PARAM_set1_ip_asc(wanted, name))
        return true;
    ERR_clear_error(); /* it is no number */
    return SSL_set_tlsext_host_name(ssl, name) && SSL_set1_host(ssl, name);
}

static bool attach(struct kvq_tls_stream *stream, struct kvq_tls *tls) {
    BIO *bio = BIO_new(tls->socket_method);
    if (!bio)
        return false;
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    SSL_set_bio(stream->ssl, bio, bio);
    SSL_set_connect_state(stream->ssl);
    SSL_set_app_data(stream->ssl, tls);
    return expect_name(stream->ssl, tls->name);
}

struct kvq_tls_stream *kvq_tls_stream_new(struct kvq_client *client, int socket) {
    struct kvq_tls_stream *stream = malloc(sizeof *stream);
    if (!stream)
        return NULL;
    stream->ssl = SSL_new(kvq_tls_context(client));
    stream->socket = socket;
    stream->output_start = stream->output_end = 0;
    stream->failure[0] = '\0';
    stream->is_dry = true;
    if (stream->ssl && attach(stream, client->tls))
        return stream;
    ERR_clear_error();
    kvq_tls_stream_free(stream);
    return NULL;
}

void kvq_tls_stream_free(struct kvq_tls_stream *stream) {
    if (!stream)
        return;
    SSL_free(stream->ssl);
    free(stream);
}

/* ---- What went wrong ---- */

/* Alerts by which a daemon says what it has against this client's certificate. */
static const char *refusal(int alert) {
    switch (alert) {
    case TLS13_AD_CERTIFICATE_REQUIRED:
        return "there is none, and it wants one";
    case SSL3_AD_BAD_CERTIFICATE:
        return "it is faulty";
    case SSL3_AD_UNSUPPORTED_CERTIFICATE:
        return "it is not made for a client";
    case SSL3_AD_CERTIFICATE_REVOKED:
        return "it was revoked";
    case SSL3_AD_CERTIFICATE_EXPIRED:
        return "it has expired";
    case SSL3_AD_CERTIFICATE_UNKNOWN:
        return "it is not accepted";
    case TLS1_AD_UNKNOWN_CA:
        return "its CA is not known there";
    case TLS1_AD_ACCESS_DENIED:
        return "it may not come in";
    default:
        return NULL;
    }
}

static void __attribute__((format(printf, 3, 4)))
note(struct kvq_tls_stream *stream, int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(stream->failure, sizeof stream->failure, format, arguments);
    va_end(arguments);
    stream->error = error;
}

static void note_alert(struct kvq_tls_stream *stream, int alert) {
    const char *why = refusal(alert);
    if (why)
        note(stream, KVQ_UNAUTHENTICATED, "it refuses this client's certificate: %s", why);
    else if (alert == TLS1_AD_PROTOCOL_VERSION)
        note(stream, KVQ_CANNOT_CONNECT, "it does not speak TLS 1.3");
    else
        note(stream, KVQ_CANNOT_CONNECT, "it ended TLS by the alert \"%s\"",
             SSL_alert_desc_string_long(alert));
}

/* The daemon's certificate is not what it should be. */
static void note_certificate(struct kvq_tls_stream *stream) {
    const struct kvq_tls *tls = SSL_get_app_data(stream->ssl);
    long why = SSL_get_verify_result(stream->ssl);
    switch (why) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return note(stream, KVQ_CANNOT_CONNECT, "its certificate has expired");
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return note(stream, KVQ_CANNOT_CONNECT,
                    "its certificate does not name %.80s among its subjectAltNames", tls->name);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        return note(stream, KVQ_CANNOT_CONNECT, "its certificate is by no CA of %.160s", tls->ca);
    default:
        return note(stream, KVQ_CANNOT_CONNECT, "its certificate does not serve: %s",
                    X509_verify_cert_error_string(why));
    }
}

static void note_failure(struct kvq_tls_stream *stream) {
    unsigned long last = ERR_peek_last_error();
    const char *words = ERR_reason_error_string(last);
    int reason = ERR_GET_LIB(last) == ERR_LIB_SSL ? ERR_GET_REASON(last) : 0;
    if (reason > SSL_AD_REASON_OFFSET)
        note_alert(stream, reason - SSL_AD_REASON_OFFSET);
    else if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        note_certificate(stream);
    else if (reason == SSL_R_WRONG_VERSION_NUMBER && !SSL_is_init_finished(stream->ssl))
        note(stream, KVQ_CANNOT_CONNECT, "it does not speak TLS");
    else
        note(stream, KVQ_CONNECTION_LOST, "TLS fails: %s", words ? words : "for no known reason");
}

const char *kvq_tls_stream_failure(const struct kvq_tls_stream *stream, int *error) {
    *error = stream->error;
    return stream->failure;
}

/* Of what gave no bytes: 0 or -1 with errno. */
static ssize_t end_of(struct kvq_tls_stream *stream, int result) {
    int kind = SSL_get_error(stream->ssl, result);
    stream->is_dry = true;
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    if (kind == SSL_ERROR_SSL)
        note_failure(stream);
    ERR_clear_error();
    (void)flush(stream); /* there may be an alert in it that tells the daemon */
    return 0;
}

/* ---- Bytes ---- */

ssize_t kvq_tls_stream_handshake(struct kvq_tls_stream *stream, int flags) {
    stream->flags = flags;
    ERR_clear_error();
    int result = SSL_do_handshake(stream->ssl);
    return result == 1 ? 1 : end_of(stream, result);
}

ssize_t kvq_tls_stream_receive(struct kvq_tls_stream *stream, void *memory, size_t bytes,
                               int flags) {
    size_t got;
    stream->flags = flags;
    ERR_clear_error();
    int result = SSL_read_ex(stream->ssl, memory, bytes, &got);
    if (result != 1)
        return end_of(stream, result);
    stream->is_dry = false;
    return (ssize_t)got;
}

bool kvq_tls_stream_has_input(const struct kvq_tls_stream *stream) {
    return !stream->is_dry && SSL_has_pending(stream->ssl);
}

bool kvq_tls_stream_hung_up(struct kvq_tls_stream *stream) {
    char byte;
    size_t got;
    stream->flags = MSG_DONTWAIT;
    ERR_clear_error();
    int result = SSL_peek_ex(stream->ssl, &byte, sizeof byte, &got);
    return result != 1 && end_of(stream, result) == 0;
}

/* What has been taken of pieces. */
struct cursor {
    const struct iovec *piece, *end;
    size_t offset; /* in the piece */
};

static size_t left_of_piece(const struct cursor *at) {
    return at->piece < at->end ? at->piece->iov_len - at->offset : 0;
}

static const char *take(struct cursor *at, size_t bytes) {
    const char *taken = (const char *)at->piece->iov_base + at->offset;
    at->offset += bytes;
    if (at->offset == at->piece->iov_len) {
        at->piece++;
        at->offset = 0;
    }
    return taken;
}

static size_t gather(uint8_t *gathered, struct cursor *at) {
    size_t bytes = 0;
    while (at->piece < at->end && bytes < RECORD_BYTES) {
        size_t left = left_of_piece(at), wanted = RECORD_BYTES - bytes;
        size_t some = left < wanted ? left : wanted;
        memcpy(gathered + bytes, take(at, some), some);
        bytes += some;
    }
    return bytes;
}

/* Encrypts one record: of a long piece as it stands, else of what follows each other. How many
 * bytes; 0: OpenSSL writes no more. */
static size_t encrypt(struct kvq_tls_stream *stream, struct cursor *at) {
    size_t bytes = RECORD_BYTES, written;
    const void *from = stream->gathered;
    if (left_of_piece(at) >= RECORD_BYTES)
        from = take(at, RECORD_BYTES);
    else
        bytes = gather(stream->gathered, at);
    return SSL_write_ex(stream->ssl, from, bytes, &written) == 1 ? written : 0;
}

ssize_t kvq_tls_stream_send(struct kvq_tls_stream *stream, const struct iovec *pieces,
                            size_t count) {
    struct cursor at = {pieces, pieces + count, 0};
    size_t sent = 0;
    ERR_clear_error();
    while (at.piece < at.end && room(stream) >= RECORD_BYTES_MAX) {
        size_t bytes = encrypt(stream, &at);
        if (bytes == 0) {
            ERR_clear_error();
            errno = EPIPE;
            return -1;
        }
        sent += bytes;
    }
    return flush(stream) && sent == 0 ? -1 : (ssize_t)sent;
}
