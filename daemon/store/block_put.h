/* Putting a block: an append to the chain at whose end its parent stands, to a fork of a chain in
 * whose middle it stands, or to a chain of its own.
 *
 * A put is used by one thread at a time. */
#ifndef DAEMON_STORE_BLOCK_PUT_H
#define DAEMON_STORE_BLOCK_PUT_H

#include "daemon/store/append.h"

struct block_put;

struct block_put_request {
    struct block_key key;
    const char *parent;  /* another block's key, of the same model and geometry */
    size_t parent_bytes; /* 0: none is known */
    uint32_t tokens;
    uint64_t first_position;      /* in the sequence, of a block without a parent that is there */
    struct session_policy policy; /* a parent that is kept otherwise is none */
    bool heads_first;
    uint64_t runs_max;
};

/* STORE_OK, STORE_EXISTS, STORE_BUSY (it is being put by somebody else, or its chain is in great
 * demand), STORE_INVALID, STORE_UNSUPPORTED or STORE_FULL. */
int block_put_begin(struct store *store, const struct block_put_request *request,
                    struct block_put **put) __attribute__((warn_unused_result));

/* A page's tokens of a layer's K or V, or what is left of the block, counted from its first token;
 * STORE_FULL and STORE_WAIT: repeat it before anything else; the rest as append_put(). */
int block_put_part(struct block_put *put, const struct append_part *part, void *workspace)
    __attribute__((warn_unused_result));

/* As append_commit(). */
int block_put_commit(struct block_put *put, void *workspace) __attribute__((warn_unused_result));

/* What was not committed is dropped. */
void block_put_end(struct block_put *put);

#endif
