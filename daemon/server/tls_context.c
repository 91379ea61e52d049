#include "daemon/server/tls_context.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/credential_file.h"
#include "daemon/server/certificate.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    KEY_BYTES_LEAST = 32,              /* of a block of the memory for private keys */
    OWN_KEY_BYTES = 64 << 10,          /* while a reload reads the next one, too */
    CONNECTION_KEY_BYTES = 2 * 64,     /* a number of each of `groups`, and some */
    CLIENT_CHAIN_BYTES_MAX = 32 << 10, /* of certificates that a client sends */
    CHAIN_DEPTH_MAX = 4
};

static const char groups[] = "X25519:P-256:P-384";
static const char ciphers[] =
    "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256";
static const unsigned char protocol[] = {5, 'k', 'v', 'q', '/', '1'}; /* of ALPN */

void tls_context_init(struct tls_context *tls) {
    *tls = (struct tls_context){0};
    pthread_mutex_init(&tls->lock, NULL);
}

void tls_context_deinit(struct tls_context *tls) {
    SSL_CTX_free(tls->context);
    pthread_mutex_destroy(&tls->lock);
}

bool tls_context_is_wanted(const struct config *config) {
    return config->tls_certificate && config->tls_key && config->tls_client_ca;
}

/* OpenSSL wants a power of two. */
uint64_t tls_context_bytes(const struct config *config) {
    uint64_t bytes = OWN_KEY_BYTES, wanted = config->connections * CONNECTION_KEY_BYTES;
    if (!tls_context_is_wanted(config))
        return 0;
    while (bytes < OWN_KEY_BYTES + wanted)
        bytes *= 2;
    return bytes;
}

SSL *tls_context_new_connection(struct tls_context *tls) {
    pthread_mutex_lock(&tls->lock);
    SSL *ssl = SSL_new(tls->context); /* it keeps what it was made with */
    pthread_mutex_unlock(&tls->lock);
    return ssl;
}

/* --- files --- */

struct reading {
    SSL_CTX *context;
    char *message;
    size_t message_bytes;
};

static int fail(const struct reading *reading, const char *file, const char *fault) {
    unsigned long error = ERR_peek_last_error();
    const char *reason = error ? ERR_reason_error_string(error) : NULL;
    snprintf(reading->message, reading->message_bytes, "%s %s%s%s%s", file, fault,
             reason ? " (" : "", reason ? reason : "", reason ? ")" : "");
    return -1;
}

/* All of a file, in memory that forgets it when it is freed; NULL, with what is wrong in the
 * message. */
static BIO *open_file(const struct reading *reading, const char *file, bool is_secret) {
    bool is_managers;
    char bytes[4096];
    ssize_t count = 0;
    int opened = credential_file_open(file, &is_managers);
    if (opened < 0) {
        snprintf(reading->message, reading->message_bytes, "%s: %s", file, strerror(errno));
        return NULL;
    }
    const char *loose = is_secret ? credential_file_looseness(opened, is_managers) : NULL;
    BIO *memory = loose ? NULL : BIO_new(is_secret ? BIO_s_secmem() : BIO_s_mem());
    for (size_t at = 0; memory && at < FILE_BYTES_MAX; at += (size_t)count)
        if ((count = read(opened, bytes, sizeof bytes)) <= 0 ||
            BIO_write(memory, bytes, (int)count) != count)
            break;
    close(opened);
    explicit_bzero(bytes, sizeof bytes);
    if (memory && count == 0)
        return memory;
    BIO_free(memory);
    fail(reading, file, loose ? loose : "cannot be read");
    return NULL;
}

/* Each object of a file is given to take(). 0, or -1 with what is wrong in the message: no such
 * object, too. */
static int read_each(const struct reading *reading, const char *file, const char *what,
                     int (*take)(SSL_CTX *context, BIO *memory)) {
    BIO *memory = open_file(reading, file, false);
    int taken = 0, status = 1;
    if (!memory)
        return -1;
    while (!BIO_eof(memory) && (status = take(reading->context, memory)) == 1)
        taken++;
    BIO_free(memory);
    bool is_end = status == 1 || ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (taken == 0 || !is_end)
        return fail(reading, file, what);
    ERR_clear_error();
    return 0;
}

/* The first is the daemon's own. */
static int take_certificate(SSL_CTX *context, BIO *memory) {
    X509 *certificate = PEM_read_bio_X509(memory, NULL, NULL, NULL);
    if (!certificate)
        return 0;
    bool is_taken = SSL_CTX_get0_certificate(context)
                        ? SSL_CTX_add1_chain_cert(context, certificate) == 1
                        : SSL_CTX_use_certificate(context, certificate) == 1;
    X509_free(certificate);
    return is_taken;
}

static int take_authority(SSL_CTX *context, BIO *memory) {
    X509 *certificate = PEM_read_bio_X509(memory, NULL, NULL, NULL);
    if (!certificate)
        return 0;
    int status = X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate) &&
                 SSL_CTX_add_client_CA(context, certificate);
    X509_free(certificate);
    return status;
}

static int take_revocations(SSL_CTX *context, BIO *memory) {
    X509_CRL *list = PEM_read_bio_X509_CRL(memory, NULL, NULL, NULL);
    if (!list)
        return 0;
    int status = X509_STORE_add_crl(SSL_CTX_get_cert_store(context), list);
    X509_CRL_free(list);
    return status;
}

/* Nobody is there to be asked. */
static int no_passphrase(char *buffer, int bytes, int is_writing, void *context) {
    (void)buffer;
    (void)bytes;
    (void)is_writing;
    (void)context;
    return -1;
}

static int read_key(const struct reading *reading, const char *file) {
    BIO *memory = open_file(reading, file, true);
    if (!memory)
        return -1;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(memory, NULL, no_passphrase, NULL);
    BIO_free(memory);
    int status = 0;
    if (!key)
        status = fail(reading, file, "is no private key as PEM without a passphrase");
    else if (SSL_CTX_use_PrivateKey(reading->context, key) != 1 ||
             SSL_CTX_check_private_key(reading->context) != 1)
        status = fail(reading, file, "is not the certificate's key");
    EVP_PKEY_free(key);
    return status;
}

static int read_revocations(const struct reading *reading, const char *file) {
    if (read_each(reading, file, "holds no list of revoked certificates as PEM", take_revocations) <
        0)
        return -1;
    X509_STORE_set_flags(SSL_CTX_get_cert_store(reading->context),
                         X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return 0;
}

static int read_files(const struct reading *reading, const struct config *config) {
    if (read_each(reading, config->tls_certificate, "holds no certificate as PEM",
                  take_certificate) < 0 ||
        read_key(reading, config->tls_key) < 0 ||
        read_each(reading, config->tls_client_ca, "holds no certificate as PEM", take_authority) <
            0)
        return -1;
    return config->tls_crl ? read_revocations(reading, config->tls_crl) : 0;
}

/* --- what is allowed --- */

static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_bytes,
                           const unsigned char *offered, unsigned offered_bytes, void *context) {
    unsigned char *choice;
    (void)ssl;
    (void)context;
    if (SSL_select_next_proto(&choice, chosen_bytes, protocol, sizeof protocol, offered,
                              offered_bytes) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = choice;
    return SSL_TLSEXT_ERR_OK;
}

static bool restrict_to(SSL_CTX *context) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* a record in one read, not in two */
    SSL_CTX_set_max_cert_list(context, CLIENT_CHAIN_BYTES_MAX);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(context, CHAIN_DEPTH_MAX);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_ciphersuites(context, ciphers) == 1 &&
           SSL_CTX_set1_groups_list(context, groups) == 1 &&
           SSL_CTX_set_num_tickets(context, 0) == 1;
}

static void lower(int64_t *end, const ASN1_TIME *time) {
    int64_t other = certificate_time(time);
    if (*end == 0 || (other > 0 && other < *end))
        *end = other;
}

static void note_ends(struct tls_context *tls, SSL_CTX *context) {
    const STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(context));
    int64_t authorities = 0, revocations = 0;
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        X509_OBJECT *object = sk_X509_OBJECT_value(all, i);
        X509_CRL *list = X509_OBJECT_get0_X509_CRL(object);
        if (list)
            lower(&revocations, X509_CRL_get0_nextUpdate(list));
        else
            lower(&authorities, X509_get0_notAfter(X509_OBJECT_get0_X509(object)));
    }
    tls->certificate_end = certificate_time(X509_get0_notAfter(SSL_CTX_get0_certificate(context)));
    tls->authorities_end = authorities;
    tls->revocations_end = revocations;
}

static void replace(struct tls_context *tls, SSL_CTX *context) {
    note_ends(tls, context);
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *before = tls->context;
    tls->context = context;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(before);
}

int tls_context_read(struct tls_context *tls, const struct config *config, char *message,
                     size_t message_bytes) {
    if (!CRYPTO_secure_malloc_initialized()) /* where it cannot be locked it is used all the same */
        (void)CRYPTO_secure_malloc_init(tls_context_bytes(config), KEY_BYTES_LEAST);
    ERR_clear_error();
    struct reading reading = {SSL_CTX_new(TLS_server_method()), message, message_bytes};
    int status = 0;
    if (!reading.context || !restrict_to(reading.context))
        status = fail(&reading, "TLS", "cannot be set up");
    if (status == 0)
        status = read_files(&reading, config);
    ERR_clear_error();
    if (status == 0)
        replace(tls, reading.context);
    else
        SSL_CTX_free(reading.context);
    return status;
}
