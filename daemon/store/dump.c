#include "daemon/store/dump.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/bytes.h"
#include "daemon/store/attachment_disk.h"
#include "daemon/store/record_disk.h"

/* --- the session as it is now --- */

static bool has_rows(const struct session *session) {
    return session->tail && session->tail_tokens > 0 && !session->coded_tail.chunk;
}

static bool take_room(struct dump *dump, const struct session *session) {
    size_t manifest = manifest_bytes(session, has_rows(session));
    size_t attachments = attachment_set_count(session->attachments) + batch_set_count(session);
    uint64_t bytes = manifest + attachments * sizeof(struct attachment *);
    if (!budget_reserve(&dump->store->budget, bytes))
        return false;
    dump->manifest_count = manifest;
    dump->attachment_capacity = attachments;
    dump->manifest_bytes = calloc(1, manifest);
    dump->attachments = calloc(attachments + 1, sizeof(struct attachment *));
    return dump->manifest_bytes && dump->attachments;
}

static void add(struct dump *dump, struct attachment *attachment) {
    attachment_ref(attachment);
    dump->attachments[dump->attachment_count++] = attachment;
}

static void take_references(struct dump *dump, const struct session *session) {
    if (has_rows(session)) {
        dump->tail = session->tail;
        tail_ref(dump->tail);
    } else if (session->coded_tail.chunk) {
        dump->coded_tail = session->coded_tail.chunk;
        chunk_ref(dump->coded_tail);
    }
    for (size_t i = 0; i < attachment_set_count(session->attachments); i++)
        add(dump, session->attachments->attachments[i]);
    dump->batch_first = dump->attachment_count;
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next)
        add(dump, ref->batch);
}

/* With the session locked. */
static int take_picture(struct dump *dump, const struct dump_request *request) {
    const struct session *session = dump->session;
    if (session->deleted)
        return STORE_MISS;
    if (request->if_version != 0 && request->if_version != session->version)
        return STORE_VERSION_CHANGED;
    if (!take_room(dump, session))
        return STORE_FULL;
    struct tail_piece piece = {.rows = session->tail_tokens};
    manifest_write(session, &piece, has_rows(session), dump->manifest_bytes);
    take_references(dump, session);
    dump->version = session->version;
    dump->cuts = session->cuts.count;
    dump->removed_attachments = session->removed_attachments;
    return STORE_OK;
}

int dump_begin(struct store *store, const struct dump_request *request, struct dump *dump) {
    *dump = (struct dump){.store = store, .session = store_find(store, request->session)};
    if (!dump->session)
        return STORE_MISS;
    pthread_mutex_lock(dump->session->lock);
    int status = take_picture(dump, request);
    pthread_mutex_unlock(dump->session->lock);
    if (status == STORE_OK &&
        manifest_read(&dump->manifest, dump->manifest_bytes, dump->manifest_count) < 0)
        status = STORE_INTERNAL;
    return status;
}

static void leave_part(struct dump *dump) {
    if (dump->record)
        record_unpin(dump->record);
    dump->record = NULL;
}

static void leave_chunk(struct dump *dump) {
    if (dump->chunk)
        chunk_unref(dump->chunk);
    dump->chunk = NULL;
}

void dump_end(struct dump *dump) {
    leave_part(dump);
    leave_chunk(dump);
    for (size_t i = 0; i < dump->attachment_count; i++)
        attachment_unref(dump->attachments[i]);
    if (dump->tail)
        tail_unref(dump->tail);
    if (dump->coded_tail)
        chunk_unref(dump->coded_tail);
    if (dump->session)
        session_unref(dump->session);
    budget_release(&dump->store->budget,
                   dump->manifest_count + dump->attachment_capacity * sizeof(struct attachment *));
    free(dump->attachments);
    free(dump->manifest_bytes);
}

/* --- the next part --- */

/* With the session locked: whether what it had is what it has, but for what came behind. */
static bool is_there(const struct dump *dump) {
    const struct session *session = dump->session;
    return !session->deleted && session->cuts.count == dump->cuts &&
           session->removed_attachments == dump->removed_attachments;
}

static int begin_part(struct dump *dump, enum dump_kind kind, uint64_t bytes) {
    dump->kind = kind;
    dump->bytes = bytes;
    dump->at = 0;
    return STORE_MORE;
}

static void write_slice(struct dump *dump, const struct manifest_slice *slice) {
    memset(dump->slice, 0, sizeof dump->slice);
    bytes_put(dump->slice, slice->start, 8);
    bytes_put(dump->slice + 8, slice->first, 4);
    bytes_put(dump->slice + 12, slice->tokens, 4);
    bytes_put(dump->slice + 16, (uint8_t)slice->level, 1);
}

/* With the session locked: the chunk of its next slice, which others may have put in the place of
 * the one that the manifest names; and what it is a slice of. False if there is none like that. */
static bool hold_slice(struct dump *dump) {
    const struct session *session = dump->session;
    struct manifest_slice said = manifest_slice(&dump->manifest, dump->next_slice);
    if (dump->next_slice >= session->slice_count)
        return false;
    const struct slice *slice = &session->slices[dump->next_slice];
    if (slice->start != said.start || slice->tokens != said.tokens)
        return false;
    said.first = slice->first;
    said.level = slice->level;
    write_slice(dump, &said);
    dump->chunk = slice->chunk;
    chunk_ref(dump->chunk);
    return true;
}

static bool hold_chunk(struct dump *dump) {
    struct manifest_slice said = manifest_slice(&dump->manifest, dump->next_slice);
    bool is_tail = dump->coded_tail && dump->next_slice + 1 == dump->manifest.slice_count;
    pthread_mutex_lock(dump->session->lock);
    bool held = is_there(dump) && (is_tail || hold_slice(dump));
    if (held && is_tail) {
        write_slice(dump, &said);
        dump->chunk = dump->coded_tail;
        chunk_ref(dump->chunk);
    }
    if (held)
        dump->record = chunk_pin(dump->chunk);
    pthread_mutex_unlock(dump->session->lock);
    return held;
}

static int begin_chunk(struct dump *dump) {
    if (!hold_chunk(dump))
        return STORE_MISS;
    while (record_is_absent(dump->record)) {
        leave_part(dump);
        int status =
            disk_tier_load_chunk(&dump->store->disk, dump->chunk, &dump->session->geometry);
        if (status != STORE_OK) {
            leave_chunk(dump);
            return status;
        }
        dump->record = chunk_pin(dump->chunk);
    }
    dump->next_slice++;
    return begin_part(dump, DUMP_CHUNK, DUMP_SLICE_BYTES + dump->record->bytes);
}

static int begin_attachment(struct dump *dump) {
    bool is_batch = dump->next_attachment >= dump->batch_first;
    dump->attachment = dump->attachments[dump->next_attachment++];
    dump->next_piece = 0;
    return begin_part(dump, is_batch ? DUMP_BATCH : DUMP_ATTACHMENT, dump->attachment->spec.bytes);
}

int dump_next(struct dump *dump) {
    bool had_chunk = dump->began && dump->kind == DUMP_CHUNK && dump->chunk;
    leave_part(dump);
    if (!dump->began) {
        dump->began = true;
        return begin_part(dump, DUMP_MANIFEST, dump->manifest_count);
    }
    if (had_chunk && dump->chunk->summary.bytes > 0)
        return begin_part(dump, DUMP_KEYS, dump->chunk->summary.bytes);
    leave_chunk(dump);
    if (dump->next_slice < dump->manifest.slice_count)
        return begin_chunk(dump);
    if (dump->tail && !dump->has_rows) {
        dump->has_rows = true;
        return begin_part(dump, DUMP_ROWS,
                          (uint64_t)dump->manifest.tail_tokens * dump->tail->token_bytes);
    }
    return dump->next_attachment < dump->attachment_count ? begin_attachment(dump) : STORE_OK;
}

/* --- what it holds --- */

/* The slice, then the record, whose pages are checked as they end. */
static int read_chunk(struct dump *dump, uint8_t *to, size_t count) {
    size_t in_slice = 0;
    if (dump->at < DUMP_SLICE_BYTES) {
        in_slice = DUMP_SLICE_BYTES - (size_t)dump->at;
        in_slice = in_slice < count ? in_slice : count;
        memcpy(to, dump->slice + dump->at, in_slice);
    }
    if (in_slice == count)
        return STORE_OK;
    uint64_t from = dump->at + in_slice - DUMP_SLICE_BYTES;
    const uint8_t *memory = record_room(dump->record);
    memcpy(to + in_slice, memory + from, count - in_slice);
    return record_pages_are_whole(dump->record, from, from + count - in_slice) ? STORE_OK
                                                                               : STORE_MISS;
}

static int read_piece(struct dump *dump, uint8_t *to, void *workspace) {
    struct attachment *attachment = dump->attachment;
    while (!attachment_pin(attachment)) {
        int status = attachment_load(attachment);
        if (status != STORE_OK)
            return status;
    }
    int damaged = attachment_read_piece(attachment, dump->next_piece, to, workspace);
    attachment_unpin(attachment);
    dump->next_piece += damaged == 0;
    return damaged < 0 ? STORE_MISS : STORE_OK;
}

static int read_part(struct dump *dump, uint8_t *to, size_t count, void *workspace) {
    switch (dump->kind) {
    case DUMP_MANIFEST:
        memcpy(to, dump->manifest_bytes + dump->at, count);
        return STORE_OK;
    case DUMP_CHUNK:
        return read_chunk(dump, to, count);
    case DUMP_KEYS:
        memcpy(to, key_summary_memory(&dump->chunk->summary) + dump->at, count);
        return STORE_OK;
    case DUMP_ROWS:
        memcpy(to, dump->tail->rows + dump->at, count);
        return STORE_OK;
    default:
        return read_piece(dump, to, workspace);
    }
}

static bool may_go_on(struct dump *dump) {
    pthread_mutex_lock(dump->session->lock);
    bool may = is_there(dump);
    pthread_mutex_unlock(dump->session->lock);
    return may;
}

int dump_read(struct dump *dump, uint8_t *to, size_t room, size_t *bytes, void *workspace) {
    uint64_t left = dump->bytes - dump->at;
    size_t most = room < ATTACHMENT_PIECE_BYTES ? room : ATTACHMENT_PIECE_BYTES;
    size_t count = left < most ? (size_t)left : most;
    *bytes = 0;
    int status = may_go_on(dump) ? read_part(dump, to, count, workspace) : STORE_MISS;
    if (status != STORE_OK)
        return status;
    dump->at += count;
    *bytes = count;
    return STORE_OK;
}
