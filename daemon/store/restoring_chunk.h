/* A chunk that comes out of a dump, its record straight to where it will be: under a header of its
 * new session's, each page checked as it ends. What is said of it is believed only so far. */
#ifndef DAEMON_STORE_RESTORING_CHUNK_H
#define DAEMON_STORE_RESTORING_CHUNK_H

#include "daemon/store/dump.h"
#include "daemon/store/record.h"

struct restoring_chunk {
    struct store *store;
    const struct session *session;
    struct record *record; /* owned pin; all of its extent is reserved; NULL: none */
    struct record_tally tally;
    struct record_outline outline;
    uint64_t came_bytes, at; /* of the record, as it is in the dump */
    uint64_t header_bytes;   /* of the new one; 0: not known yet */
    uint32_t in_slice;
    bool has_directory;
    uint8_t slice[DUMP_SLICE_BYTES], fixed[RECORD_FIXED_BYTES];
};

/* Room for one that has so many bytes in the dump. STORE_OK, STORE_FULL or STORE_INVALID. */
int restoring_chunk_begin(struct restoring_chunk *chunk, struct store *store,
                          const struct session *session, uint64_t bytes)
    __attribute__((warn_unused_result));

/* The next bytes. STORE_OK, or STORE_INVALID: it is no chunk of the session's. */
int restoring_chunk_put(struct restoring_chunk *chunk, const uint8_t *bytes, size_t count)
    __attribute__((warn_unused_result));

/* All have come: the chunk as a reference, and what the session has of it. STORE_OK, STORE_FULL, to
 * be repeated, or STORE_INVALID. */
int restoring_chunk_finish(struct restoring_chunk *chunk, struct chunk **finished,
                           struct manifest_slice *slice) __attribute__((warn_unused_result));

void restoring_chunk_drop(struct restoring_chunk *chunk);

#endif
