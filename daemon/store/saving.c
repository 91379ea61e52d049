#include "daemon/store/saving.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/store/attachment_disk.h"
#include "daemon/store/manifest.h"
#include "daemon/store/manifest_hold.h"

/* So long a save is tried again while the disk is full. */
#define FULL_WAIT_NS (2 * CLOCK_NS_PER_S)

struct save {
    struct disk_job job; /* the manifest's, which ends the save: those before it are done then */
    struct disk_job tail_job;
    struct disk_part part, tail_part;
    struct disk_tier *tier;
    struct session *session; /* owned reference */
    struct tail *tail;       /* owned reference; NULL if no rows are to be written */
    struct session_point point;
    uint64_t tokens, cuts, removed_attachments, used_ns, tail_first;
    struct tail_piece *pieces; /* of the manifest, the last of them written by this save */
    size_t piece_count, piece_capacity;
    int floor;
    struct chunk **chunks; /* owned references */
    size_t chunk_count;
    struct attachment **attachments; /* owned references; batches, too */
    size_t attachment_count;
    struct chunk *coded_tail; /* owned reference: the manifest's, in the end its forerunner's */
    bool is_full;             /* the disk, and so it failed */
    uint8_t *manifest;
    size_t manifest_bytes;
};

bool saving_is_owed(const struct session *session) {
    const struct session_saved *saved = &session->saved;
    return session->durability == SESSION_ON_DISK ||
           ((saved->any || saved->under_way) &&
            (saved->cuts != session->cuts.count ||
             saved->removed_attachments != session->removed_attachments ||
             saved->floor < session->policy.floor));
}

static void save_free(struct save *save) {
    for (size_t i = 0; i < save->chunk_count; i++)
        chunk_unref(save->chunks[i]);
    if (save->coded_tail)
        chunk_unref(save->coded_tail);
    for (size_t i = 0; i < save->attachment_count; i++)
        attachment_unref(save->attachments[i]);
    if (save->tail)
        tail_unref(save->tail);
    session_unref(save->session);
    free(save->pieces);
    free(save->chunks);
    free(save->attachments);
    free(save->manifest);
    free(save);
}

/* --- what is saved --- */

/* Rows that a piece has stay there, unless the tail began elsewhere or was cut. */
static uint32_t keep_pieces(struct save *save, const struct session *session) {
    const struct session_saved *saved = &session->saved;
    uint32_t rows = 0;
    if (saved->tail_first != save->tail_first || saved->cuts != save->cuts)
        return 0;
    for (size_t i = 0; i < saved->piece_count; i++) {
        save->pieces[save->piece_count++] = saved->pieces[i];
        rows += saved->pieces[i].rows;
    }
    return rows;
}

static void add_chunk(struct save *save, struct chunk *chunk) {
    chunk_ref(chunk);
    save->chunks[save->chunk_count++] = chunk;
}

static void add_tail(struct save *save, const struct session *session) {
    save->tail_first = session->tokens - session->tail_tokens;
    uint32_t rows = keep_pieces(save, session), new_rows = session->tail_tokens - rows;
    if (new_rows == 0)
        return;
    if (session->coded_tail.chunk) {
        save->piece_count = 0;
        add_chunk(save, session->coded_tail.chunk);
        save->coded_tail = session->coded_tail.chunk;
        chunk_ref(save->coded_tail);
        return;
    }
    struct tail *tail = session->tail;
    tail_ref(tail);
    save->tail = tail;
    save->tail_part =
        (struct disk_part){tail_at(tail, rows, 0, PAGE_K), (size_t)new_rows * tail->token_bytes};
    save->pieces[save->piece_count++] =
        (struct tail_piece){.id = usage_next_id(session->usage, 1), .rows = new_rows};
}

static void add_attachments(struct save *save, const struct attachment_set *set) {
    for (; save->attachment_count < attachment_set_count(set); save->attachment_count++) {
        struct attachment *attachment = set->attachments[save->attachment_count];
        attachment_ref(attachment);
        save->attachments[save->attachment_count] = attachment;
    }
}

static void add_batches(struct save *save, const struct session *session) {
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next) {
        attachment_ref(ref->batch);
        save->attachments[save->attachment_count++] = ref->batch;
    }
}

static bool take_room(struct save *save, const struct session *session) {
    save->piece_capacity = session->saved.piece_count + 1;
    save->pieces = calloc(save->piece_capacity, sizeof *save->pieces);
    save->chunks = calloc(session->slice_count + 1, sizeof(struct chunk *));
    size_t attachments = attachment_set_count(session->attachments) + batch_set_count(session);
    save->attachments = calloc(attachments + 1, sizeof(struct attachment *));
    size_t most = manifest_bytes(session, save->piece_capacity);
    size_t coded = manifest_bytes(session, 0);
    save->manifest = calloc(1, most > coded ? most : coded);
    return save->pieces && save->chunks && save->attachments && save->manifest;
}

static void note_floor(struct save *save, struct session *session) {
    struct session_saved *saved = &session->saved;
    save->floor = session->policy.floor;
    if (!saved->any || saved->floor > save->floor)
        saved->floor = save->floor;
}

/* The keeper looks again at what was to become coarser. */
static void put_floor(const struct save *save, struct session *session) {
    if (session->saved.floor < save->floor)
        usage_add(session->usage, &session->usage->loosened, 1);
    session->saved.floor = save->floor;
}

/* With the session locked. */
static void take_picture(struct save *save, struct session *session) {
    note_floor(save, session);
    save->point = session_point(session);
    save->tokens = session->tokens;
    save->cuts = session->cuts.count;
    save->removed_attachments = session->removed_attachments;
    save->used_ns = session->used_ns;
    for (size_t i = 0; i < session->slice_count; i++)
        add_chunk(save, session->slices[i].chunk);
    add_tail(save, session);
    add_attachments(save, session->attachments);
    add_batches(save, session);
    save->manifest_bytes = manifest_bytes(session, save->piece_count);
    manifest_write(session, save->pieces, save->piece_count, save->manifest);
}

/* With the session locked. NULL without memory. */
static struct save *save_new(struct disk_tier *tier, struct session *session) {
    struct save *save = calloc(1, sizeof *save);
    if (!save)
        return NULL;
    session_ref(session);
    save->session = session;
    save->tier = tier;
    if (!take_room(save, session)) {
        save_free(save);
        return NULL;
    }
    take_picture(save, session);
    return save;
}

/* --- the save --- */

/* A full disk is waited for: the keeper makes room there. */
static bool is_full(const struct save *save) {
    return save->job.status == DISK_FULL || save->tail_job.status == DISK_FULL;
}

static bool parts_are_there(const struct save *save) {
    if (save->tail_job.status != DISK_OK)
        return false;
    for (size_t i = 0; i < save->chunk_count; i++)
        if (!chunk_is_on_disk(save->chunks[i]))
            return false;
    for (size_t i = 0; i < save->attachment_count; i++)
        if (!attachment_is_on_disk(save->attachments[i]))
            return false;
    return true;
}

static bool has_piece(const struct save *save, uint64_t id) {
    for (size_t i = 0; i < save->piece_count; i++)
        if (save->pieces[i].id == id)
            return true;
    return false;
}

/* With the session locked: pieces that the new manifest does not name any more go. */
static void put_pieces(struct save *save, struct session_saved *saved) {
    for (size_t i = 0; i < saved->piece_count; i++)
        if (!has_piece(save, saved->pieces[i].id))
            disk_tier_forget(save->tier, DISK_TAIL, saved->pieces[i].id);
    free(saved->pieces);
    saved->pieces = save->pieces;
    saved->piece_count = save->piece_count;
    save->pieces = NULL;
}

/* With the session locked: the tail of the manifest before may go. */
static void put_coded_tail(struct save *save, struct session_saved *saved) {
    struct chunk *before = saved->coded_tail;
    saved->coded_tail = save->coded_tail;
    save->coded_tail = before;
}

static void forget_new_piece(struct save *save) {
    if (save->tail)
        disk_tier_forget(save->tier, DISK_TAIL, save->pieces[save->piece_count - 1].id);
}

/* With the session locked. */
static void end_locked(struct save *save, struct session *session, bool done) {
    struct session_saved *saved = &session->saved;
    saved->under_way = false;
    if (done || saved->trying_since_ns == 0)
        saved->trying_since_ns = done ? 0 : clock_now_ns();
    bool is_late = save->is_full && clock_now_ns() - saved->trying_since_ns > FULL_WAIT_NS;
    bool is_cut = save->cuts != session->cuts.count; /* so it is saved anew */
    if (!done && !is_cut && (!save->is_full || is_late))
        saved->failed = save->point;
    if (!done || session->deleted) {
        forget_new_piece(save);
        return;
    }
    put_pieces(save, saved);
    put_coded_tail(save, saved);
    put_floor(save, session);
    manifest_release(&saved->holds, save->point);
    saved->point = save->point;
    saved->tokens = save->tokens;
    saved->cuts = save->cuts;
    saved->removed_attachments = save->removed_attachments;
    saved->used_ns = save->used_ns;
    saved->tail_first = save->tail_first;
}

static void end_save(struct save *save, bool done) {
    struct disk_tier *tier = save->tier;
    struct session *session = save->session;
    atomic_fetch_add(done ? &tier->counts.saves : &tier->counts.failed_saves, 1);
    pthread_mutex_lock(session->lock);
    end_locked(save, session, done);
    pthread_mutex_unlock(session->lock);
    save_free(save);
    disk_tier_tell_progress(tier);
}

static void end_manifest(struct disk_job *job) {
    struct save *save = (struct save *)job;
    save->is_full = is_full(save);
    if (save->is_full)
        disk_tier_tell_shortage(save->tier, DISK_SHORT_FOR_SAVING);
    end_save(save, job->status == DISK_OK);
}

/* With the session locked. */
static void submit_manifest(struct save *save) {
    save->session->saved.any = true;
    save->part = (struct disk_part){save->manifest, save->manifest_bytes};
    save->job = (struct disk_job){.operation = DISK_WRITE,
                                  .key = {.id = save->session->id, .kind = DISK_SESSION},
                                  .durable = true,
                                  .metadata = session_metadata(save->session, save->tokens),
                                  .parts = &save->part,
                                  .part_count = 1,
                                  .done = end_manifest};
    save->job.metadata.version = save->point.version;
    disk_tier_submit(save->tier, &save->job);
}

/* A manifest takes the place of the one before it, which has all its parts: it is written when its
 * own are there. */
static void end_parts(struct disk_job *job) {
    struct save *save = job->context;
    struct session *session = save->session;
    bool there = parts_are_there(save);
    pthread_mutex_lock(session->lock);
    /* Else a delete goes behind it, or what is gone since would come back. */
    bool goes_on = there && !session->deleted && save->cuts == session->cuts.count;
    if (goes_on)
        submit_manifest(save);
    pthread_mutex_unlock(session->lock);
    if (goes_on)
        return;
    save->is_full = is_full(save);
    end_save(save, false);
}

/* A delete of what is not there writes nothing, and ends behind the writes before it. */
static void submit_nothing(struct save *save) {
    save->tail_job = (struct disk_job){
        .operation = DISK_DELETE, .key = {.kind = DISK_TAIL}, .done = end_parts, .context = save};
    disk_tier_submit(save->tier, &save->tail_job);
}

static void submit_tail(struct save *save) {
    const struct tail_piece *piece = &save->pieces[save->piece_count - 1];
    save->tail_job = (struct disk_job){.operation = DISK_WRITE,
                                       .key = {.id = piece->id, .kind = DISK_TAIL},
                                       .metadata = session_metadata(save->session, piece->rows),
                                       .parts = &save->tail_part,
                                       .part_count = 1,
                                       .done = end_parts,
                                       .context = save};
    disk_tier_submit(save->tier, &save->tail_job);
}

static void run(struct save *save) {
    for (size_t i = 0; i < save->chunk_count; i++)
        if (!chunk_is_on_disk(save->chunks[i]))
            disk_tier_write_chunk(save->tier, save->chunks[i], false);
    for (size_t i = 0; i < save->attachment_count; i++)
        (void)attachment_write(save->tier, save->attachments[i], save->session, false);
    if (save->tail)
        submit_tail(save);
    else
        submit_nothing(save);
}

static bool reaches(struct session_point point, struct session_point wanted) {
    return point.version >= wanted.version && point.changes >= wanted.changes;
}

/* With the session locked: STORE_MORE with a save that is to be run. */
static int look(struct disk_tier *tier, struct session *session, struct session_point point,
                struct save **save) {
    struct session_saved *saved = &session->saved;
    if (session->deleted)
        return STORE_MISS;
    if (reaches(saved->point, point) && saved->cuts == session->cuts.count)
        return STORE_OK;
    if (saved->under_way)
        return STORE_WAIT;
    if (reaches(saved->failed, point))
        return STORE_DISK;
    if (saved->trying_since_ns != 0 && atomic_load(&tier->shortage) != DISK_NOT_SHORT)
        return STORE_WAIT; /* room is being made */
    *save = save_new(tier, session);
    if (!*save)
        return STORE_DISK;
    saved->under_way = true;
    return STORE_MORE;
}

int saving_step(struct store *store, struct session *session, struct session_point point) {
    struct save *save = NULL;
    if (!disk_tier_is_on(&store->disk))
        return STORE_DISK;
    pthread_mutex_lock(session->lock);
    int status = look(&store->disk, session, point, &save);
    pthread_mutex_unlock(session->lock);
    if (status != STORE_MORE)
        return status;
    run(save);
    return STORE_WAIT;
}

struct session_point saving_retry(struct session *session) {
    struct session_saved *saved = &session->saved;
    pthread_mutex_lock(session->lock);
    struct session_point point = session_point(session);
    saved->failed = (struct session_point){0};
    saved->trying_since_ns = 0;
    if (saved->used_ns != session->used_ns)
        saved->point.version = 0;
    pthread_mutex_unlock(session->lock);
    return point;
}

int saving_delete(struct disk_tier *tier, struct session *session, struct disk_promise **promise) {
    struct session_saved *saved = &session->saved;
    *promise = NULL;
    if (!disk_tier_is_on(tier) || !saved->any)
        return STORE_OK;
    struct disk_metadata metadata = session_metadata(session, 0);
    *promise = disk_tier_delete(tier, session->id, disk_tier_hash_name(&metadata));
    if (!*promise)
        return STORE_FULL;
    for (size_t i = 0; i < saved->piece_count; i++)
        disk_tier_forget(tier, DISK_TAIL, saved->pieces[i].id);
    return STORE_OK;
}

void saving_withdraw(struct disk_tier *tier, struct session *session) {
    struct disk_promise *promise;
    if (saving_delete(tier, session, &promise) != STORE_OK || !promise)
        return;
    disk_promise_release(promise);
    session->saved.any = false;
    session->saved.point = (struct session_point){0};
    session->saved.piece_count = 0;
}
