/* Appending: begin, parts in any order of layers, commit. Nothing is seen before the commit.
 *
 * The tokens are cut into runs as PROTOCOL.md says: the first fills the session's tail, the others
 * are whole pages, the last takes what is left. A run that fills a page goes into an open chunk,
 * coded as it arrives; one that does not goes into the tail. An append belongs to one thread at a
 * time and holds a reference to its session.
 */
#ifndef DAEMON_STORE_APPEND_H
#define DAEMON_STORE_APPEND_H

#include "daemon/store/store.h"

struct append;

struct append_request {
    struct store_name session;
    uint64_t first, tokens;
    uint32_t tail_tokens;
    bool heads_first; /* blocks are [heads, tokens, head_dim] */
    bool settle;      /* code at the session's level at once, the tail too */
    uint64_t runs_max;
};

struct append_part {
    uint64_t first;
    uint32_t tokens, layer;
    enum page_part part;
    const void *values;
    size_t bytes;
};

/* STORE_OK, STORE_MISS, STORE_BUSY, STORE_WRONG_FIRST, STORE_TAIL_MOVED, STORE_INVALID,
 * STORE_UNSUPPORTED or STORE_FULL. state is filled for all but STORE_MISS. */
int append_begin(struct store *store, const struct append_request *request, struct append **append,
                 struct session_state *state) __attribute__((warn_unused_result));

/* STORE_OK, STORE_INVALID (not a run of this append, or one that came before), STORE_FULL (nothing
 * was done, repeat it) or STORE_INTERNAL. */
int append_put(struct append *append, const struct append_part *part, void *workspace)
    __attribute__((warn_unused_result));

/* One step of the commit. STORE_OK when all is visible, STORE_MORE to be called again, STORE_FULL
 * (repeat), STORE_INCOMPLETE, STORE_MISS (deleted meanwhile) or STORE_INTERNAL. */
int append_commit(struct append *append, void *workspace, struct session_state *state)
    __attribute__((warn_unused_result));

/* After a commit with settle: whether the keeper is done with the whole session. */
bool append_is_settled(const struct append *append);

/* Ends the append; what was not committed is dropped. */
void append_free(struct append *append);

#endif
