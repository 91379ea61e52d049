/* Credentials: which users, groups, tokens and certificates are which tenant's, in which role.
 *
 * A table that is read from a file, and read again while it is in use. Without a table every user
 * of this machine is the default tenant, as an admin. What is known of a secret is its SHA-256.
 * Safe from any thread.
 */
#ifndef DAEMON_RPC_CREDENTIALS_H
#define DAEMON_RPC_CREDENTIALS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/rpc/role.h"
#include "daemon/store/tenant.h"

enum { CREDENTIAL_TOKEN_BYTES = 32, CREDENTIAL_DIGEST_BYTES = 32, CREDENTIALS_MAX = 4096 };
enum { CREDENTIAL_SUBJECT_BYTES_MAX = 255 };

enum credential_kind {
    CREDENTIAL_USER,
    CREDENTIAL_GROUP,
    CREDENTIAL_TOKEN,
    CREDENTIAL_CERTIFICATE
};

struct credential {
    enum credential_kind kind;
    bool is_any; /* of users */
    uint32_t id; /* of a user or a group */
    uint8_t digest[CREDENTIAL_DIGEST_BYTES];
    char subject[CREDENTIAL_SUBJECT_BYTES_MAX + 1];
    enum rpc_role role;
    char tenant[TENANT_NAME_BYTES_MAX + 1];
};

struct credentials_table {
    size_t count, tokens, certificates; /* rows, and how many of them are of these kinds */
    struct credential *rows;
    size_t quota_count;
    struct tenant_quota *quotas; /* the tenants' limits */
};

/* What the system says of who is at the other end of a unix socket. */
struct local_user {
    uint32_t user;
    const gid_t *groups;
    size_t group_count;
};

/* A client's certificate; empty where it has no such name, or one that is too long or not unique.
 */
struct certificate_names {
    char common_name[CREDENTIAL_SUBJECT_BYTES_MAX + 1];
    char subject[CREDENTIAL_SUBJECT_BYTES_MAX + 1]; /* all of it, as RFC 2253 writes it */
};

/* Whose a client is and what it may do: role ROLE_NONE, nothing. */
struct identity {
    char tenant[TENANT_NAME_BYTES_MAX + 1];
    enum rpc_role role;
};

/* Reads a file; a name without a slash is looked for in $CREDENTIALS_DIRECTORY first. 0, or -1 with
 * the fault - file, line, what is allowed - in message. */
int credentials_read(struct credentials_table *table, const char *file, char *message,
                     size_t message_bytes) __attribute__((warn_unused_result));
/* Reads the words of a row of limits, `TENANT name=value ...`. NULL, or what is wrong. */
const char *quota_row_read(char *const *words, int count, struct tenant_quota *row)
    __attribute__((warn_unused_result));

void credentials_free(struct credentials_table *table);

struct credentials {
    pthread_mutex_t lock;
    struct credentials_table table;
    bool has_table;          /* else every user is an admin of the default tenant */
    bool tcp_is_open;        /* who comes over TCP without a token is such a one, too */
    _Atomic uint32_t tables; /* so many there were: who was found in one is to be in the next */
};

void credentials_init(struct credentials *credentials);
void credentials_deinit(struct credentials *credentials);

/* From now on this table holds, which is taken over but for its limits. */
void credentials_set(struct credentials *credentials, struct credentials_table *table);

/* The first row that is the user's or one of its groups' counts. */
struct identity credentials_of_user(struct credentials *credentials, const struct local_user *user);
/* The first row whose subject is the certificate's counts: all of it where there is a = in the row,
 * else its common name. */
struct identity credentials_of_certificate(struct credentials *credentials,
                                           const struct certificate_names *names);
struct identity credentials_of_tcp(const struct credentials *credentials);

/* What is kept of a token: its SHA-256. */
struct token_digest {
    uint8_t bytes[CREDENTIAL_DIGEST_BYTES];
};

/* Takes the same time whichever row it is, and if it is none. */
struct identity credentials_of_token(struct credentials *credentials,
                                     const struct token_digest *digest);

#endif
