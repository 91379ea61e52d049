#include "daemon/store/recovery_state.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/array.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/restore.h"
#include "daemon/store/saving.h"

struct recovery *recovery_new(struct store *store, struct takeover *takeover) {
    struct recovery *recovery = calloc(1, sizeof *recovery);
    if (!recovery)
        return NULL;
    recovery->store = store;
    recovery->takeover = takeover;
    return recovery;
}

void recovery_free(struct recovery *recovery) {
    if (!recovery)
        return;
    takeover_free(recovery->takeover);
    free(recovery->found);
    free(recovery);
}

void recovery_begin(struct recovery *recovery) {
    struct disk_tier *tier = &recovery->store->disk;
    pthread_mutex_lock(&tier->lock);
    recovery->may_begin = true;
    pthread_cond_broadcast(&tier->changed);
    pthread_mutex_unlock(&tier->lock);
}

/* --- sessions --- */

static bool add_slices(struct recovery *recovery, struct session *session,
                       const struct manifest *manifest) {
    for (uint32_t i = 0; i < manifest->slice_count - manifest->tail_is_coded; i++) {
        struct manifest_slice slice = manifest_slice(manifest, i);
        if (!restore_slice(session, &slice, recovery_chunk_of(recovery, session, slice.chunk_id)))
            return false;
    }
    return true;
}

static bool extend(struct recovery *recovery, struct tail *tail, uint32_t rows) {
    bool extended = tail_extend(tail, rows) == STORE_OK;
    recovery->for_now |= !extended;
    return extended;
}

/* Rows of the tail from one piece. */
static bool read_piece(struct recovery *recovery, struct session *session,
                       const struct tail_piece *piece) {
    struct tail *tail = session->tail;
    struct found *found = recovery_find(recovery, session, DISK_TAIL, piece->id);
    size_t bytes = piece->rows * tail->token_bytes, got;
    if (!found || found->bytes != bytes ||
        !extend(recovery, tail, session->tail_tokens + piece->rows) ||
        recovery_read(recovery, found, 1, tail_at(tail, session->tail_tokens, 0, PAGE_K), bytes,
                      &got) < 0 ||
        got != bytes)
        return false;
    found->used = true;
    session->saved.pieces[session->saved.piece_count++] = *piece;
    session->tail_tokens += piece->rows;
    session->tokens += piece->rows;
    return true;
}

static bool add_coded_tail(struct recovery *recovery, struct session *session,
                           const struct manifest *manifest) {
    struct manifest_slice slice = manifest_slice(manifest, manifest->slice_count - 1);
    struct chunk *chunk = recovery_chunk_of(recovery, session, slice.chunk_id);
    if (!restore_coded_tail(session, manifest, chunk))
        return false;
    session->saved.coded_tail = chunk;
    chunk_ref(chunk);
    return true;
}

static bool make_tail(struct recovery *recovery, struct session *session, size_t pieces) {
    session->saved.pieces = calloc(pieces, sizeof *session->saved.pieces);
    bool made = session->saved.pieces &&
                tail_new(session->budget, session->usage, &session->geometry, 0, &session->tail) ==
                    STORE_OK;
    recovery->for_now |= !made;
    return made;
}

static bool add_tail(struct recovery *recovery, struct session *session,
                     const struct manifest *manifest) {
    session->saved.tail_first = session->tokens;
    if (manifest->tail_is_coded)
        return add_coded_tail(recovery, session, manifest);
    if (manifest->piece_count == 0)
        return true;
    if (!make_tail(recovery, session, manifest->piece_count))
        return false;
    bool all = true;
    for (uint32_t i = 0; i < manifest->piece_count && all; i++) {
        struct tail_piece piece = manifest_piece(manifest, i);
        all = read_piece(recovery, session, &piece);
    }
    tail_cut(session->tail, session->tail_tokens);
    restore_losses(session->tail, manifest);
    return all;
}

/* The recovery's own reference to the tail becomes the session's; without rows there is none. */
static void settle_tail(struct session *session) {
    struct tail *tail = session->tail;
    if (!tail)
        return;
    if (session->tail_tokens > 0)
        tail_own(tail);
    else
        session->tail = NULL;
    tail_unref(tail);
}

/* When it was, by the clock that stands still while the machine does not run. */
static uint64_t clock_ns_of(uint64_t us) {
    uint64_t now_ns = clock_now_ns(), now_us = clock_wall_us();
    if (us > now_us)
        return us - now_us < (UINT64_MAX - now_ns) / 1000 ? now_ns + (us - now_us) * 1000
                                                          : UINT64_MAX;
    return (now_us - us) * 1000 < now_ns ? now_ns - (now_us - us) * 1000 : 0;
}

/* The same of what has been, though the time of day was set back since. */
static uint64_t past_ns_of(uint64_t us) {
    uint64_t ns = clock_ns_of(us), now_ns = clock_now_ns();
    return ns < now_ns ? ns : now_ns;
}

static void set_fields(struct session *session, const struct manifest *manifest) {
    session->created_ns = past_ns_of(manifest->created_us);
    session->used_ns = session->saved.used_ns = past_ns_of(manifest->used_us);
    session->pinned_until_ns = clock_ns_of(manifest->pinned_us);
    session->saved.any = true;
    session->saved.floor = session->policy.floor;
    session->saved.point.version = manifest->version;
    session->saved.tokens = manifest->tokens;
}

/* Those that are on disk. STORE_OK, STORE_MISS if one is not, or STORE_FULL if there is no memory
 * for one, or it may be there another time. */
static int add_attachments(struct recovery *recovery, struct session *session,
                           const struct manifest *manifest) {
    struct attachment_spec spec;
    int status = STORE_OK;
    recovery->for_now = false;
    if (manifest->attachments_bytes > 0 && attachment_set_provide(session) != STORE_OK)
        return STORE_FULL;
    for (size_t at = 0; manifest_next_attachment(manifest, &at, &spec);) {
        struct attachment *replaced = NULL;
        struct found *found = recovery_find(recovery, session, DISK_ATTACHMENT, spec.id);
        if (recovery->for_now)
            return STORE_FULL;
        if (!found || found->bytes != spec.record_bytes) {
            recovery->damaged++;
            status = STORE_MISS;
            continue;
        }
        struct attachment *attachment = recovery_attachment_of(recovery, session, found, &spec);
        if (!attachment)
            return STORE_FULL;
        if (attachment_set_put(session, attachment, &replaced) == STORE_OK && replaced)
            attachment_disown(replaced); /* no manifest of ours has a name twice */
    }
    return status;
}

/* Those that are on disk, into memory. As above. */
static int add_batches(struct recovery *recovery, struct session *session,
                       const struct manifest *manifest) {
    struct manifest_batch batch;
    int status = STORE_OK;
    for (size_t at = 0; manifest_next_batch(manifest, &at, &batch);) {
        struct attachment *loaded = recovery_batch_of(recovery, session, &batch.spec);
        if (recovery->for_now)
            return STORE_FULL;
        int restored = restore_batch(session, &batch, loaded);
        recovery->for_now = restored == STORE_FULL;
        if (recovery->for_now)
            return STORE_FULL;
        recovery->damaged += restored != STORE_OK;
        status = restored == STORE_OK ? status : restored;
    }
    return status;
}

/* Without what is missing. False if it is not to be taken now. */
static bool fill(struct recovery *recovery, struct session *session,
                 const struct manifest *manifest, bool whole) {
    recovery->for_now = false;
    set_fields(session, manifest);
    whole &= add_slices(recovery, session, manifest) && add_tail(recovery, session, manifest);
    settle_tail(session);
    if (!whole && recovery->for_now)
        return false;
    if (restore_blocks(recovery->store, session, manifest) != STORE_OK)
        return false;
    restore_ids(recovery->store, session, manifest);
    if (whole)
        return true;
    recovery->damaged++;
    restore_note_missing(recovery->store, session, manifest->tokens);
    recovery->cut_sessions++;
    return true;
}

static struct session *make_session(struct recovery *recovery, const struct manifest *manifest) {
    struct session *session = restore_session(recovery->store, manifest);
    if (!session)
        return NULL;
    int status = add_attachments(recovery, session, manifest);
    int batches = status == STORE_FULL ? status : add_batches(recovery, session, manifest);
    bool all = status == STORE_OK && batches == STORE_OK;
    if (batches != STORE_FULL && fill(recovery, session, manifest, all))
        return session;
    session_unref(session);
    return NULL;
}

static bool is_ours(const struct manifest *manifest, const struct found *found) {
    return manifest->session_id == found->id &&
           tenant_is_name(manifest->tenant, manifest->tenant_bytes);
}

/* 0, or -1: then what a newer version wrote is for now not to be read. */
static int read_manifest(struct recovery *recovery, const struct found *found, uint8_t *bytes,
                         struct manifest *manifest) {
    size_t got;
    if (recovery_read(recovery, found, 1, bytes, (size_t)found->bytes, &got) < 0 ||
        got != found->bytes)
        return -1;
    recovery->for_now |= manifest_is_newer(bytes, got);
    return manifest_read(manifest, bytes, got) == 0 && is_ours(manifest, found) ? 0 : -1;
}

/* It is not to come back. */
static void delete_found(struct recovery *recovery, const struct found *found) {
    struct disk_promise *promise =
        disk_tier_delete(&recovery->store->disk, found->id, found->name_hash);
    if (promise)
        disk_promise_release(promise);
}

/* Of two of the same name the newer counts, whose id is larger: the other's delete was lost. */
static bool delete_older(struct recovery *recovery, const struct session *session) {
    struct session_discard *discard;
    struct store_name name = store_name_of(session);
    struct session *other = store_find(recovery->store, name);
    bool older = !other || other->id < session->id;
    if (other)
        session_unref(other);
    if (older && store_delete(recovery->store, name, &discard) == STORE_OK)
        keeper_discard(&recovery->store->keeper, &discard->discard);
    return older;
}

/* It stays on disk, and its name is kept from being used again. */
static void leave_out(struct recovery *recovery, uint64_t name_hash) {
    uint64_t *grown = array_grow(recovery->left_out, recovery->left_out_count,
                                 &recovery->left_out_capacity, sizeof *grown);
    recovery->is_incomplete |= !grown;
    if (!grown)
        return;
    recovery->left_out = grown;
    recovery->left_out[recovery->left_out_count++] = name_hash;
}

static void insert(struct recovery *recovery, struct session *session, const struct found *found) {
    uint64_t tokens = session->tokens;
    restore_clock(&recovery->store->version_clock, session->version);
    int status = store_insert(recovery->store, session, NULL);
    bool newer = status != STORE_EXISTS || delete_older(recovery, session);
    if (status == STORE_EXISTS && newer)
        status = store_insert(recovery->store, session, NULL);
    if (status != STORE_OK) {
        if (newer) /* the older one could not be deleted for lack of memory */
            leave_out(recovery, found->name_hash);
        else
            delete_found(recovery, found);
        session_unref(session);
        return;
    }
    recovery->sessions += !session_is_chain(session);
    recovery->tokens += tokens;
}

static void recover_session(struct recovery *recovery, const struct found *found) {
    struct manifest manifest;
    uint8_t *bytes = malloc((size_t)found->bytes + 1);
    recovery->for_now = !bytes;
    if (bytes && read_manifest(recovery, found, bytes, &manifest) == 0) {
        struct session *session = make_session(recovery, &manifest);
        if (session && restore_left_nothing(session, &manifest)) {
            delete_found(recovery, found);
            session_unref(session);
        } else if (session) {
            insert(recovery, session, found);
        } else {
            leave_out(recovery, found->name_hash);
        }
    } else if (recovery->for_now) {
        leave_out(recovery, found->name_hash);
    } else {
        recovery->damaged++;
    }
    free(bytes);
}

/* --- all of them --- */

static bool is_taken(const struct recovery *recovery, uint64_t session_id) {
    return recovery->takeover && takeover_has(recovery->takeover, session_id);
}

/* Whose newest manifest may be lost must not come back. */
static void recover_sessions(struct recovery *recovery) {
    const struct disk_tier *tier = &recovery->store->disk;
    for (size_t i = 0; i < recovery->count && !atomic_load(&tier->ending); i++) {
        const struct found *found = &recovery->found[i];
        if (found->kind != DISK_SESSION || is_taken(recovery, found->id))
            continue;
        if (!found->doubtful) {
            recover_session(recovery, found);
            continue;
        }
        if (recovery->is_incomplete) {
            leave_out(recovery, found->name_hash);
            continue;
        }
        delete_found(recovery, found);
        recovery->damaged++;
    }
}

static void settle_chain(struct store *store, struct session *session) {
    pthread_mutex_lock(session->lock);
    struct session_point point = session_point(session);
    bool is_owed = saving_is_owed(session);
    pthread_mutex_unlock(session->lock);
    block_drop_unused(store, session);
    if (is_owed)
        (void)!saving_step(store, session, point);
}

/* When all chains are there: those that had to give blocks to others are saved without these, which
 * else came back once the others' are deleted. */
static void settle_chains(struct store *store) {
    struct session *session = list_after(&store->chains, 0);
    for (; session; session = list_next(&store->chains, session))
        settle_chain(store, session);
}

static void say(const struct recovery *recovery, uint64_t begun_ns) {
    struct disk_stats stats;
    disk_read_stats(recovery->store->disk.disk, &stats);
    uint64_t damaged = recovery->damaged + stats.scan_damaged;
    log_info("%llu sessions and %llu blocks of %llu tokens are on disk, in %llu MiB; found in %llu "
             "ms%s",
             (unsigned long long)recovery->sessions,
             (unsigned long long)atomic_load(&recovery->store->blocks.blocks),
             (unsigned long long)recovery->tokens, (unsigned long long)recovery->bytes >> 20,
             (unsigned long long)((clock_now_ns() - begun_ns) + stats.scan_ns) / CLOCK_NS_PER_MS,
             recovery->left_out_count > 0
                 ? "; others do not fit the memory limit, or cannot be read now, and stay there"
                 : "");
    if (recovery->is_incomplete)
        log_warning("not all that is on disk could be read: what is missing stays there");
    if (damaged > 0)
        log_warning("%llu values on disk are damaged: %llu sessions lost something",
                    (unsigned long long)damaged, (unsigned long long)recovery->cut_sessions);
}

void recovery_on_scanned(void *context) {
    struct recovery *recovery = context;
    struct disk_tier *tier = &recovery->store->disk;
    struct disk_stats stats;
    uint64_t begun_ns = clock_now_ns();
    pthread_mutex_lock(&tier->lock);
    while (!recovery->may_begin)
        pthread_cond_wait(&tier->changed, &tier->lock);
    pthread_mutex_unlock(&tier->lock);
    disk_read_stats(tier->disk, &stats);
    recovery->is_incomplete |= stats.scan_unread;
    recovery_order_found(recovery);
    recovery_settle_taken(recovery);
    recover_sessions(recovery);
    settle_chains(recovery->store);
    recovery_forget_rest(recovery);
    say(recovery, begun_ns);
    disk_tier_leave_out(tier, recovery->left_out, recovery->left_out_count);
    recovery_free(recovery);
    pthread_mutex_lock(&tier->lock);
    tier->recovering = false;
    pthread_cond_broadcast(&tier->changed);
    pthread_mutex_unlock(&tier->lock);
    disk_tier_tell_progress(tier);
}
