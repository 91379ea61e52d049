/* Which sessions begin with which tokens: a tree of pages of token ids.
 *
 * A node is a page of ids, with salts, behind all that its parents say: where those and the ids are
 * the same, compared in full, there is one node, so that sessions with a common beginning keep its
 * ids once. A root stands for a tenant, a model and a geometry. A session stands at the node that
 * holds its last token with an id; a node is there while a session stands at it or below. Chunks of
 * sessions that chose sharing are offered at the node of their tokens, while somebody owns them.
 *
 * Safe from any thread. The index has one lock, taken behind a shard's and before a chunk's.
 */
#ifndef DAEMON_STORE_PREFIX_H
#define DAEMON_STORE_PREFIX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/store/geometry.h"
#include "daemon/store/token_ids.h"

struct chunk;
struct session;
struct tenant;
struct prefix_node;
struct prefix_root;

struct prefix_index {
    struct budget *budget;
    pthread_mutex_t lock; /* of all nodes */
    struct prefix_root *roots;
    _Atomic uint64_t bytes;      /* that it takes of the budget */
    _Atomic uint64_t full_bytes; /* the same with each session that stands behind a node */
};

/* Where a session stands; written with the session and the index locked. */
struct prefix_place {
    struct prefix_index *index;
    struct prefix_node *node; /* NULL: nowhere */
    uint64_t tokens;          /* that have ids: from the first on, without a gap */
    uint64_t cuts;            /* how often they became fewer */
    bool listed;              /* it can be found */
    struct session *next, *previous;
};

/* Where a chunk is offered; the index's but for the pointer to it. */
struct prefix_offer {
    struct prefix_index *index;
    struct prefix_node *node; /* NULL: nowhere */
    struct chunk *next, *previous;
};

void prefix_init(struct prefix_index *index, struct budget *budget);
void prefix_deinit(struct prefix_index *index);

/* These expect the session to be locked, or seen by nobody else yet. */

/* Adds ids behind those that the session has; such as begin elsewhere are left out. STORE_OK or
 * STORE_FULL. */
int prefix_extend(struct prefix_index *index, struct session *session, const struct token_ids *text)
    __attribute__((warn_unused_result));

/* The session's ids end here at the latest: within a page at the memory limit before it. */
void prefix_cut(struct session *session, uint64_t tokens);

/* A new session has the source's first ids, to be found once it has entered. */
void prefix_fork(const struct session *source, struct session *target, uint64_t tokens);
void prefix_enter(struct session *session);

/* The session is found no more and has no ids. */
void prefix_leave(struct session *session);

/* Bytes of the index that stand behind the session: all, and those that no other session has. */
void prefix_bytes(const struct session *session, uint64_t *all, uint64_t *unique);

/* Its ids, page by page, from the last to the first. */
void prefix_each(const struct session *session,
                 void (*take)(void *context, const struct token_ids *page), void *context);

/* Offers the chunks of the session's slices from this token on, where they hold a page of ids
 * whole. True if others are offered for the same. */
bool prefix_offer(struct session *session, uint64_t from);

/* A chunk has no owner any more. */
void prefix_withdraw(struct chunk *chunk);

/* References to the chunks, at most so many, that were offered before this one for the same tokens.
 */
size_t prefix_rivals(struct prefix_index *index, const struct chunk *chunk, struct chunk **rivals,
                     size_t most);

/* Whose tokens are looked for. */
struct prefix_key {
    const struct tenant *tenant; /* NULL: the default */
    const char *model;
    size_t model_bytes;
    const struct geometry *geometry; /* NULL: any */
};

/* How many of the tokens a session begins with, for as long as its ids are cut so often. */
struct prefix_match {
    uint64_t tokens, cuts;
};

/* A session that begins with the most of these tokens, as a reference; NULL if there is none. */
struct session *prefix_match(struct prefix_index *index, const struct prefix_key *key,
                             const struct token_ids *text, struct prefix_match *match)
    __attribute__((warn_unused_result));

#endif
