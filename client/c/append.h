/* An append that is under way: what is sent, and how far it has come. */
#ifndef CLIENT_C_APPEND_H
#define CLIENT_C_APPEND_H

#include "client/c/kvq.h"
#include "client/c/rows.h"

/* Which tokens a DATA frame carries, counted from the append's first; of 0 tokens after the last.
 */
struct kvq_run {
    uint64_t offset;
    uint32_t tokens;
};

struct kvq_append {
    bool active; /* between kvq_append_begin() and its end */
    uint32_t request_id;
    struct kvq_session_state *state; /* the caller's */
    struct kvq_geometry geometry;
    uint64_t first, tokens;
    uint32_t run_tokens_first, page_tokens; /* the first run fills the tail, the others a page */
    enum kvq_layout layout;
    struct kvq_append_options options; /* of kvq_append(): its values too */
    struct kvq_strides strides[2];     /* K, V */
    /* Of the call under way: */
    bool whole; /* kvq_append(): from beginning to commit, run by run */
    int attempts;
    struct kvq_run run; /* with layer and part: what is sent next */
    uint32_t layer;
    enum kvq_part part;
    const void *part_values; /* of kvq_append_part() */
    int result;              /* once the daemon's refusal or the caller's cancel is known */
};

struct kvq_connection;

#pragma GCC visibility push(hidden)

struct kvq_run kvq_first_run(const struct kvq_append *append);

/* How many runs the append has. */
uint64_t kvq_runs_of(const struct kvq_append *append);

/* Of one head of one token. */
size_t kvq_dim_bytes(const struct kvq_geometry *geometry, enum kvq_part part);

/* Of all layers' K and V of one token. */
uint64_t kvq_append_token_bytes(const struct kvq_geometry *geometry);

/* Queues the frame that comes next, its values where they stand or, where they lie in too many
 * rows, gathered. Returns whether there was room. */
bool kvq_queue_frame(struct kvq_connection *connection, const struct kvq_append *append);

/* Moves on to the frame after it. Returns whether a run has ended. */
bool kvq_append_go_on(struct kvq_append *append);

#pragma GCC visibility pop

#endif
