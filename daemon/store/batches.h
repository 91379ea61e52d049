/* What clients do with a session's embeddings: put and delete entries. Neither changes the
 * session's version, for its tokens are what they were.
 */
#ifndef DAEMON_STORE_BATCHES_H
#define DAEMON_STORE_BATCHES_H

#include "daemon/store/batch_set.h"
#include "daemon/store/store.h"

/* --- put: begin, pieces, then steps to the end --- */

struct batch_put;

struct batch_put_request {
    struct store_name session;
    uint64_t if_version; /* of the session; 0: any */
    struct batch_kind kind;
    uint32_t rows;
    uint64_t bytes; /* as batch.h has them of a client */
};

struct batch_put_result {
    struct session_point point; /* at which the session is changed */
    uint64_t version, first_id, put;
    uint64_t replaced; /* entries of the same labels */
    uint64_t entries;  /* that the session has now */
};

/* STORE_OK, STORE_MISS, STORE_VERSION_CHANGED or STORE_FULL. */
int batch_put_begin(struct store *store, const struct batch_put_request *request,
                    struct batch_put **begun) __attribute__((warn_unused_result));

/* The next ATTACHMENT_PIECE_BYTES, or what is left, at this offset. STORE_OK, STORE_INVALID if it
 * is not that, or STORE_FULL: it was not taken, and may come again. */
int batch_put_piece(struct batch_put *put, uint64_t offset, const void *bytes, size_t count)
    __attribute__((warn_unused_result));

/* After the last piece: the entries are there with STORE_OK, and those of the same labels are not.
 * Small batches become one. STORE_MORE before that; STORE_FULL: to be repeated; STORE_INCOMPLETE;
 * STORE_INVALID or STORE_MISS, of which batch_put_fault() tells; or what begin can come to. */
int batch_put_step(struct batch_put *put, struct batch_put_result *result)
    __attribute__((warn_unused_result));

/* A sentence, or an empty one. */
const char *batch_put_fault(const struct batch_put *put);

/* The session, for as long as the put is. */
struct session *batch_put_session(const struct batch_put *put);

/* Frees it; what was not put is dropped. */
void batch_put_end(struct batch_put *put);

/* --- delete --- */

/* Entries of one of these labels, or, with none, those of which a token is in the range. */
struct batch_delete_request {
    uint64_t if_version;
    const struct batch_text *labels;
    size_t label_count;
    uint64_t first, end;
};

struct batch_delete_result {
    struct session_point point;
    uint64_t deleted, entries; /* entries: that are left */
};

/* With the session found. STORE_OK, STORE_MISS if it was deleted, STORE_VERSION_CHANGED, or
 * STORE_FULL without memory to look labels up. */
int batch_delete(struct store *store, struct session *session,
                 const struct batch_delete_request *request, struct batch_delete_result *result)
    __attribute__((warn_unused_result));

/* --- for who changes sessions as a whole, with the session locked --- */

/* Of a session that others see from now on, or no longer: who searches is told. */
void batches_enter(struct store *store, struct session *session);
void batches_leave(struct store *store, struct session *session);

/* The session has one more, or one less, which is the caller's to free. */
void batches_put(struct store *store, struct session *session, struct batch_ref *ref);
void batches_take(struct store *store, struct session *session, struct batch_ref *ref);

/* Before its version or changes rise: what was taken stays on disk as manifest_hold.h says. */
void batches_hold(struct session *session, const struct batch_ref *taken);

/* Those without a row left: linked, the caller's to free. */
struct batch_ref *batches_take_empty(struct store *store, struct session *session)
    __attribute__((warn_unused_result));

/* What is of tokens behind so many is gone: batches without a row left, linked, the caller's to
 * free. */
struct batch_ref *batches_cut(struct store *store, struct session *session, uint64_t tokens)
    __attribute__((warn_unused_result));

#endif
