/* The attachments of a session, by name in ascending order. All functions expect the session to be
 * locked, or seen by nobody else. */
#ifndef DAEMON_STORE_ATTACHMENT_SET_H
#define DAEMON_STORE_ATTACHMENT_SET_H

#include "daemon/store/attachment.h"

struct session;

enum { ATTACHMENTS_MAX = 64 };

struct attachment_set {
    size_t count;
    struct attachment *attachments[ATTACHMENTS_MAX]; /* owned */
};

static inline size_t attachment_set_count(const struct attachment_set *set) {
    return set ? set->count : 0;
}

/* NULL if there is none of that name; set may be NULL. */
struct attachment *attachment_set_find(const struct attachment_set *set, const char *name,
                                       size_t name_bytes);

/* Makes the session have a set. STORE_OK or STORE_FULL. */
int attachment_set_provide(struct session *session) __attribute__((warn_unused_result));

/* Puts one into the session's set, in the place of one of the same name, which is then *replaced,
 * the caller's to disown. STORE_OK, or STORE_UNSUPPORTED if there are too many. */
int attachment_set_put(struct session *session, struct attachment *attachment,
                       struct attachment **replaced) __attribute__((warn_unused_result));

/* Takes it out: the caller's to disown. */
void attachment_set_take(struct session *session, struct attachment *attachment);

/* A new session of the source's first tokens has what a session of that length has: all, if these
 * are all its tokens, else those that were put when it had no more. STORE_OK or STORE_FULL. */
int attachment_set_fork(const struct session *source, struct session *target, uint64_t tokens)
    __attribute__((warn_unused_result));

/* The session has none any more: its set, the caller's to free; may be NULL. */
struct attachment_set *attachment_set_detach(struct session *session);

/* Lets go of one, or of all. Bytes that became free; the second takes NULL, too. */
uint64_t attachment_set_drop_last(struct attachment_set *set);
uint64_t attachment_set_free(struct attachment_set *set, struct budget *budget);

/* What all of them take. */
struct attachment_sums {
    uint64_t given_bytes, memory_bytes, disk_bytes;
    uint64_t unique_bytes; /* of memory, without what other sessions have, too */
    /* What letting go of them would free, where that is more than the handles of those that are on
     * disk. */
    uint64_t freed_memory_bytes, freed_disk_bytes;
};
struct attachment_sums attachment_set_sums(const struct attachment_set *set);

#endif
