#include "daemon/store/chain_recovery.h"

#include "daemon/store/saving.h"

int chain_recover_blocks(struct store *store, struct session *session,
                         const struct manifest *manifest) {
    struct block_entry block;
    int status = STORE_OK;
    size_t at = 0;
    session->first_position = manifest->first_position;
    while (status != STORE_FULL && session_is_chain(session) &&
           manifest_next_block(manifest, &at, &block) &&
           block.first + block.tokens <= session->tokens)
        status = block_restore(&store->blocks, session, &block);
    return status == STORE_FULL ? STORE_FULL : STORE_OK;
}

static void settle(struct store *store, struct session *session) {
    pthread_mutex_lock(session->lock);
    struct session_point point = session_point(session);
    bool is_owed = saving_is_owed(session);
    pthread_mutex_unlock(session->lock);
    block_drop_unused(store, session);
    if (is_owed)
        (void)!saving_step(store, session, point);
}

void chain_settle_all(struct store *store) {
    struct session *session = list_after(&store->chains, 0);
    for (; session; session = list_next(&store->chains, session))
        settle(store, session);
}
