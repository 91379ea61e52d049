/* Recall by keys: which tokens of a session the queries of each layer attend to most, told from the
 * summaries of its chunks' keys alone: nothing is decoded, and nothing read from disk.
 *
 * The happy path: begin -> put each layer's queries -> step until STORE_OK -> ranges of each layer.
 * Its chunks are held from the first step on to the last, which is a matter of milliseconds.
 */
#ifndef DAEMON_RECALL_RECALL_KEYS_H
#define DAEMON_RECALL_RECALL_KEYS_H

#include "daemon/recall/key_choice.h"
#include "daemon/store/fetch.h"

enum { RECALL_BLOCKS_MAX = 1 << 16, RECALL_QUERY_VALUES_MAX = 1 << 24 };

struct recall_keys_request {
    const struct fetch *fetch; /* that was begun: of whose tokens and layers; it is
                                * read until the end */
    uint32_t queries;          /* of each layer */
    uint32_t k;                /* blocks of each layer at most: 1..RECALL_BLOCKS_MAX */
};

struct recall_keys;

/* STORE_OK, STORE_MISS, STORE_FULL; STORE_UNSUPPORTED if the session keeps no summaries; or
 * STORE_INVALID, with a sentence that says why. */
int recall_keys_begin(struct store *store, const struct recall_keys_request *request,
                      struct recall_keys **recall, const char **fault)
    __attribute__((warn_unused_result));

/* What a layer's queries have. */
size_t recall_keys_query_bytes(const struct recall_keys *recall);

/* A layer's, [queries, head_dim] float32. STORE_OK, or STORE_INVALID: it is none of the layers, or
 * came before, or is of another length, or a value is not finite. */
int recall_keys_put(struct recall_keys *recall, uint32_t layer, const void *values, size_t bytes)
    __attribute__((warn_unused_result));

/* A millisecond's work at most. STORE_MORE, STORE_OK at the end; STORE_INCOMPLETE (not all layers'
 * queries are there), STORE_MISS or STORE_FULL at the first. */
int recall_keys_step(struct recall_keys *recall) __attribute__((warn_unused_result));

/* After the end, of a layer that was asked for. */
const struct key_range *recall_keys_ranges(const struct recall_keys *recall, uint32_t layer,
                                           size_t *count);

void recall_keys_end(struct recall_keys *recall);

#endif
