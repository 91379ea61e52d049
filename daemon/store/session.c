#include "daemon/store/session.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/store/block.h"
#include "daemon/store/disk/disk.h"
#include "daemon/store/error.h"
#include "daemon/store/manifest_hold.h"

#define PAUSE_NS (5 * CLOCK_NS_PER_S)

static char *copy(const char *text, size_t bytes) {
    char *copied = malloc(bytes + 1);
    if (!copied)
        return NULL;
    memcpy(copied, text, bytes);
    copied[bytes] = 0;
    return copied;
}

/* The discard is reserved by itself: it may outlive the session. */
static uint64_t entry_bytes(const struct session *session) {
    return sizeof *session + session->name_bytes + session->model_bytes;
}

uint64_t session_own_bytes(const struct session *session) {
    return entry_bytes(session) + sizeof *session->discard +
           session->slice_capacity * sizeof *session->slices +
           (session->attachments ? sizeof *session->attachments : 0) + session->batch_refs_bytes;
}

void session_read_state(const struct session *session, struct session_state *state) {
    *state = (struct session_state){
        .version = session->version,
        .tokens = session->tokens,
        .lost_tokens = session->lost_tokens,
        .tail_tokens = session->tail_tokens,
        .page_tokens = session->page_tokens,
        .policy = session->policy,
        .sharing = session->sharing,
        .key_summaries = session->key_summaries,
        .durability = session->durability,
        .geometry = session->geometry,
        .model_bytes = session->model_bytes,
    };
    memcpy(state->model, session->model, session->model_bytes);
}

struct session *session_new(struct budget *budget, struct usage *usage,
                            const struct session_names *names, const struct geometry *geometry,
                            const struct session_policy *policy) {
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->tenant = names->tenant;
    session->name_bytes = names->session_bytes;
    session->model_bytes = names->model_bytes;
    session->geometry = *geometry;
    session->page_tokens = geometry_page_tokens(geometry);
    session->policy = session_policy_bounded(*policy);
    session->usage = usage;
    session->aged_to = PAGE_LEVEL_MIN - 1;
    session->created_ns = session->used_ns = clock_now_ns();
    session->cuts.least_tokens = UINT64_MAX;
    session->name = copy(names->session, names->session_bytes);
    session->model = copy(names->model, names->model_bytes);
    session->discard = session_discard_new(budget);
    atomic_init(&session->references, 1);
    if (session->name && session->model && session->discard &&
        budget_reserve(budget, entry_bytes(session)))
        session->budget = budget;
    if (!session->budget) {
        session_unref(session);
        return NULL;
    }
    return session;
}

void session_ref(struct session *session) {
    atomic_fetch_add(&session->references, 1);
}

static void drop_contents(struct session *session) {
    struct session_discard *discard = session_detach(session);
    while (session_discard_step(discard))
        ;
    session_discard_free(discard);
}

void session_unref(struct session *session) {
    if (atomic_fetch_sub(&session->references, 1) > 1)
        return;
    if (session->discard)
        drop_contents(session);
    if (session->budget)
        budget_release(session->budget, entry_bytes(session));
    charge_release(&session->charge);
    if (session->saved.coded_tail)
        chunk_unref(session->saved.coded_tail);
    manifest_release_all(&session->saved.holds);
    free(session->saved.pieces);
    free(session->name);
    free(session->model);
    free(session);
}

int session_reserve_slices(struct session *session, size_t more) {
    size_t need = session->slice_count + more, capacity = session->slice_capacity;
    if (need <= capacity)
        return STORE_OK;
    size_t grown_capacity = need > 2 * capacity ? need : 2 * capacity;
    uint64_t more_bytes = (grown_capacity - capacity) * sizeof *session->slices;
    if (!budget_reserve(session->budget, more_bytes))
        return STORE_FULL;
    struct slice *grown = realloc(session->slices, grown_capacity * sizeof *grown);
    if (!grown) {
        budget_release(session->budget, more_bytes);
        return STORE_FULL;
    }
    session->slices = grown;
    session->slice_capacity = grown_capacity;
    if (session->listed)
        usage_add(session->usage, &session->usage->sessions_bytes, more_bytes);
    return STORE_OK;
}

static void count_tokens(const struct session *session, uint64_t tokens) {
    struct usage *usage = session->usage;
    const struct geometry *geometry = &session->geometry;
    usage_add(usage, &usage->tokens, tokens);
    usage_add(usage, &usage->values, tokens * geometry_values_per_token(geometry));
    usage_add(usage, &usage->logical_bytes, tokens * geometry_token_bytes(geometry));
}

static void count_tail_tokens(struct session *session, uint32_t tokens) {
    struct usage *usage = session->usage;
    uint64_t more = (uint64_t)tokens - session->counted_tail_tokens;
    usage_add(usage, &usage->tail_tokens, more);
    usage_add(usage, &usage->tail_logical_bytes, more * geometry_token_bytes(&session->geometry));
    session->counted_tail_tokens = tokens;
}

/* Sums wrap around like the counters: subtracting is adding the negative. */
void session_count(struct session *session, int sign) {
    struct usage *usage = session->usage;
    uint64_t times = (uint64_t)(int64_t)sign;
    usage_add(usage, session_is_chain(session) ? &usage->chains : &usage->sessions, times);
    usage_add(usage, &usage->sessions_bytes, times * session_own_bytes(session));
    usage_add(usage, &usage->entries, times * session->entries);
    count_tokens(session, times * session->tokens);
    if (sign > 0)
        session_count_tail(session);
    else
        count_tail_tokens(session, 0);
}

void session_count_tail(struct session *session) {
    uint32_t tokens = session->coded_tail.chunk ? 0 : session->tail_tokens;
    count_tail_tokens(session, tokens);
}

void session_set_length(struct session *session, uint64_t tokens, uint32_t tail_tokens) {
    count_tokens(session, tokens - session->tokens);
    session->tokens = tokens;
    session->tail_tokens = tail_tokens;
    session_count_tail(session);
    prefix_cut(session, tokens);
    block_cut(session, tokens);
    coldness_weigh(session);
}

void session_note_cut(struct session *session, uint64_t tokens) {
    struct session_cuts *cuts = &session->cuts;
    cuts->count++;
    cuts->last_tokens = tokens;
    if (tokens < cuts->least_tokens)
        cuts->least_tokens = tokens;
}

/* What is written in one go, be it in several appends, is no sign that it will be read. */
void session_use(struct session *session, bool to_read) {
    bool resumed = session->tokens > 0 && clock_now_ns() - session->used_ns > PAUSE_NS;
    if (to_read || resumed)
        coldness_touch(session);
    session_stay_in_use(session);
}

void session_stay_in_use(struct session *session) {
    session->used_ns = clock_now_ns();
}

struct session_discard *session_detach(struct session *session) {
    struct session_discard *discard = session->discard;
    discard->slices = session->slices;
    discard->slice_count = session->slice_count;
    discard->slice_capacity = session->slice_capacity;
    discard->tail = session->tail;
    discard->coded_tail = session->coded_tail;
    discard->attachments = attachment_set_detach(session);
    discard->batches = batch_set_detach(session);
    discard->freed_bytes = entry_bytes(session) + sizeof *discard;
    session->discard = NULL;
    session->slices = NULL;
    session->slice_count = session->slice_capacity = 0;
    session->tail = NULL;
    session->coded_tail = (struct slice){0};
    session->tail_tokens = 0;
    session->deleted = true;
    prefix_leave(session);
    block_cut(session, 0);
    return discard;
}

struct record_spec session_spec(const struct session *session, uint64_t first_token,
                                uint32_t tokens, int level) {
    return (struct record_spec){
        .tenant = session->tenant->name,
        .tenant_bytes = session->tenant->name_bytes,
        .model = session->model,
        .model_bytes = session->model_bytes,
        .session = session->name,
        .session_bytes = session->name_bytes,
        .session_id = session->id,
        .first_token = first_token,
        .tokens = tokens,
        .geometry = &session->geometry,
        .level = level,
        .min_snr_db = session->policy.min_snr_db,
    };
}

static uint32_t sinks_in(uint64_t first_position, uint32_t tokens) {
    uint64_t left = first_position < PAGE_SINK_TOKENS ? PAGE_SINK_TOKENS - first_position : 0;
    return (uint32_t)(left < tokens ? left : tokens);
}

struct disk_metadata session_metadata(const struct session *session, uint64_t tokens) {
    return (struct disk_metadata){
        .tenant = session->tenant->name,
        .tenant_bytes = session->tenant->name_bytes,
        .model = session->model,
        .model_bytes = session->model_bytes,
        .session = session->name,
        .session_bytes = session->name_bytes,
        .tokens = tokens,
        .level = PAGE_EXACT,
    };
}

struct page_source session_source(const struct session *session, uint64_t first_token,
                                  uint32_t tokens, enum page_part part) {
    return (struct page_source){
        .shape = geometry_shape(&session->geometry, part, tokens),
        .part = part,
        .sink_tokens = sinks_in(session->first_position + first_token, tokens),
        .layers = session->geometry.layers,
    };
}

/* With a chunk that is coarser than its manifest lets it be it would not come back from disk. */
int session_coarsest_level(const struct session *session) {
    const struct session_saved *saved = &session->saved;
    bool bound = (saved->any || saved->under_way) && saved->floor < session->policy.floor;
    return bound ? saved->floor : session->policy.floor;
}

int session_slice_level(const struct session *session, const struct slice *slice, uint64_t now_ns) {
    const struct session_policy *policy = &session->policy;
    int steps = session_policy_idle_steps(policy, now_ns - session->used_ns);
    int level =
        session_policy_level_idle(policy, slice->start + slice->tokens, session->tokens, steps);
    int coarsest = session_coarsest_level(session);
    return level < coarsest ? level : coarsest;
}

void session_age_slice(struct slice *slice, int level) {
    if (level <= slice->level)
        return;
    chunk_move_owner(slice->chunk, slice->level, level);
    slice->level = level;
}

struct slice *session_find_slice(const struct session *session, uint64_t token) {
    size_t low = 0, high = session->slice_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (session->slices[middle].start + session->slices[middle].tokens <= token)
            low = middle + 1;
        else
            high = middle;
    }
    return low < session->slice_count ? &session->slices[low] : NULL;
}
