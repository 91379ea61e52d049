/* Chains of blocks that come back after a restart. */
#ifndef DAEMON_STORE_CHAIN_RECOVERY_H
#define DAEMON_STORE_CHAIN_RECOVERY_H

#include "daemon/store/manifest.h"
#include "daemon/store/store.h"

/* The blocks of a session, if it is a chain, whose tokens are there, are there again: STORE_OK, or
 * STORE_FULL without memory for one. */
int chain_recover_blocks(struct store *store, struct session *session,
                         const struct manifest *manifest) __attribute__((warn_unused_result));

/* When all chains are there: those that had to give blocks to others are saved without these, which
 * else came back once the others' are deleted. */
void chain_settle_all(struct store *store);

#endif
