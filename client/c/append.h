/* An append that is under way: what is sent, what of it each connection sends, and how far they
 * have come. */
#ifndef CLIENT_C_APPEND_H
#define CLIENT_C_APPEND_H

#include "client/c/kvq.h"
#include "client/c/rows.h"
#include "proto/wire/kvq.pb-c.h"

enum { KVQ_MESSAGE_BYTES = 512, KVQ_APPEND_SHARES_MAX = 8, KVQ_GROUP_BYTES = 16 };

/* Which tokens a DATA frame carries, counted from the append's first; of 0 tokens after the last.
 */
struct kvq_run {
    uint64_t offset;
    uint32_t tokens;
};

enum kvq_share_stage {
    KVQ_SHARE_VALUES, /* the runs, layers and parts of this call */
    KVQ_SHARE_FLUSH,  /* what is queued of them */
    KVQ_SHARE_SENT,   /* rests: other connections, or the caller, have more to send */
    KVQ_SHARE_COMMIT,
    KVQ_SHARE_COMMIT_QUEUED,
    KVQ_SHARE_ANSWER,
    KVQ_SHARE_REFUSED, /* the frame under way is finished first */
    KVQ_SHARE_REFUSED_CANCEL,
    KVQ_SHARE_ABORT,
    KVQ_SHARE_ABORT_QUEUED,
    KVQ_SHARE_ABORT_ANSWER,
    KVQ_SHARE_CLOSED, /* the daemon has nothing more to say, or the connection is gone */
};

/* What one connection sends: runs that follow each other. */
struct kvq_append_share {
    enum kvq_share_stage stage;
    uint32_t request_id;
    uint64_t begin, end; /* tokens, counted from the append's first */
    struct kvq_run run;  /* with layer and part: what is sent next */
    uint32_t layer;
    enum kvq_part part;
    bool committed;    /* COMMIT is queued, or sent */
    size_t turn_bytes; /* sent in this step */
};

/* Of all connections' failures the one that is the append's. */
struct kvq_append_failure {
    int error; /* 0: none has failed */
    int weight;
    uint64_t tokens; /* as the daemon's error has them */
    uint32_t tail_tokens;
    char message[KVQ_MESSAGE_BYTES];
};

struct kvq_append_answer {
    uint64_t version, tokens;
    uint32_t tail_tokens;
};

struct kvq_append {
    bool active;                     /* between kvq_append_begin() and its end */
    struct kvq_session_state *state; /* the caller's */
    struct kvq_geometry geometry;
    uint64_t first, tokens;
    uint32_t run_tokens_first, page_tokens; /* the first run fills the tail, the others a page */
    enum kvq_layout layout;
    struct kvq_append_options options; /* of kvq_append(): its values too */
    Kvq__SaltRange **salts;            /* of the options */
    struct kvq_strides strides[2];     /* K, V */
    const void *part_values;           /* of kvq_append_part() */
    /* Of the call under way: */
    const struct kvq_blocks
        *blocks; /* of kvq_block_put(), as the rest up to its state; else NULL */
    ProtobufCBinaryData *block_keys; /* its own and its parent's: the arena's */
    uint64_t first_position;
    struct kvq_session_state block_state; /* in place of a session's */
    bool whole;                           /* kvq_append(): from beginning to commit, run by run */
    bool dropping;                        /* kvq_append_abort() */
    int attempts;
    bool on_one_connection; /* others did not work out */
    size_t share_count;     /* connections, each with its share */
    struct kvq_append_share shares[KVQ_APPEND_SHARES_MAX];
    uint8_t group[KVQ_GROUP_BYTES]; /* of several */
    struct kvq_append_failure failure;
    bool visible; /* and this is what a connection was told of it: */
    struct kvq_append_answer answer;
};

struct kvq_client;
struct kvq_connection;

#pragma GCC visibility push(hidden)

/* ---- append_frames.c ---- */

/* Of the share: the run that begins at a token. */
struct kvq_run kvq_run_at(const struct kvq_append *append, const struct kvq_append_share *share,
                          uint64_t offset);

/* How many runs the append has. */
uint64_t kvq_runs_of(const struct kvq_append *append);

/* Of one head of one token. */
size_t kvq_dim_bytes(const struct kvq_geometry *geometry, enum kvq_part part);

/* Of all layers' K and V of one token. */
uint64_t kvq_append_token_bytes(const struct kvq_geometry *geometry);

/* Queues the frame that comes next, its values where they stand or, where they lie in too many
 * rows, gathered. Returns whether there was room. */
bool kvq_queue_frame(struct kvq_connection *connection, const struct kvq_append *append,
                     const struct kvq_append_share *share);

/* Moves on to the frame after it. Returns whether a run has ended. */
bool kvq_append_go_on(const struct kvq_append *append, struct kvq_append_share *share);

/* ---- append_share.c ---- */

/* Runs one share as far as its connection allows: KVQ_AGAIN, or KVQ_OK where it rests or is closed.
 * What fails goes to the append's failure, and what was answered to its answer; after a failure of
 * any the share is ended. */
int kvq_append_share_step(struct kvq_client *client, struct kvq_append_share *share);

/* Gives it up at once. */
void kvq_append_share_leave(struct kvq_client *client, struct kvq_append_share *share);

/* ---- append_run.c ---- */

/* Runs the append from its beginning. */
int kvq_append_run(struct kvq_client *client);

/* Runs its one share, of an append in parts, from a stage of its own. */
int kvq_append_run_part(struct kvq_client *client, enum kvq_share_stage stage);

#pragma GCC visibility pop

#endif
