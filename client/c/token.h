/* The secret by which the daemon knows whose client this is. */
#ifndef CLIENT_C_TOKEN_H
#define CLIENT_C_TOKEN_H

#include <stddef.h>
#include <stdint.h>

struct kvq_client;
struct kvq_connect_options;

enum { KVQ_TOKEN_BYTES = 32 };

#pragma GCC visibility push(hidden)

/* What the options name, else $KVQ_TOKEN_FILE: so many bytes, or 0 where neither is set. Failures
 * are recorded; they do not repeat what was read. */
int kvq_find_token(struct kvq_client *client, const struct kvq_connect_options *options,
                   uint8_t token[KVQ_TOKEN_BYTES], size_t *token_bytes);

#pragma GCC visibility pop

#endif
