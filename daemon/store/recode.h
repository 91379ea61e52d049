/* Coding a chunk anew at a coarser level: what each of the keeper's threads does.
 *
 * A recoder belongs to one thread and owns its scratch. It takes room for the new record from a
 * budget of working space, and holds no lock while coding.
 */
#ifndef DAEMON_STORE_RECODE_H
#define DAEMON_STORE_RECODE_H

#include "daemon/store/chunk.h"

struct recoder {
    struct pool *pool;
    struct budget *budget, *working_space; /* the store's, and what new records are made in */
    bool (*go_on)(void *context);          /* asked between layers; false: give up */
    void *context;
    void *workspace, *page;
};

/* Bytes that a recoder holds. */
enum { RECODER_BYTES = PAGE_WORKSPACE_BYTES + PAGE_VALUES_MAX * 4 };

/* Takes the scratch; the other fields are the caller's. 0, or -1 without memory. */
int recoder_init(struct recoder *recoder) __attribute__((warn_unused_result));
void recoder_deinit(struct recoder *recoder);

struct recode_job {
    struct chunk *chunk;
    const struct geometry *geometry;
    int level;
};

/* What became of the chunk's bytes; nothing: 0 and 0. */
struct recode_result {
    uint64_t bytes_before, bytes_after;
};

/* Replaces the chunk's record by a coarser one, if that is smaller. */
struct recode_result recode_chunk(struct recoder *recoder, const struct recode_job *job);

#endif
