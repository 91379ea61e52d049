/* Appending more tokens than the daemon takes at a time. */
#ifndef CLIENT_CLI_APPEND_H
#define CLIENT_CLI_APPEND_H

#include "client/c/kvq.h"
#include "client/cli/progress.h"

/* Blocks of [layers, tokens, heads, head_dim]; the strides between layers must be given, as a call
 * of kvq_append has a part of the tokens. token_ids may be NULL. Returns when everything is coded
 * at the session's level. */
int append_all(struct kvq_client *client, struct kvq_session_state *state,
               const struct kvq_source *k, const struct kvq_source *v, const uint32_t *token_ids,
               uint64_t tokens, struct progress *progress);

/* Bytes of K and V of one token in all layers. */
uint64_t token_bytes_of(const struct kvq_geometry *geometry);

#endif
