#include "daemon/store/recovery_state.h"

#include "daemon/store/record_disk.h"

/* What the pool says of a chunk on disk holds if that is what was found. */
static bool settle_chunk(struct recovery *recovery, const struct session *session,
                         struct chunk *chunk) {
    struct found *found = recovery_find(recovery, session, DISK_CHUNK, chunk->id);
    pthread_mutex_lock(&chunk->lock);
    const struct chunk_on_disk *on_disk = &chunk->on_disk;
    bool is_there =
        found && found->bytes == RECORD_SUMMARY_BYTES + on_disk->summary_bytes + on_disk->bytes;
    if (is_there && !found->used) {
        chunk_ref(chunk);
        found->chunk = chunk;
        found->used = true;
    } else if (!is_there && chunk->on_disk.tier && !recovery->is_incomplete) {
        chunk_put_on_disk(chunk, (struct chunk_on_disk){0});
        chunk->lost_until_ns = record_is_absent(chunk->record) ? UINT64_MAX : 0;
    }
    pthread_mutex_unlock(&chunk->lock);
    return is_there;
}

/* The same of an attachment. */
static void settle_attachment(struct recovery *recovery, const struct session *session,
                              struct attachment *attachment) {
    struct found *found = recovery_find(recovery, session, DISK_ATTACHMENT, attachment->spec.id);
    bool is_there = found && found->bytes == attachment->spec.record_bytes;
    pthread_mutex_lock(&attachment->lock);
    if (is_there && attachment->disk && !found->attachment) {
        attachment_ref(attachment);
        found->attachment = attachment;
    } else if (!is_there && attachment->disk && !recovery->is_incomplete) {
        attachment_put_on_disk(attachment, NULL);
        attachment->lost_until_ns = attachment->extent.bytes == 0 ? UINT64_MAX : 0;
    }
    pthread_mutex_unlock(&attachment->lock);
}

static bool has_pieces(struct recovery *recovery, const struct session *session) {
    const struct session_saved *saved = &session->saved;
    size_t token_bytes = geometry_token_bytes(&session->geometry);
    bool all = true;
    for (size_t i = 0; i < saved->piece_count; i++) {
        struct found *found = recovery_find(recovery, session, DISK_TAIL, saved->pieces[i].id);
        bool is_there = found && found->bytes == saved->pieces[i].rows * token_bytes;
        if (is_there)
            found->used = true;
        all &= is_there;
    }
    return all;
}

/* With the session locked. Without its manifest, or its tail there, nothing of it is saved. */
static void settle_saved(struct recovery *recovery, struct session *session) {
    struct session_saved *saved = &session->saved;
    const struct found *found = recovery_find(recovery, session, DISK_SESSION, session->id);
    saved->any |= found != NULL; /* the daemon before may have had no disk, and not known */
    bool is_there = found && !found->doubtful && has_pieces(recovery, session);
    if (saved->coded_tail && !settle_chunk(recovery, session, saved->coded_tail))
        is_there = false;
    if (is_there)
        return;
    saved->point = (struct session_point){0};
    saved->piece_count = 0;
}

/* A session that was deleted meanwhile must not come back. */
static struct disk_promise *delete_on_disk(struct disk_tier *tier, const struct session *session) {
    struct disk_metadata metadata = session_metadata(session, 0);
    return disk_tier_delete(tier, session->id, disk_tier_hash_name(&metadata));
}

static void settle_session(struct recovery *recovery, struct session *session) {
    struct disk_promise *promise = NULL;
    pthread_mutex_lock(session->lock);
    for (size_t i = 0; i < session->slice_count; i++)
        settle_chunk(recovery, session, session->slices[i].chunk);
    if (session->coded_tail.chunk)
        settle_chunk(recovery, session, session->coded_tail.chunk);
    for (size_t i = 0; i < attachment_set_count(session->attachments); i++)
        settle_attachment(recovery, session, session->attachments->attachments[i]);
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next)
        settle_attachment(recovery, session, ref->batch);
    if (session->deleted)
        promise = delete_on_disk(&recovery->store->disk, session);
    else
        settle_saved(recovery, session);
    pthread_mutex_unlock(session->lock);
    if (promise)
        disk_promise_release(promise);
}

void recovery_settle_taken(struct recovery *recovery) {
    struct takeover *takeover = recovery->takeover;
    for (size_t i = 0; takeover && i < takeover->session_count; i++)
        settle_session(recovery, takeover->sessions[i]);
}
