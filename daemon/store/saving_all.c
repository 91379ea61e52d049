/* Saving all sessions at the end. */
#include <stdlib.h>

#include "daemon/base/array.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/saving.h"
#include "daemon/store/spill.h"

/* Under way at a time: many that are small, but few that are large, for what is written of those
 * behind the last that fits a full disk is room lost. */
enum { SAVES_MOST = 64, QUEUED_BYTES_MOST = 8 << 20 };

#define WAIT_NS (100 * CLOCK_NS_PER_MS)

struct saving_all {
    struct store *store;
    struct session **sessions; /* owned references, those used last first */
    size_t count, capacity;
    size_t first, begun; /* those between are under way */
    uint64_t saved, saved_chains, failed;
};

static bool add(struct saving_all *all, struct session *session) {
    struct session **grown =
        array_grow(all->sessions, all->count, &all->capacity, sizeof(struct session *));
    if (!grown)
        return false;
    all->sessions = grown;
    session_ref(session);
    all->sessions[all->count++] = session;
    return true;
}

static int compare(const void *a, const void *b) {
    const struct session *left = *(struct session *const *)a, *right = *(struct session *const *)b;
    return (left->used_ns < right->used_ns) - (left->used_ns > right->used_ns);
}

static void collect_list(struct saving_all *all, struct list *list) {
    struct session *session = list_after(list, 0);
    while (session && add(all, session))
        session = list_next(list, session);
    if (session)
        session_unref(session);
}

static void collect(struct saving_all *all) {
    collect_list(all, &all->store->list);
    collect_list(all, &all->store->chains);
    if (all->count > 0)
        qsort(all->sessions, all->count, sizeof(struct session *), compare);
}

static int save_one(struct store *store, struct session *session) {
    pthread_mutex_lock(session->lock);
    bool has_any = !session_is_empty(session) || session->saved.any;
    struct session_point point = session_point(session);
    pthread_mutex_unlock(session->lock);
    return has_any ? saving_step(store, session, point) : STORE_OK;
}

static bool may_begin(const struct saving_all *all) {
    struct disk_stats stats;
    size_t under_way = all->begun - all->first;
    if (all->begun == all->count || under_way == SAVES_MOST)
        return false;
    disk_read_stats(all->store->disk.disk, &stats);
    return under_way == 0 || stats.queued_bytes < QUEUED_BYTES_MOST;
}

/* Begins what may be begun, and lets go of what is done. */
static void go_on(struct saving_all *all) {
    for (; may_begin(all); all->begun++) {
        (void)saving_retry(all->sessions[all->begun]);
        (void)!save_one(all->store, all->sessions[all->begun]);
    }
    for (; all->first < all->begun; all->first++) {
        int status = save_one(all->store, all->sessions[all->first]);
        if (status == STORE_WAIT)
            return;
        if (status != STORE_OK)
            all->failed++;
        else if (session_is_chain(all->sessions[all->first]))
            all->saved_chains++;
        else
            all->saved++;
        session_unref(all->sessions[all->first]);
    }
}

static void say(const struct saving_all *all, uint64_t written_bytes, uint64_t begun_ns) {
    log_info("%llu sessions are on disk, and %llu chains of blocks; %llu MiB were written in %llu "
             "ms",
             (unsigned long long)all->saved, (unsigned long long)all->saved_chains,
             (unsigned long long)written_bytes >> 20,
             (unsigned long long)(clock_now_ns() - begun_ns) / CLOCK_NS_PER_MS);
    if (all->failed > 0)
        log_warning("%llu sessions and chains could not be saved: the disk is full or failed",
                    (unsigned long long)all->failed);
}

static uint64_t written(struct disk_tier *tier) {
    struct disk_stats stats;
    disk_read_stats(tier->disk, &stats);
    return stats.written_bytes;
}

void saving_save_all(struct store *store) {
    struct disk_tier *tier = &store->disk;
    struct saving_all all = {.store = store};
    if (!disk_tier_is_on(tier) || store_is_recovering(store))
        return;
    uint64_t begun_ns = clock_now_ns(), before = written(tier);
    atomic_store(&tier->keeper, NULL);
    collect(&all);
    while (all.first < all.count) {
        uint64_t progress = disk_tier_progress(tier);
        (void)spill_relieve_disk(store); /* what was used longer ago gives way */
        go_on(&all);
        if (all.first < all.begun)
            disk_tier_await_progress(tier, progress, WAIT_NS);
    }
    free(all.sessions);
    say(&all, written(tier) - before, begun_ns);
}
