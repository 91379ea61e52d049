#include "daemon/rpc/credentials.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void credentials_init(struct credentials *credentials) {
    *credentials = (struct credentials){0};
    pthread_mutex_init(&credentials->lock, NULL);
}

void credentials_free(struct credentials_table *table) {
    free(table->rows);
    free(table->quotas);
    *table = (struct credentials_table){0};
}

void credentials_deinit(struct credentials *credentials) {
    credentials_free(&credentials->table);
    pthread_mutex_destroy(&credentials->lock);
}

void credentials_set(struct credentials *credentials, struct credentials_table *table) {
    struct credentials_table before;
    pthread_mutex_lock(&credentials->lock);
    before = credentials->table;
    credentials->table = *table;
    credentials->table.quotas = NULL;
    credentials->table.quota_count = 0;
    credentials->has_table = true;
    atomic_fetch_add(&credentials->tables, 1);
    pthread_mutex_unlock(&credentials->lock);
    credentials_free(&before);
    *table = (struct credentials_table){.quota_count = table->quota_count, .quotas = table->quotas};
}

static const struct identity anybody = {.tenant = TENANT_DEFAULT, .role = ROLE_ADMIN};

static struct identity identity_of(const struct credential *row) {
    struct identity identity = {.role = row->role};
    snprintf(identity.tenant, sizeof identity.tenant, "%s", row->tenant);
    return identity;
}

static bool is_users(const struct credential *row, const struct local_user *user) {
    if (row->kind == CREDENTIAL_USER)
        return row->is_any || row->id == user->user;
    for (size_t i = 0; row->kind == CREDENTIAL_GROUP && i < user->group_count; i++)
        if (row->id == user->groups[i])
            return true;
    return false;
}

struct identity credentials_of_user(struct credentials *credentials,
                                    const struct local_user *user) {
    struct identity identity = {.role = ROLE_NONE};
    pthread_mutex_lock(&credentials->lock);
    const struct credentials_table *table = &credentials->table;
    size_t i = 0;
    while (i < table->count && !is_users(&table->rows[i], user))
        i++;
    if (!credentials->has_table)
        identity = anybody;
    else if (i < table->count)
        identity = identity_of(&table->rows[i]);
    pthread_mutex_unlock(&credentials->lock);
    return identity;
}

static bool is_certificates(const struct credential *row, const struct certificate_names *names) {
    const char *name = strchr(row->subject, '=') ? names->subject : names->common_name;
    return row->kind == CREDENTIAL_CERTIFICATE && strcmp(row->subject, name) == 0;
}

struct identity credentials_of_certificate(struct credentials *credentials,
                                           const struct certificate_names *names) {
    struct identity identity = {.role = ROLE_NONE};
    pthread_mutex_lock(&credentials->lock);
    const struct credentials_table *table = &credentials->table;
    size_t i = 0;
    while (i < table->count && !is_certificates(&table->rows[i], names))
        i++;
    if (i < table->count)
        identity = identity_of(&table->rows[i]);
    pthread_mutex_unlock(&credentials->lock);
    return identity;
}

struct identity credentials_of_tcp(const struct credentials *credentials) {
    return credentials->tcp_is_open ? anybody : (struct identity){.role = ROLE_NONE};
}

struct identity credentials_of_token(struct credentials *credentials,
                                     const struct token_digest *digest) {
    struct identity identity = {.role = ROLE_NONE};
    pthread_mutex_lock(&credentials->lock);
    const struct credentials_table *table = &credentials->table;
    const struct credential *found = NULL;
    for (size_t i = 0; i < table->count; i++) {
        const struct credential *row = &table->rows[i];
        bool is_same = CRYPTO_memcmp(row->digest, digest->bytes, sizeof digest->bytes) == 0;
        found = row->kind == CREDENTIAL_TOKEN && is_same ? row : found;
    }
    if (found)
        identity = identity_of(found);
    pthread_mutex_unlock(&credentials->lock);
    return identity;
}
