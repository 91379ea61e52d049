/* Takeover: the sessions of the daemon before, out of the pool that a service manager kept.
 *
 * Nothing of the pages is read, but the records' headers, which are checked as the index is; a
 * page's checksum is looked at when it is fetched, as always. What of a session cannot be had, and
 * all behind it, is cut off. A pool that cannot be taken over is left as it is: the store begins
 * with one of its own.
 */
#ifndef DAEMON_STORE_TAKEOVER_H
#define DAEMON_STORE_TAKEOVER_H

#include "daemon/store/takeover_index.h"

struct session;
struct store;
struct taken_attachment;
struct taken_chunk;
struct taken_tail;

/* Taking over that was begun so often without coming to an end has crashed the daemon. */
enum { TAKEOVER_ATTEMPTS_MAX = 2 };

enum takeover_outcome {
    TAKEOVER_NONE,      /* there was nothing to take over */
    TAKEOVER_DONE,      /* the pool is the store's */
    TAKEOVER_COLD,      /* it could not be: why says so, as the log does */
    TAKEOVER_SET_ASIDE, /* it crashed the daemon: it is to be kept for inspection */
};

struct takeover_report {
    enum takeover_outcome outcome;
    char why[160];
    uint64_t sessions, tokens, bytes, cut_sessions, took_ns; /* what was taken over */
};

struct takeover {
    struct store *store;
    uint64_t begun_ns;
    struct takeover_note note;
    struct takeover_head head;
    const uint8_t *index, *attachment_entries, *tail_entries, *session_entries; /* in the pool */
    struct taken_chunk *chunks;
    struct taken_attachment *attachments;
    struct taken_tail *tails;
    struct session **sessions; /* references, ascending by id */
    size_t session_count;
    bool done;
};

/* Looks at the pool behind a descriptor, which stays the caller's; 0: there is none. NULL if it is
 * not taken over, for what reason is in the store's report; else the store has it. */
struct takeover *takeover_begin(struct store *store, int file) __attribute__((warn_unused_result));

/* Makes the sessions; before anybody else uses the store. */
void takeover_run(struct takeover *takeover);

/* Whether this session came out of the pool; it may be deleted since. */
bool takeover_has(const struct takeover *takeover, uint64_t session_id);

/* If it was not run, the pool may be taken over another time. */
void takeover_free(struct takeover *takeover);

#endif
