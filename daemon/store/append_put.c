/* Parts of an append: into the tail, into an open chunk, or both. */
#include <stdlib.h>
#include <string.h>

#include "daemon/store/append_runs.h"

static const double FIT_MARGIN = 1.25; /* chunks differ */

/* What the keeper will bring to the session's level later may be kept finer at first; exact where
 * decibels are promised, so that what it codes are the true values. */
static int landing_level(const struct append *append, uint64_t index) {
    int level = session_policy_level(&append->policy, run_first(append, index + 1), append->end);
    int landing = append->store->landing_level;
    if (append->settle || landing >= level)
        return level;
    return append->policy.min_snr_db > 0 ? PAGE_EXACT : landing;
}

/* The run that a part is of, or -1 if it is not exactly one of this append's. */
static int64_t find_run(const struct append *append, const struct append_part *part) {
    const struct geometry *geometry = &append->session->geometry;
    if (part->layer >= geometry->layers || geometry_head_dim(geometry, part->part) == 0 ||
        part->first < append->first || part->first >= append->end)
        return -1;
    uint64_t offset = part->first - append->first, index = 0;
    if (offset >= append->first_run_tokens)
        index = 1 + (offset - append->first_run_tokens) / append->page_tokens;
    uint64_t tokens = run_first(append, index + 1) - run_first(append, index);
    if (part->first != run_first(append, index) || part->tokens != tokens ||
        part->bytes != geometry_part_bytes(geometry, part->part, part->tokens))
        return -1;
    return (int64_t)index;
}

static struct page_strides strides_of(const struct append_member *member,
                                      const struct append_part *part) {
    const struct append *append = member->append;
    size_t head_dim = geometry_head_dim(&append->session->geometry, part->part);
    if (member->heads_first)
        return (struct page_strides){.token = head_dim,
                                     .head = (part->row_tokens ? part->row_tokens : part->tokens) *
                                             head_dim};
    return (struct page_strides){.token = append->session->geometry.heads * head_dim,
                                 .head = head_dim};
}

/* What its tenant's sessions may have, whatever others do. */
static uint64_t most_bytes(const struct append *append) {
    struct store *store = append->store;
    uint64_t limit = atomic_load(&store->budget.limit_bytes), fixed = store_fixed_bytes(store);
    uint64_t own = atomic_load(&append->session->budget->limit_bytes);
    uint64_t all = limit > fixed ? limit - fixed : UINT64_MAX;
    return own < all ? own : all;
}

/* By what its first chunks took: one that is far larger than all that sessions may have is refused
 * early, for others lose tokens to it. */
static bool can_fit(struct append *append) {
    uint64_t chunks = atomic_load(&append->closed_chunks);
    if (chunks == 0)
        return true;
    double need =
        (double)atomic_load(&append->closed_bytes) / (double)chunks * (double)append->run_count;
    return need <= FIT_MARGIN * (double)most_bytes(append);
}

/* False at the memory limit. */
static bool provide_summary(const struct append *append, struct run *run, uint32_t tokens) {
    const struct geometry *geometry = &append->session->geometry;
    struct key_summary *summary = &run->chunk->summary;
    uint64_t bytes = key_summary_bytes(geometry, tokens);
    if (summary->bytes > 0 || bytes == 0)
        return true;
    if (key_summary_init(summary, append->store->pool, append->session->budget, bytes) != STORE_OK)
        return false;
    key_summary_begin(summary, geometry, tokens);
    return true;
}

int append_open_chunk(struct append *append, struct run *run, uint64_t first_token, uint32_t tokens,
                      int level) {
    struct store *store = append->store;
    if (run->builder.record)
        return STORE_OK;
    if (!can_fit(append))
        return STORE_UNSUPPORTED;
    if (!run->chunk && !(run->chunk = chunk_new(append->session->budget, append->session->usage,
                                                &append->session->geometry)))
        return STORE_FULL;
    if (append->session->key_summaries && !provide_summary(append, run, tokens))
        return STORE_FULL;
    struct record_spec spec = session_spec(append->session, first_token, tokens, level);
    return builder_init(&run->builder, store->pool, append->session->budget, &spec);
}

/* Of the values as they are coded, while they are in the caches. */
static int summarise(const struct append *append, const struct run *run,
                     const struct page_source *source, void *workspace) {
    const struct key_summary *summary = &run->chunk->summary;
    if (source->part != PAGE_K || summary->bytes == 0)
        return STORE_OK;
    uint8_t *to =
        key_summary_layer(summary, &append->session->geometry, source->shape.tokens, source->layer);
    return page_summarise(source, workspace, to) == PAGE_OK ? STORE_OK : STORE_INTERNAL;
}

int append_code_page(struct append *append, struct run *run, uint32_t layer,
                     struct page_source *source, const struct tail *tail, void *workspace) {
    double inherited_error = 0;
    source->layer = layer;
    source->level = run->builder.record->level_asked; /* that of the chunk's first page */
    source->snr_db = append->policy.min_snr_db;
    if (tail) {
        source->values = tail_at(tail, 0, layer, source->part);
        source->strides = tail_strides(tail, source->part);
        inherited_error = tail_loss(tail, layer, source->part)->error;
    }
    int status = builder_put(&run->builder, layer, source, inherited_error, workspace);
    return status == STORE_OK ? summarise(append, run, source, workspace) : status;
}

void append_close_chunk(struct append *append, struct run *run) {
    const struct key_summary *summary = &run->chunk->summary;
    if (summary->bytes > 0)
        key_summary_seal(summary);
    chunk_complete(run->chunk, builder_finish(&run->builder));
    atomic_fetch_add(&append->closed_bytes,
                     run->chunk->record->reserved_bytes + key_summary_reserved_bytes(summary));
    atomic_fetch_add(&append->closed_chunks, 1);
}

/* The tail that a run writes to. */
static int tail_for_run(struct append *append, uint64_t index, struct tail **tail) {
    bool fills = index == 0 && append->tail_tokens > 0;
    struct tail **slot = fills ? &append->filling : &append->remainder;
    uint32_t rows = page_fill(append, index);
    if (!*slot) {
        int status = tail_new(append->session->budget, append->session->usage,
                              &append->session->geometry, rows, slot);
        if (status != STORE_OK)
            return status;
    }
    *tail = *slot;
    return tail_extend(*slot, rows);
}

/* The rows before the first run's, of this layer and part, where the tail is a copy. */
static void copy_rows(const struct append *append, const struct append_part *part) {
    struct tail_block block = {0, append->tail_tokens, part->layer, part->part};
    tail_write(append->filling, &block, tail_at(append->copied_from, 0, part->layer, part->part),
               tail_strides(append->copied_from, part->part));
    tail_inherit(append->filling, part->layer, part->part, append->copied_from->level,
                 tail_loss(append->copied_from, part->layer, part->part));
}

/* The coded tail's bytes may be on disk only: then STORE_WAIT or STORE_FULL until they are there.
 */
static int load_coded(struct append *append) {
    if (!record_is_absent(append->decoded_from))
        return STORE_OK;
    int status = disk_tier_load_chunk(&append->store->disk, append->decoded_chunk,
                                      &append->session->geometry);
    append->tail_is_lost = status == STORE_MISS;
    if (status != STORE_OK)
        return status;
    record_unpin(append->decoded_from);
    append->decoded_from = chunk_pin(append->decoded_chunk);
    return record_is_absent(append->decoded_from) ? STORE_WAIT : STORE_OK;
}

/* The same where the tail is coded. STORE_OK, STORE_WAIT, STORE_FULL, STORE_MISS (it is damaged on
 * disk) or STORE_INTERNAL. */
static int decode_rows(struct append *append, const struct append_part *part, void *workspace) {
    int status = load_coded(append);
    if (status != STORE_OK)
        return status;
    const struct record *record = append->decoded_from;
    struct loss loss;
    struct page_target target = {
        .tokens = append->tail_tokens,
        .dtype = append->session->geometry.dtype,
        .values = tail_at(append->filling, 0, part->layer, part->part),
        .strides = tail_strides(append->filling, part->part),
    };
    if (record_decode(record, part->layer, part->part, &target, workspace) < 0 ||
        record_page_loss(record, part->layer, part->part, &loss) < 0)
        return STORE_INTERNAL;
    tail_inherit(append->filling, part->layer, part->part, record->level, &loss);
    return STORE_OK;
}

/* The rows before the first run's, into a tail that has none. */
static int take_over_rows(struct append *append, const struct append_part *part, void *workspace) {
    if (append->decoded_from)
        return decode_rows(append, part, workspace);
    if (append->copied_from)
        copy_rows(append, part);
    return STORE_OK;
}

static int put_into_tail(const struct append_member *member, uint64_t index,
                         const struct append_part *part, void *workspace) {
    struct append *append = member->append;
    struct tail *tail;
    int status = tail_for_run(append, index, &tail);
    if (status == STORE_OK && tail == append->filling)
        status = take_over_rows(append, part, workspace);
    if (status != STORE_OK)
        return status;
    struct tail_block block = {rows_before(append, index), part->tokens, part->layer, part->part};
    tail_write(tail, &block, part->values, strides_of(member, part));
    return STORE_OK;
}

/* Codes a page of the run; its values are the part's own or, behind a tail, the tail's rows. */
static int put_into_chunk(const struct append_member *member, uint64_t index,
                          const struct append_part *part, void *workspace) {
    struct append *append = member->append;
    struct run *run = &append->runs[index];
    uint64_t first_token = run_first(append, index) - rows_before(append, index);
    uint32_t tokens = append->page_tokens;
    int status = append_open_chunk(append, run, first_token, tokens, landing_level(append, index));
    if (status != STORE_OK)
        return status;
    struct page_source source = session_source(append->session, first_token, tokens, part->part);
    source.values = part->values;
    source.strides = strides_of(member, part);
    const struct tail *tail = rows_before(append, index) > 0 ? append->filling : NULL;
    return append_code_page(append, run, part->layer, &source, tail, workspace);
}

static void part_arrived(struct append *append, uint64_t index, size_t bit) {
    struct run *run = &append->runs[index];
    run->arrived[bit / 8] |= (uint8_t)(1u << (bit % 8));
    if (++run->arrived_count < parts_per_run(append))
        return;
    if (fills_page(append, index))
        append_close_chunk(append, run);
    atomic_fetch_add(&append->complete_count, 1);
}

/* Whether the run is this member's: the first that sends a part of it has it. */
static bool claim_run(struct run *run, uint32_t number) {
    uint32_t seen = 0;
    return atomic_compare_exchange_strong(&run->member, &seen, number) || seen == number;
}

int append_put(struct append_member *member, const struct append_part *part, void *workspace) {
    struct append *append = member->append;
    int64_t found = find_run(append, part);
    if (found < 0)
        return STORE_INVALID;
    if (append->members.failed)
        return STORE_CANCELLED;
    uint64_t index = (uint64_t)found;
    struct run *run = &append->runs[index];
    if (!claim_run(run, member->number))
        return STORE_INVALID;
    if (!run->arrived && !(run->arrived = calloc(1, arrived_bytes(append))))
        return STORE_FULL;
    size_t bit = (size_t)part->layer * GEOMETRY_PARTS + part->part;
    if (run->arrived[bit / 8] >> (bit % 8) & 1)
        return STORE_INVALID;

    int status = STORE_OK;
    if (rows_before(append, index) > 0 || !fills_page(append, index))
        status = put_into_tail(member, index, part, workspace);
    if (status == STORE_OK && fills_page(append, index))
        status = put_into_chunk(member, index, part, workspace);
    if (status == STORE_OK)
        part_arrived(append, index, bit);
    return status;
}
