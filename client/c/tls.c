#include "client/c/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/c/client.h"
#include "client/c/credential_file.h"
#include "client/c/tls_stream.h"

enum { READ_BYTES = 64 << 10 }; /* at once, of the socket */

/* ---- Files ---- */

static int unusable(struct kvq_client *client, const char *what, const char *file) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    int error = kvq_fail(client, KVQ_ARGUMENT, "the %s file %s: %s", what, file,
                         reason ? reason : "it does not hold what it should, in PEM");
    ERR_clear_error();
    return error;
}

/* One that anybody may read. */
static const char *find_file(struct kvq_client *client, const char *what, const char *file,
                             char path[PATH_MAX]) {
    bool guarded;
    const char *found = kvq_credential_path(file, path, &guarded);
    if (access(found, R_OK) == 0)
        return found;
    (void)kvq_fail(client, KVQ_ARGUMENT, "the %s file %s: %s", what, file, strerror(errno));
    return NULL;
}

static int load_ca(struct kvq_client *client, SSL_CTX *context) {
    char path[PATH_MAX];
    const char *file = find_file(client, "TLS CA", client->tls->ca, path);
    if (!file)
        return KVQ_ARGUMENT;
    if (!SSL_CTX_load_verify_file(context, file))
        return unusable(client, "TLS CA", client->tls->ca);
    return KVQ_OK;
}

static int load_certificate(struct kvq_client *client, SSL_CTX *context) {
    char path[PATH_MAX];
    const char *file = find_file(client, "TLS certificate", client->tls->certificate, path);
    if (!file)
        return KVQ_ARGUMENT;
    if (SSL_CTX_use_certificate_chain_file(context, file) != 1)
        return unusable(client, "TLS certificate", client->tls->certificate);
    return KVQ_OK;
}

/* Nobody is asked: a key that is encrypted does not serve. */
static int no_password(char *password, int bytes_max, int writing, void *data) {
    (void)password, (void)bytes_max, (void)writing, (void)data;
    return -1;
}

static int load_key(struct kvq_client *client, SSL_CTX *context) {
    int file = kvq_open_secret(client, "TLS key", client->tls->key);
    if (file < 0)
        return KVQ_ARGUMENT;
    BIO *bio = BIO_new_fd(file, BIO_NOCLOSE);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    bool taken = key && SSL_CTX_use_PrivateKey(context, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    close(file);
    return taken ? KVQ_OK : unusable(client, "TLS key", client->tls->key);
}

static int load_files(struct kvq_client *client, SSL_CTX *context) {
    int error = load_ca(client, context);
    if (!error && client->tls->certificate)
        error = load_certificate(client, context);
    if (!error && client->tls->key)
        error = load_key(client, context);
    return error;
}

/* ---- The context ---- */

static bool set_up(SSL_CTX *context) {
    static const unsigned char protocol[] = "\5kvq/1"; /* its length before it */
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_quiet_shutdown(context, 1); /* a forked process closes what is not its own */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_BYTES);
    return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) &&
           SSL_CTX_set_alpn_protos(context, protocol, sizeof protocol - 1) == 0;
}

/* NULL: that is recorded. */
static SSL_CTX *new_context(struct kvq_client *client) {
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context && set_up(context)) {
        if (!load_files(client, context))
            return context;
    } else {
        (void)kvq_fail(client, KVQ_NO_MEMORY, "TLS 1.3 cannot be had of OpenSSL here");
    }
    ERR_clear_error();
    SSL_CTX_free(context);
    return NULL;
}

SSL_CTX *kvq_tls_context(struct kvq_client *client) {
    struct kvq_tls *tls = client->tls;
    SSL_CTX *context = tls->is_fresh ? NULL : new_context(client);
    tls->is_fresh = false;
    if (context) {
        SSL_CTX_free(tls->context);
        tls->context = context;
    }
    return tls->context;
}

/* ---- Options ---- */

static const char *given(const char *option, const char *variable) {
    const char *environment = getenv(variable);
    return option ? option : environment && environment[0] ? environment : NULL;
}

static int check(struct kvq_client *client, const char *ca, const char *certificate,
                 const char *key, const char *name) {
    if (name && !name[0]) /* OpenSSL would take any */
        return kvq_fail(client, KVQ_ARGUMENT, "the TLS name is empty");
    if (!certificate != !key)
        return kvq_fail(client, KVQ_ARGUMENT,
                        "a TLS certificate and its key are given both or not at all");
    if (certificate && !ca)
        return kvq_fail(client, KVQ_ARGUMENT,
                        "a TLS certificate is given, but no CA by which the daemon is known");
    return KVQ_OK;
}

static char *copy(const char *text) {
    return text ? strdup(text) : NULL;
}

static int make(struct kvq_client *client) {
    struct kvq_tls *tls = client->tls;
    tls->socket_method = kvq_tls_socket_method();
    if (!tls->ca || !tls->name || !tls->socket_method)
        return kvq_fail(client, KVQ_NO_MEMORY, "no memory for TLS");
    tls->context = new_context(client);
    tls->is_fresh = true;
    return tls->context ? KVQ_OK : KVQ_ARGUMENT;
}

int kvq_find_tls(struct kvq_client *client, const struct kvq_connect_options *options) {
    const char *ca = given(options->tls_ca, "KVQ_TLS_CA");
    const char *certificate = given(options->tls_certificate, "KVQ_TLS_CERTIFICATE");
    const char *key = given(options->tls_key, "KVQ_TLS_KEY");
    const char *name = given(options->tls_name, "KVQ_TLS_NAME");
    bool is_host = client->host[0];
    int error = is_host ? check(client, ca, certificate, key, name) : KVQ_OK;
    if (error || !ca || !is_host)
        return error;
    client->tls = calloc(1, sizeof *client->tls);
    if (!client->tls)
        return kvq_fail(client, KVQ_NO_MEMORY, "no memory for TLS");
    *client->tls = (struct kvq_tls){.ca = copy(ca),
                                    .certificate = copy(certificate),
                                    .key = copy(key),
                                    .name = copy(name ? name : client->host)};
    return make(client);
}

void kvq_tls_free(struct kvq_tls *tls) {
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    BIO_meth_free(tls->socket_method);
    free(tls->ca);
    free(tls->certificate);
    free(tls->key);
    free(tls->name);
    free(tls);
}
