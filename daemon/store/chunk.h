/* A chunk: the same tokens over all layers, as an identity whose record may be replaced by a
 * coarser one.
 *
 * Slices of sessions hold references; whoever reads takes the record and its pin, and holds no lock
 * while decoding. Safe from any thread.
 */
#ifndef DAEMON_STORE_CHUNK_H
#define DAEMON_STORE_CHUNK_H

#include <pthread.h>

#include "daemon/store/record.h"

struct chunk {
    _Atomic unsigned references;
    pthread_mutex_t lock; /* of record */
    struct record *record;
    uint32_t tokens;
    struct budget *budget; /* of the handles, CHUNK_HANDLE_BYTES */
};

/* What a chunk takes beside its record's extent. */
enum { CHUNK_HANDLE_BYTES = 512 };

/* Takes over the caller's pin of the record. NULL at the memory limit; then the pin stays the
 * caller's.
 */
struct chunk *chunk_new(struct budget *budget, struct record *record);
void chunk_ref(struct chunk *chunk);
void chunk_unref(struct chunk *chunk);

/* The record as it is now, pinned; the caller unpins it. */
struct record *chunk_pin(struct chunk *chunk);

/* Puts a new record in place, taking over the caller's pin, and returns the old one with the
 * chunk's pin. */
struct record *chunk_replace(struct chunk *chunk, struct record *record);

#endif
