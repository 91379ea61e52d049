/* An append under way, for append_begin.c, append_put.c and append.c: its runs and what they are
 * put into. */
#ifndef DAEMON_STORE_APPEND_RUNS_H
#define DAEMON_STORE_APPEND_RUNS_H

#include "daemon/store/append.h"
#include "daemon/store/builder.h"

struct run {
    _Atomic uint32_t member; /* that sends it; 0: none yet */
    uint8_t *arrived;        /* a bit a part, allocated with the first */
    uint32_t arrived_count;
    struct builder builder; /* of a run that fills a page, until it is complete */
    struct chunk *chunk;    /* made with the builder, so that completing it cannot fail */
};

/* Who sends the append; with the session locked. */
struct append_members {
    uint32_t expected, joined, left, committed;
    uint32_t last_to_commit; /* the member that does it for all; 0 as long as there is none */
    uint8_t group[APPEND_GROUP_BYTES];
    uint64_t join_deadline_ns;
    _Atomic bool failed;         /* one of them ended before all had committed */
    bool published;              /* the append is visible, */
    struct session_state result; /* the session then, */
    uint64_t ticket;             /* and the keeper's ticket for it */
    bool may_share;              /* others offer the same tokens */
};

struct append_member {
    struct append *append;
    uint32_t number; /* from 1 on */
    bool heads_first, has_committed;
};

/* The ids of the append's tokens, as far as they came; the member that sends them alone writes. */
struct append_ids {
    bool wanted;
    _Atomic uint32_t member; /* 0: none yet */
    _Atomic uint64_t count;
    uint32_t *ids;
    struct salt *salts;
    size_t salt_count;
};

struct append {
    struct discard discard;
    struct store *store;
    struct session *session; /* owned reference, with its appending flag */
    uint64_t first, end;
    uint32_t tail_tokens, first_run_tokens, page_tokens;
    uint64_t run_count, charged_bytes;
    bool settle;
    _Atomic uint64_t complete_count;
    _Atomic uint64_t closed_chunks, closed_bytes; /* of its runs, so far */
    struct session_policy policy;                 /* the session's when this began */
    struct append_members members;
    struct append_ids ids;
    /* The first run, whose member alone uses these, fills the session's tail where nobody else has
     * appended to it, else a copy. */
    struct tail *filling;     /* owned reference; its rows behind tail_tokens are claimed */
    struct tail *copied_from; /* the session's, of which `filling` takes over the rows, or NULL */
    struct record *decoded_from; /* the same where the session's tail is coded; pinned */
    struct chunk *decoded_chunk; /* that has it; owned reference */
    bool tail_is_lost;           /* it cannot be read from disk */
    struct tail *remainder;      /* that the last run begins, its member's alone; owned reference */
    uint32_t closing_parts;      /* with settle: pages of the tail that are coded */
    uint64_t dropped_runs;
    struct run runs[]; /* run_count, and one for the tail's own chunk; then salts and ids */
};

static inline uint32_t parts_per_run(const struct append *append) {
    const struct geometry *geometry = &append->session->geometry;
    return geometry->layers * (geometry->head_dim_v > 0 ? 2 : 1);
}

static inline size_t arrived_bytes(const struct append *append) {
    return ((size_t)append->session->geometry.layers * GEOMETRY_PARTS + 7) / 8;
}

/* Where run number index begins; that of run_count is the append's end. */
static inline uint64_t run_first(const struct append *append, uint64_t index) {
    if (index == 0)
        return append->first;
    uint64_t first = append->first + append->first_run_tokens + (index - 1) * append->page_tokens;
    return first < append->end ? first : append->end;
}

/* Tokens that stand before the run in its page: the tail's, for the first. */
static inline uint32_t rows_before(const struct append *append, uint64_t index) {
    return index == 0 ? append->tail_tokens : 0;
}

static inline uint32_t page_fill(const struct append *append, uint64_t index) {
    uint64_t tokens = run_first(append, index + 1) - run_first(append, index);
    return rows_before(append, index) + (uint32_t)tokens;
}

static inline bool fills_page(const struct append *append, uint64_t index) {
    return page_fill(append, index) == append->page_tokens;
}

/* What they take in the append's memory, behind the runs. */
uint64_t append_ids_bytes(const struct append_request *request);
void append_ids_init(struct append *append, const struct append_request *request, void *memory);

/* With the session locked and the append whole: the session has them. STORE_OK or STORE_FULL. */
int append_ids_publish(struct append *append) __attribute__((warn_unused_result));

void append_member_free(struct budget *budget, struct append_member *member);

/* Opens a chunk of the run's page, unless it is open. STORE_OK, STORE_FULL, or STORE_UNSUPPORTED
 * (the append does not fit the memory limit). */
int append_open_chunk(struct append *append, struct run *run, uint64_t first_token, uint32_t tokens,
                      int level) __attribute__((warn_unused_result));

/* Codes a page of an open chunk; `source` lacks its level. Its values are the first rows of the
 * tail if one is given. */
int append_code_page(struct append *append, struct run *run, uint32_t layer,
                     struct page_source *source, const struct tail *tail, void *workspace)
    __attribute__((warn_unused_result));

/* All pages of the open chunk are coded. */
void append_close_chunk(struct append *append, struct run *run);

#endif
