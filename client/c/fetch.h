/* A fetch that is under way: what is wanted, and a range of its tokens for each connection. */
#ifndef CLIENT_C_FETCH_H
#define CLIENT_C_FETCH_H

#include "client/c/kvq.h"
#include "client/c/rows.h"
#include "proto/wire/frame.h"
#include "proto/wire/kvq.pb-c.h"

enum { KVQ_FETCH_RANGES_MAX = 8 };

/* K or V as the caller wants it. */
struct kvq_fetch_part {
    bool wanted;
    struct kvq_target target;
    struct kvq_strides strides;
    size_t dim_bytes;
};

/* What one connection fetches. */
struct kvq_fetch_range {
    int stage; /* of fetch_range.c; 0: the beginning */
    uint32_t request_id;
    uint64_t first, end;
    uint64_t *cursors;     /* the next token of each layer and part */
    struct wire_data data; /* the frame at hand */
    struct kvq_rows rows;  /* where it goes */
    bool in_place;         /* else through the connection's buffer */
    struct kvq_fetch_result result;
};

/* A block that is wanted, in the client's arena. */
struct kvq_fetch_block {
    struct kvq_target targets[2];
    uint64_t received_tokens; /* over all layers and parts */
};

struct kvq_fetch {
    char session[KVQ_SESSION_BYTES_MAX + 1], model[KVQ_MODEL_BYTES_MAX + 1];
    uint64_t first, end, if_version;
    uint32_t first_layer, end_layer, heads, page_tokens;
    enum kvq_dtype dtype;
    enum kvq_layout layout;
    struct kvq_fetch_part parts[2]; /* K, V */
    bool (*progress)(void *context, uint64_t bytes_received);
    void *context;
    uint64_t received_bytes;
    struct kvq_fetch_result *result; /* the caller's, or NULL */
    const struct kvq_blocks *space;  /* of kvq_block_get(), as the rest up to hits; else NULL */
    ProtobufCBinaryData *keys;       /* the arena's */
    struct kvq_fetch_block *blocks;  /* each at a multiple of block_tokens from token 0 on */
    uint32_t block_tokens;
    bool *hits;             /* the caller's */
    bool on_one_connection; /* others did not work out */
    size_t range_count;     /* connections, each with its range */
    struct kvq_fetch_range ranges[KVQ_FETCH_RANGES_MAX];
};

struct kvq_client;
struct kvq_connection;

enum { KVQ_RANGE_DONE = 3 };

#pragma GCC visibility push(hidden)

/* Runs the fetch that call.fetch says, from its beginning. */
int kvq_fetch_run(struct kvq_client *client);

/* Runs one range as far as its connection allows; its stage is then KVQ_RANGE_DONE, or an error or
 * KVQ_AGAIN is returned. */
int kvq_fetch_range_step(struct kvq_client *client, struct kvq_connection *connection,
                         struct kvq_fetch_range *range);

#pragma GCC visibility pop

#endif
