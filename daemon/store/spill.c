#include "daemon/store/spill.h"

#include "daemon/base/clock.h"
#include "daemon/store/attachment_disk.h"
#include "daemon/store/evict.h"
#include "daemon/store/store.h"

enum { SPILL_CHUNKS = 64 }; /* of a session at once */
#define SPILL_WAIT_NS (20 * CLOCK_NS_PER_MS)
/* So much of its limit is evicted from a full disk, that it is not asked for each chunk. */
enum { RELIEF_SHARE = 64 };

struct spill_request {
    uint64_t want_bytes, idle_ns;
    bool shared; /* what several sessions have, else what one has */
};

/* Chunks and attachments of a session whose bytes are in memory, as references. */
struct victims {
    struct chunk *chunks[SPILL_CHUNKS];
    size_t count;
    struct attachment *attachments[ATTACHMENTS_MAX];
    size_t attachment_count;
};

/* Of those who share a chunk one may read it while the others are cold. */
static bool may_go(const struct chunk_view *view, const struct spill_request *request) {
    uint64_t now = clock_now_ns();
    bool idle = !view->shared || now < view->used_ns || now - view->used_ns >= request->idle_ns;
    return !record_is_absent(view->record) && view->shared == request->shared && idle;
}

static void add(struct victims *victims, struct chunk *chunk, const struct spill_request *request) {
    struct chunk_view view = chunk_view(chunk);
    if (may_go(&view, request)) {
        chunk_ref(chunk);
        victims->chunks[victims->count++] = chunk;
    }
    record_unpin(view.record);
}

static void add_attachments(struct victims *victims, const struct attachment_set *set,
                            const struct spill_request *request) {
    for (size_t i = 0; i < attachment_set_count(set); i++) {
        struct attachment_view view = attachment_view(set->attachments[i]);
        if (!view.in_memory || view.shared != request->shared)
            continue;
        attachment_ref(set->attachments[i]);
        victims->attachments[victims->attachment_count++] = set->attachments[i];
    }
}

/* From the end on: a fetch begins at the beginning. Attachments, which are small, go with the last
 * chunks. False if the session is not to be touched. */
static bool find_victims(struct session *session, const struct spill_request *request,
                         struct victims *victims) {
    victims->count = victims->attachment_count = 0;
    pthread_mutex_lock(session->lock);
    bool idle = !session->deleted && clock_now_ns() - session->used_ns >= request->idle_ns;
    if (idle && session->coded_tail.chunk && !session->appending)
        add(victims, session->coded_tail.chunk, request);
    for (size_t i = session->slice_count; idle && i-- > 0 && victims->count < SPILL_CHUNKS;)
        add(victims, session->slices[i].chunk, request);
    if (idle && victims->count < SPILL_CHUNKS)
        add_attachments(victims, session->attachments, request);
    pthread_mutex_unlock(session->lock);
    return victims->count + victims->attachment_count > 0;
}

static uint64_t spill_victims(struct disk_tier *tier, struct session *session,
                              const struct victims *victims, uint64_t want_bytes) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < victims->count; i++) {
        if (bytes < want_bytes)
            bytes += disk_tier_write_chunk(tier, victims->chunks[i], true);
        chunk_unref(victims->chunks[i]);
    }
    for (size_t i = 0; i < victims->attachment_count; i++) {
        if (bytes < want_bytes)
            bytes += attachment_write(tier, victims->attachments[i], session, true);
        attachment_unref(victims->attachments[i]);
    }
    return bytes;
}

/* Bytes that are free now or will be. */
static uint64_t spill_session(struct disk_tier *tier, struct session *session,
                              const struct spill_request *request) {
    struct victims victims;
    uint64_t bytes = 0, more = 1;
    while (bytes < request->want_bytes && more > 0 && find_victims(session, request, &victims)) {
        more = spill_victims(tier, session, &victims, request->want_bytes - bytes);
        bytes += more;
    }
    return bytes;
}

static uint64_t spill_in_order(struct store *store, struct coldness *order,
                               struct spill_request request) {
    struct session *session;
    uint64_t bytes = 0;
    coldness_walk_begin(order);
    while (request.want_bytes > 0 && (session = coldness_walk(order))) {
        uint64_t more = spill_session(&store->disk, session, &request);
        request.want_bytes -= more < request.want_bytes ? more : request.want_bytes;
        bytes += more;
        session_unref(session);
    }
    return bytes;
}

static uint64_t spill_coldest(struct store *store, struct coldness *order, uint64_t want_bytes,
                              uint64_t idle_ns) {
    struct session *session = coldness_coldest(order);
    if (session)
        session_unref(session);
    struct spill_request request = {.want_bytes = want_bytes, .idle_ns = idle_ns};
    uint64_t bytes = spill_in_order(store, order, request);
    if (bytes >= want_bytes)
        return bytes;
    request.shared = true;
    request.want_bytes -= bytes;
    return bytes + spill_in_order(store, order, request);
}

/* What came of a moment's work. */
struct outcome {
    uint64_t spilled_bytes, failed_writes;
};

static struct outcome outcome(struct disk_tier *tier) {
    return (struct outcome){atomic_load(&tier->counts.spilled_bytes),
                            atomic_load(&tier->counts.failed_writes)};
}

/* Where it was spilling that found the disk full, memory is short, too: who is coldest loses tokens
 * wherever they are, and what is not on disk yet need not go there. */
static enum evict_place place_to_relieve(int shortage) {
    return shortage == DISK_SHORT_FOR_SPILLING ? EVICT_FROM_BOTH : EVICT_FROM_DISK;
}

/* From the coldest on. What that freed. */
static uint64_t evict_in_order(struct store *store, struct coldness *order,
                               const struct evict_request *request) {
    struct evict_result result;
    struct session *session;
    uint64_t freed = 0;
    coldness_walk_begin(order);
    while (freed < request->want_bytes && (session = coldness_walk(order))) {
        while (freed < request->want_bytes &&
               evict_session(store, session, request, &result) == STORE_OK)
            freed += result.bytes;
        session_unref(session);
    }
    return freed;
}

/* Only for those who wait does what was just used go; false while there is nothing else. */
static bool make_room_on_disk(struct store *store, int shortage, uint64_t *freed_bytes) {
    struct disk_stats stats;
    disk_read_stats(store->disk.disk, &stats);
    struct evict_request request = {.want_bytes = stats.limit_bytes / RELIEF_SHARE,
                                    .idle_ns = CLOCK_NS_PER_S, /* not what is being fetched */
                                    .place = place_to_relieve(shortage)};
    *freed_bytes = evict_in_order(store, &store->coldness, &request);
    if (*freed_bytes > 0 || shortage != DISK_SHORT_FOR_SPILLING)
        return true;
    if (atomic_load(&store->budget.waiting) == 0)
        return false;
    request.idle_ns = 0;
    *freed_bytes = evict_in_order(store, &store->coldness, &request);
    return true;
}

/* Of its coldest sessions: what is on disk where that is more than it may have, wherever it is
 * where what was to go there found no room. */
static uint64_t relieve_tenant(struct store *store, struct tenant *tenant, uint64_t excess_bytes) {
    uint64_t limit = atomic_load(&tenant->disk_bytes.limit);
    struct evict_request request = {.want_bytes = excess_bytes + limit / RELIEF_SHARE + 1,
                                    .idle_ns = CLOCK_NS_PER_S,
                                    .place = excess_bytes > 0 ? EVICT_FROM_DISK : EVICT_FROM_BOTH};
    uint64_t freed = evict_in_order(store, &tenant->coldness, &request);
    if (freed > 0 || atomic_load(&tenant->memory.waiting) == 0)
        return freed;
    request.idle_ns = 0;
    return evict_in_order(store, &tenant->coldness, &request);
}

/* Those that hold more than their quota, or were refused since they were looked at. */
static bool relieve_tenants(struct store *store) {
    uint64_t freed_bytes = 0;
    for (struct tenant *tenant = NULL; (tenant = tenants_next(&store->tenants, tenant));) {
        const struct quota *quota = &tenant->disk_bytes;
        uint64_t used = atomic_load(&quota->used), limit = atomic_load(&quota->limit);
        uint64_t refused = atomic_load(&quota->refused);
        if (used > limit || refused != tenant->disk_refusals)
            freed_bytes += relieve_tenant(store, tenant, used > limit ? used - limit : 0);
        tenant->disk_refusals = refused;
    }
    atomic_fetch_add(&store->disk.counts.evicted_bytes, freed_bytes);
    return freed_bytes > 0;
}

static bool relieve_whole(struct store *store) {
    struct disk_tier *tier = &store->disk;
    uint64_t freed_bytes;
    int shortage = atomic_exchange(&tier->shortage, DISK_NOT_SHORT);
    if (shortage == DISK_NOT_SHORT)
        return false;
    if (make_room_on_disk(store, shortage, &freed_bytes))
        atomic_store(&tier->unrelieved, freed_bytes == 0);
    atomic_fetch_add(&tier->counts.evicted_bytes, freed_bytes);
    return freed_bytes > 0;
}

bool spill_relieve_disk(struct store *store) {
    if (!disk_tier_is_on(&store->disk))
        return false;
    bool relieved = relieve_tenants(store);
    return relieve_whole(store) || relieved;
}

bool spill(struct store *store, struct coldness *order, uint64_t want_bytes, uint64_t idle_ns) {
    struct disk_tier *tier = &store->disk;
    if (!disk_tier_is_on(tier) || store_is_recovering(store))
        return false;
    (void)spill_relieve_disk(store);
    uint64_t progress = disk_tier_progress(tier);
    struct outcome before = outcome(tier);
    uint64_t under_way = atomic_load(&tier->counts.spilling_bytes), begun = 0;
    if (under_way < want_bytes)
        begun = spill_coldest(store, order, want_bytes - under_way, idle_ns);
    if (under_way + begun == 0)
        return relieve_tenants(store);
    if (atomic_load(&tier->counts.spilling_bytes) > 0)
        disk_tier_await_progress(tier, progress, SPILL_WAIT_NS);
    struct outcome after = outcome(tier);
    return after.spilled_bytes > before.spilled_bytes ||
           after.failed_writes == before.failed_writes || spill_relieve_disk(store);
}
