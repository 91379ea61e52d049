/* What the sessions in a pool that is taken over are made of: chunks, attachments and tails, each
 * made when the first session that has it is. */
#ifndef DAEMON_STORE_TAKEOVER_PARTS_H
#define DAEMON_STORE_TAKEOVER_PARTS_H

#include "daemon/store/store.h"

struct manifest;

struct taken_tail {
    struct tail *tail; /* a reference of the takeover's, as is a chunk */
    bool tried;
};

struct taken_chunk {
    struct chunk *chunk; /* NULL: no session has it */
    bool tried, has_record, has_summary;
};

struct taken_attachment {
    struct attachment *attachment; /* likewise */
    bool tried, has_extent;
};

static inline const uint8_t *takeover_chunk_entry(const struct takeover *takeover, size_t i) {
    return takeover->index + TAKEOVER_HEAD_BYTES + i * TAKEOVER_CHUNK_BYTES;
}

static inline const uint8_t *takeover_attachment_entry(const struct takeover *takeover, size_t i) {
    return takeover->attachment_entries + i * TAKEOVER_ATTACHMENT_BYTES;
}

static inline const uint8_t *takeover_tail_entry(const struct takeover *takeover, size_t i) {
    return takeover->tail_entries + i * TAKEOVER_TAIL_BYTES;
}

/* Room for as many as the index has. False without memory. */
bool takeover_provide_parts(struct takeover *takeover) __attribute__((warn_unused_result));

/* The chunk of that id, or NULL if it cannot be this session's. */
struct chunk *takeover_chunk_of(struct takeover *takeover, const struct session *session,
                                uint64_t id);

/* The tail that the manifest names, if its rows can be the session's. */
struct tail *takeover_tail_of(struct takeover *takeover, const struct session *session,
                              const struct manifest *manifest);

/* The attachment of that number, which several sessions may have; or NULL. */
struct attachment *takeover_attachment_of(struct takeover *takeover, const struct session *session,
                                          const struct attachment_spec *spec);

/* Extents that no session has, those of tails, and the index. */
void takeover_give_back_rest(struct takeover *takeover);

/* Lets go of the takeover's references. What no session has stays where it is on disk: recovery
 * finds it there. */
void takeover_free_parts(struct takeover *takeover);

#endif
