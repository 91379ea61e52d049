/* Whom a client trusts over TLS, and by which certificate the daemon knows it. */
#ifndef CLIENT_C_TLS_H
#define CLIENT_C_TLS_H

#include <openssl/bio.h>
#include <stdbool.h>

struct kvq_client;
struct kvq_connect_options;

struct kvq_tls {
    char *ca, *certificate, *key; /* files; the last two NULL: none */
    char *name;                   /* that the daemon's certificate must bear */
    SSL_CTX *context;             /* what was read of them */
    bool is_fresh;                /* just now */
    BIO_METHOD *socket_method;    /* how a stream's bytes come and go */
};

#pragma GCC visibility push(hidden)

/* What the options name, else the environment: the client has it then, or NULL where nothing asks
 * for TLS, or its address is a path. Failures are recorded. */
int kvq_find_tls(struct kvq_client *client, const struct kvq_connect_options *options);

/* The files as they are by now; where they cannot be read, as they were. */
SSL_CTX *kvq_tls_context(struct kvq_client *client);

/* NULL: does nothing. */
void kvq_tls_free(struct kvq_tls *tls);

#pragma GCC visibility pop

#endif
