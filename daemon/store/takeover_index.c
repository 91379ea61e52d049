#include "daemon/store/takeover_index.h"

#include <stdlib.h>

#include "daemon/base/bytes.h"
#include "daemon/store/record_disk.h"

enum {
    MAGIC_BYTES = 8,
    NOTE_HASHED_BYTES = 64,
    LEVELS_OFFSET = 48,
    SUMMARY_OFFSET = 80,
    KEYS_OFFSET = 168
};

static const char note_magic[MAGIC_BYTES] = "KVQPOOL", index_magic[MAGIC_BYTES + 1] = "KVQINDEX";

void takeover_write_note(uint8_t *bytes, const struct takeover_note *note) {
    memcpy(bytes, note_magic, MAGIC_BYTES);
    bytes_put(bytes + 8, note->layout, 4);
    bytes_put(bytes + 12, note->state, 4);
    bytes_put(bytes + 16, note->attempts, 8);
    bytes_put(bytes + 24, note->index.offset, 8);
    bytes_put(bytes + 32, note->index.bytes, 8);
    bytes_put(bytes + 40, note->index_hash, 8);
    bytes_put(bytes + 48, note->limit_bytes, 8);
    bytes_put(bytes + 56, 0, 8);
    bytes_put(bytes + 64, record_hash(bytes, NOTE_HASHED_BYTES), 8);
}

int takeover_read_note(const uint8_t *bytes, struct takeover_note *note) {
    if (memcmp(bytes, note_magic, MAGIC_BYTES) != 0 ||
        bytes_get(bytes + 64, 8) != record_hash(bytes, NOTE_HASHED_BYTES))
        return -1;
    *note = (struct takeover_note){
        .layout = (uint32_t)bytes_get(bytes + 8, 4),
        .state = (enum takeover_state)bytes_get(bytes + 12, 4),
        .attempts = (uint32_t)bytes_get(bytes + 16, 4),
        .index = {.offset = bytes_get(bytes + 24, 8), .bytes = bytes_get(bytes + 32, 8)},
        .index_hash = bytes_get(bytes + 40, 8),
        .limit_bytes = bytes_get(bytes + 48, 8),
    };
    return 0;
}

void takeover_write_head(uint8_t *bytes, const struct takeover_head *head) {
    memcpy(bytes, index_magic, MAGIC_BYTES);
    bytes_put(bytes + 8, head->bytes, 8);
    bytes_put(bytes + 16, head->version_clock, 8);
    bytes_put(bytes + 24, head->chunk_id_clock, 8);
    bytes_put(bytes + 32, head->session_ids, 8);
    bytes_put(bytes + 40, head->chain_ids, 8);
    bytes_put(bytes + 48, head->chunks, 4);
    bytes_put(bytes + 52, head->attachments, 4);
    bytes_put(bytes + 56, head->tails, 4);
    bytes_put(bytes + 60, head->sessions, 4);
}

int takeover_read_head(const uint8_t *bytes, uint64_t count, struct takeover_head *head) {
    if (count < TAKEOVER_HEAD_BYTES || memcmp(bytes, index_magic, MAGIC_BYTES) != 0)
        return -1;
    *head = (struct takeover_head){.bytes = bytes_get(bytes + 8, 8),
                                   .version_clock = bytes_get(bytes + 16, 8),
                                   .chunk_id_clock = bytes_get(bytes + 24, 8),
                                   .session_ids = bytes_get(bytes + 32, 8),
                                   .chain_ids = bytes_get(bytes + 40, 8),
                                   .chunks = (uint32_t)bytes_get(bytes + 48, 4),
                                   .attachments = (uint32_t)bytes_get(bytes + 52, 4),
                                   .tails = (uint32_t)bytes_get(bytes + 56, 4),
                                   .sessions = (uint32_t)bytes_get(bytes + 60, 4)};
    uint64_t tables = (uint64_t)head->chunks * TAKEOVER_CHUNK_BYTES +
                      (uint64_t)head->attachments * TAKEOVER_ATTACHMENT_BYTES +
                      (uint64_t)head->tails * TAKEOVER_TAIL_BYTES;
    return head->bytes <= count && head->bytes >= TAKEOVER_HEAD_BYTES &&
                   tables <= head->bytes - TAKEOVER_HEAD_BYTES
               ? 0
               : -1;
}

/* --- chunks --- */

void takeover_write_chunk(uint8_t *bytes, const struct takeover_chunk *chunk,
                          const struct record *record) {
    bytes_put(bytes, chunk->id, 8);
    bytes_put(bytes + 8, chunk->extent.offset, 8);
    bytes_put(bytes + 16, chunk->extent.bytes, 8);
    bytes_put(bytes + 24, chunk->disk_bytes, 8);
    bytes_put(bytes + 32, chunk->disk_is_current, 8);
    bytes_put(bytes + 40, record->exact_bytes, 8);
    for (int i = 0; i < USAGE_LEVELS; i++)
        bytes_put(bytes + LEVELS_OFFSET + 4 * i, record->levels[i].bytes, 4);
    record_write_summary(record, bytes + SUMMARY_OFFSET);
    bytes_put(bytes + KEYS_OFFSET, chunk->summary.offset, 8);
    bytes_put(bytes + KEYS_OFFSET + 8, chunk->summary.bytes, 8);
    bytes_put(bytes + KEYS_OFFSET + 16, chunk->summary_bytes, 8);
    bytes_put(bytes + KEYS_OFFSET + 24, chunk->disk_summary_bytes, 8);
}

struct takeover_chunk takeover_read_chunk(const uint8_t *bytes) {
    return (struct takeover_chunk){
        .id = bytes_get(bytes, 8),
        .disk_bytes = bytes_get(bytes + 24, 8),
        .disk_is_current = bytes_get(bytes + 32, 4) != 0,
        .extent = {.offset = bytes_get(bytes + 8, 8), .bytes = bytes_get(bytes + 16, 8)},
        .summary = {.offset = bytes_get(bytes + KEYS_OFFSET, 8),
                    .bytes = bytes_get(bytes + KEYS_OFFSET + 8, 8)},
        .summary_bytes = bytes_get(bytes + KEYS_OFFSET + 16, 8),
        .disk_summary_bytes = bytes_get(bytes + KEYS_OFFSET + 24, 8)};
}

struct record *takeover_read_record(const uint8_t *bytes, struct pool *pool,
                                    struct budget *budget) {
    struct pool_extent extent = takeover_read_chunk(bytes).extent;
    struct record *record = record_read_summary(pool, budget, bytes + SUMMARY_OFFSET);
    if (!record)
        return NULL;
    record->exact_bytes = bytes_get(bytes + 40, 8);
    for (int i = 0; i < USAGE_LEVELS; i++)
        record->levels[i].bytes = (uint32_t)bytes_get(bytes + LEVELS_OFFSET + 4 * i, 4);
    if ((extent.bytes > 0 && record->bytes > extent.bytes) ||
        !budget_reserve(budget, extent.bytes)) {
        free(record);
        return NULL;
    }
    record->extent = extent;
    record->reserved_bytes = extent.bytes;
    return record;
}

/* --- attachments, tails and sessions --- */

void takeover_write_attachment(uint8_t *bytes, const struct takeover_attachment *attachment) {
    bytes_put(bytes, attachment->id, 8);
    bytes_put(bytes + 8, attachment->extent.offset, 8);
    bytes_put(bytes + 16, attachment->extent.bytes, 8);
    bytes_put(bytes + 24, attachment->is_on_disk, 8);
}

struct takeover_attachment takeover_read_attachment(const uint8_t *bytes) {
    return (struct takeover_attachment){
        .id = bytes_get(bytes, 8),
        .extent = {.offset = bytes_get(bytes + 8, 8), .bytes = bytes_get(bytes + 16, 8)},
        .is_on_disk = bytes_get(bytes + 24, 8) != 0};
}

void takeover_write_tail(uint8_t *bytes, const struct takeover_tail *tail) {
    bytes_put(bytes, tail->extent.offset, 8);
    bytes_put(bytes + 8, tail->extent.bytes, 8);
    bytes_put(bytes + 16, tail->rows, 8);
    bytes_put(bytes + 24, tail->hash, 8);
}

struct takeover_tail takeover_read_tail(const uint8_t *bytes) {
    return (struct takeover_tail){
        .extent = {.offset = bytes_get(bytes, 8), .bytes = bytes_get(bytes + 8, 8)},
        .rows = (uint32_t)bytes_get(bytes + 16, 4),
        .hash = bytes_get(bytes + 24, 8)};
}

void takeover_write_session(uint8_t *bytes, const struct takeover_session *session) {
    bytes_put(bytes, session->manifest_bytes, 4);
    bytes_put(bytes + 4, session->touches, 4);
    bytes_put(bytes + 8, session->pieces, 4);
    bytes_put(bytes + 12, session->any_saved, 4);
    bytes_put(bytes + 16, session->changes, 8);
    bytes_put(bytes + 24, session->cuts, 8);
    bytes_put(bytes + 32, session->removed_attachments, 8);
    bytes_put(bytes + 40, session->created_ns, 8);
    bytes_put(bytes + 48, session->used_ns, 8);
    bytes_put(bytes + 56, session->pinned_until_ns, 8);
    bytes_put(bytes + 64, session->saved.version, 8);
    bytes_put(bytes + 72, session->saved.changes, 8);
    bytes_put(bytes + 80, session->saved.tokens, 8);
    bytes_put(bytes + 88, session->saved.cuts, 8);
    bytes_put(bytes + 96, session->saved.removed_attachments, 8);
    bytes_put(bytes + 104, session->saved.used_ns, 8);
    bytes_put(bytes + 112, session->saved.tail_first, 8);
    bytes_put(bytes + 120, session->saved.coded_tail, 8);
    bytes_put(bytes + 128, (uint32_t)session->saved.floor, 4);
}

struct takeover_session takeover_read_session(const uint8_t *bytes) {
    return (struct takeover_session){
        .manifest_bytes = (uint32_t)bytes_get(bytes, 4),
        .touches = (uint32_t)bytes_get(bytes + 4, 4),
        .pieces = (uint32_t)bytes_get(bytes + 8, 4),
        .any_saved = (uint32_t)bytes_get(bytes + 12, 4),
        .changes = bytes_get(bytes + 16, 8),
        .cuts = bytes_get(bytes + 24, 8),
        .removed_attachments = bytes_get(bytes + 32, 8),
        .created_ns = bytes_get(bytes + 40, 8),
        .used_ns = bytes_get(bytes + 48, 8),
        .pinned_until_ns = bytes_get(bytes + 56, 8),
        .saved = {.version = bytes_get(bytes + 64, 8),
                  .changes = bytes_get(bytes + 72, 8),
                  .tokens = bytes_get(bytes + 80, 8),
                  .cuts = bytes_get(bytes + 88, 8),
                  .removed_attachments = bytes_get(bytes + 96, 8),
                  .used_ns = bytes_get(bytes + 104, 8),
                  .tail_first = bytes_get(bytes + 112, 8),
                  .coded_tail = bytes_get(bytes + 120, 8),
                  .floor = (int32_t)bytes_get(bytes + 128, 4)},
    };
}
