/* Appending: begin, parts in any order of layers, commit. Nothing is seen before the commit.
 *
 * The tokens are cut into runs as PROTOCOL.md says: the first fills the session's tail, the others
 * are whole pages, the last takes what is left. A run that fills a page goes into an open chunk,
 * coded as it arrives; one that does not goes into the tail.
 *
 * Several connections may send one append: each is a member, used by one thread at a time; all
 * parts of a run come from one of them, so that members share counters and nothing else. The append
 * is committed when all of them have, and dropped when one ends before. It holds a reference to its
 * session.
 */
#ifndef DAEMON_STORE_APPEND_H
#define DAEMON_STORE_APPEND_H

#include "daemon/store/store.h"

struct append_member;

enum { APPEND_GROUP_BYTES = 16, APPEND_MEMBERS_MAX = 64 };

struct append_request {
    struct store_name session;
    uint64_t first, tokens;
    uint32_t tail_tokens;
    bool heads_first; /* blocks are [heads, tokens, head_dim] */
    bool settle;      /* code at the session's level at once, the tail too */
    uint64_t runs_max;
    /* of an append with several members, who come with the same group; else 1 */
    uint32_t members;
    uint8_t group[APPEND_GROUP_BYTES];
    uint64_t join_ns; /* from the first on: who has not come by then is not waited for */
    bool token_ids;   /* they come, too, on one of the members */
    const struct salt
        *salts; /* of these tokens, ascending, each in the range; of the first member */
    size_t salt_count;
};

struct append_part {
    uint64_t first;
    uint32_t tokens, layer;
    enum page_part part;
    const void *values;
    size_t bytes;
    uint32_t row_tokens; /* with heads_first: from one head to the next; 0: as many as tokens */
};

/* Begins an append, or joins one under way. STORE_OK, STORE_MISS, STORE_BUSY, STORE_WRONG_FIRST,
 * STORE_TAIL_MOVED, STORE_INVALID, STORE_UNSUPPORTED or STORE_FULL. state is filled for all but
 * STORE_MISS. */
int append_begin(struct store *store, const struct append_request *request,
                 struct append_member **member, struct session_state *state)
    __attribute__((warn_unused_result));

/* STORE_OK, STORE_INVALID (not a run of this append, or one that came before, or from another
 * member), STORE_UNSUPPORTED (the append takes more than the memory limit leaves to sessions),
 * STORE_FULL (nothing was done, repeat it), STORE_WAIT (the same: the session's tail comes
 * from disk), STORE_MISS (where it is damaged), STORE_CANCELLED (another member has ended) or
 * STORE_INTERNAL. */
int append_put(struct append_member *member, const struct append_part *part, void *workspace)
    __attribute__((warn_unused_result));

/* Token ids, in ascending order from the append's first on, any number at a time. STORE_OK,
 * STORE_INVALID (not the next, too many, or not of this append or member) or STORE_CANCELLED. */
int append_put_ids(struct append_member *member, uint64_t first, const void *ids, size_t bytes)
    __attribute__((warn_unused_result));

/* One step of the commit. STORE_OK when all is visible, STORE_MORE to be called again, STORE_WAIT
 * (the other members have not committed), STORE_FULL (repeat), STORE_INCOMPLETE (parts or members
 * are missing), STORE_MISS (deleted meanwhile), STORE_CANCELLED or STORE_INTERNAL. */
int append_commit(struct append_member *member, void *workspace, struct session_state *state)
    __attribute__((warn_unused_result));

/* After a commit with settle: whether the keeper is done with the whole session. */
bool append_is_settled(const struct append_member *member);

/* After a commit: whether others offer chunks that the keeper may give the session for its own. */
bool append_may_share(const struct append_member *member);

/* That it appends to; for as long as the member lives. */
struct session *append_session(const struct append_member *member);

/* Ends the member; what was not committed is dropped. */
void append_end(struct append_member *member);

#endif
