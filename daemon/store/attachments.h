/* What clients do with a session's attachments: put, get, delete. Each put or delete raises the
 * session's version. */
#ifndef DAEMON_STORE_ATTACHMENTS_H
#define DAEMON_STORE_ATTACHMENTS_H

#include "daemon/store/attachment_set.h"
#include "daemon/store/store.h"

/* Which attachment it is about, and of which version the session must be (0: any). */
struct attachment_key {
    struct store_name session, name;
    uint64_t if_version;
};

/* --- put: begin, pieces, commit --- */

struct attachment_put;

/* Of so many bytes. STORE_OK, STORE_MISS, STORE_VERSION_CHANGED, STORE_UNSUPPORTED if the session
 * has ATTACHMENTS_MAX others, or STORE_FULL. */
int attachment_put_begin(struct store *store, const struct attachment_key *key, uint64_t bytes,
                         struct attachment_put **begun) __attribute__((warn_unused_result));

/* The next piece, at this offset. STORE_OK, STORE_INVALID if it is not that, or STORE_FULL: it was
 * not taken, and may come again. */
int attachment_put_piece(struct attachment_put *put, uint64_t offset, const void *bytes,
                         size_t count, void *workspace) __attribute__((warn_unused_result));

/* What came of it, or of a delete. */
struct attachment_result {
    struct session_point point; /* at which the session is changed */
    uint64_t bytes;             /* of memory that it takes, or that became free */
};

/* It is there, in the place of one of the same name. STORE_OK, STORE_INCOMPLETE, STORE_FULL as
 * above, or what begin can come to. */
int attachment_put_commit(struct attachment_put *put, struct attachment_result *result)
    __attribute__((warn_unused_result));

/* The session, for as long as the put is. */
struct session *attachment_put_session(const struct attachment_put *put);

/* Frees it; what was not committed is dropped. */
void attachment_put_end(struct attachment_put *put);

/* --- get --- */

struct attachment_get {
    struct session *session;       /* owned reference */
    struct attachment *attachment; /* owned reference */
    uint64_t version;              /* of the session when it began */
    uint32_t next_piece;
};

/* STORE_OK, STORE_MISS (get->session tells whether there is one) or STORE_VERSION_CHANGED; end
 * follows in any case. */
int attachment_get_begin(struct store *store, const struct attachment_key *key,
                         struct attachment_get *get) __attribute__((warn_unused_result));

/* The next piece to memory with room for ATTACHMENT_PIECE_BYTES; workspace is PAGE_WORKSPACE_BYTES.
 * STORE_MORE with a piece or, with 0 bytes, without one; STORE_OK when there is no other;
 * STORE_WAIT or STORE_FULL while it is brought from disk; STORE_MISS: it is damaged, or the session
 * has it no more. */
int attachment_get_next(struct store *store, struct attachment_get *get, void *to, size_t *bytes,
                        void *workspace) __attribute__((warn_unused_result));

void attachment_get_end(struct attachment_get *get);

/* --- delete --- */

/* With the session found. STORE_OK, STORE_MISS or STORE_VERSION_CHANGED. */
int attachment_delete(struct store *store, struct session *session,
                      const struct attachment_key *key, struct attachment_result *result)
    __attribute__((warn_unused_result));

#endif
