#include "daemon/store/manifest_sections.h"

#include <string.h>

#include "daemon/base/bytes.h"

enum section { SECTION_LOST = 1, SECTION_BLOCKS = 2, SECTION_ATTACHMENTS = 3, SECTION_BATCHES = 4 };

enum {
    HEAD_BYTES = 8,
    LOST_BYTES = 8,
    POSITION_BYTES = 8,
    BLOCK_BYTES = 13,      /* then the key */
    ATTACHMENT_BYTES = 33, /* then the name */
    BATCH_BYTES = 32,      /* then the bits */
    BATCH_WORD_BYTES = 8,
};

/* --- writing --- */

static void count_block(void *context, const struct block_entry *block) {
    *(size_t *)context += BLOCK_BYTES + block->key_bytes;
}

static size_t blocks_bytes(const struct session *session) {
    size_t bytes = POSITION_BYTES;
    block_each(session, count_block, &bytes);
    return bytes;
}

static size_t attachments_bytes(const struct attachment_set *set) {
    size_t bytes = 0;
    for (size_t i = 0; i < attachment_set_count(set); i++)
        bytes += ATTACHMENT_BYTES + set->attachments[i]->spec.name_bytes;
    return bytes;
}

static size_t batches_bytes(const struct session *session) {
    size_t bytes = 0;
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next)
        bytes += BATCH_BYTES + batch_ref_words(ref->rows) * BATCH_WORD_BYTES;
    return bytes;
}

size_t manifest_sections_bytes(const struct session *session) {
    size_t bytes = 0;
    if (session->lost_tokens > 0)
        bytes += HEAD_BYTES + LOST_BYTES;
    if (session_is_chain(session))
        bytes += HEAD_BYTES + blocks_bytes(session);
    if (attachment_set_count(session->attachments) > 0)
        bytes += HEAD_BYTES + attachments_bytes(session->attachments);
    if (session->batches)
        bytes += HEAD_BYTES + batches_bytes(session);
    return bytes;
}

static uint8_t *write_head(uint8_t *to, enum section kind, size_t bytes) {
    bytes_put(to, kind, 4);
    bytes_put(to + 4, bytes, 4);
    return to + HEAD_BYTES;
}

/* In front of those that were written before it. */
static void write_block(void *context, const struct block_entry *block) {
    uint8_t **begin = context, *to = *begin - BLOCK_BYTES - block->key_bytes;
    bytes_put(to, block->first, 8);
    bytes_put(to + 8, block->tokens, 4);
    bytes_put(to + 12, block->key_bytes, 1);
    memcpy(to + BLOCK_BYTES, block->key, block->key_bytes);
    *begin = to;
}

static void write_blocks(const struct session *session, uint8_t *to) {
    size_t bytes = blocks_bytes(session);
    to = write_head(to, SECTION_BLOCKS, bytes);
    bytes_put(to, session->first_position, POSITION_BYTES);
    uint8_t *begin = to + bytes;
    block_each(session, write_block, &begin);
}

static uint8_t *write_attachments(const struct attachment_set *set, uint8_t *to) {
    to = write_head(to, SECTION_ATTACHMENTS, attachments_bytes(set));
    for (size_t i = 0; i < attachment_set_count(set); i++) {
        const struct attachment_spec *spec = &set->attachments[i]->spec;
        bytes_put(to, spec->id, 8);
        bytes_put(to + 8, spec->bytes, 8);
        bytes_put(to + 16, spec->record_bytes, 8);
        bytes_put(to + 24, spec->tokens, 8);
        bytes_put(to + 32, spec->name_bytes, 1);
        memcpy(to + ATTACHMENT_BYTES, spec->name, spec->name_bytes);
        to += ATTACHMENT_BYTES + spec->name_bytes;
    }
    return to;
}

static void write_batches(const struct session *session, uint8_t *to) {
    to = write_head(to, SECTION_BATCHES, batches_bytes(session));
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next) {
        const struct attachment_spec *spec = &ref->batch->spec;
        bytes_put(to, spec->id, 8);
        bytes_put(to + 8, spec->bytes, 8);
        bytes_put(to + 16, spec->record_bytes, 8);
        bytes_put(to + 24, ref->rows, 4);
        bytes_put(to + 28, 0, 4);
        to += BATCH_BYTES;
        for (size_t i = 0; i < batch_ref_words(ref->rows); i++, to += BATCH_WORD_BYTES)
            bytes_put(to, ref->gone[i], BATCH_WORD_BYTES);
    }
}

/* A chain of blocks has neither attachments nor batches. */
void manifest_sections_write(const struct session *session, uint8_t *to) {
    if (session->lost_tokens > 0) {
        to = write_head(to, SECTION_LOST, LOST_BYTES);
        bytes_put(to, session->lost_tokens, LOST_BYTES);
        to += LOST_BYTES;
    }
    if (session_is_chain(session)) {
        write_blocks(session, to);
        return;
    }
    if (attachment_set_count(session->attachments) > 0)
        to = write_attachments(session->attachments, to);
    if (session->batches)
        write_batches(session, to);
}

/* --- reading: false if that cannot be --- */

static bool read_lost(struct manifest *manifest, const uint8_t *from, size_t bytes) {
    if (bytes < LOST_BYTES)
        return false;
    manifest->lost_tokens = bytes_get(from, LOST_BYTES);
    return true;
}

bool manifest_next_block(const struct manifest *manifest, size_t *at, struct block_entry *block) {
    if (*at >= manifest->blocks_bytes)
        return false;
    const uint8_t *from = manifest->blocks + *at;
    *block = (struct block_entry){.first = bytes_get(from, 8),
                                  .tokens = (uint32_t)bytes_get(from + 8, 4),
                                  .key = (const char *)from + BLOCK_BYTES,
                                  .key_bytes = from[12]};
    *at += BLOCK_BYTES + block->key_bytes;
    return true;
}

/* Whether each is whole, and begins where the one before ends or behind that. */
static bool are_blocks(const struct manifest *manifest) {
    struct block_entry block;
    uint64_t end = 0;
    size_t at = 0;
    while (manifest->blocks_bytes - at >= BLOCK_BYTES &&
           manifest_next_block(manifest, &at, &block)) {
        if (at > manifest->blocks_bytes || block.key_bytes == 0 ||
            block.key_bytes > BLOCK_KEY_BYTES_MAX || block.tokens == 0 || block.first < end ||
            block.first > manifest->tokens || block.tokens > manifest->tokens - block.first)
            return false;
        end = block.first + block.tokens;
    }
    return at == manifest->blocks_bytes;
}

static bool read_blocks(struct manifest *manifest, const uint8_t *from, size_t bytes) {
    if (bytes < POSITION_BYTES)
        return false;
    manifest->first_position = bytes_get(from, POSITION_BYTES);
    manifest->blocks = from + POSITION_BYTES;
    manifest->blocks_bytes = bytes - POSITION_BYTES;
    return are_blocks(manifest);
}

bool manifest_next_attachment(const struct manifest *manifest, size_t *at,
                              struct attachment_spec *attachment) {
    if (*at >= manifest->attachments_bytes)
        return false;
    const uint8_t *from = manifest->attachments + *at;
    *attachment = (struct attachment_spec){.id = bytes_get(from, 8),
                                           .bytes = bytes_get(from + 8, 8),
                                           .record_bytes = bytes_get(from + 16, 8),
                                           .tokens = bytes_get(from + 24, 8),
                                           .name = (const char *)from + ATTACHMENT_BYTES,
                                           .name_bytes = from[32]};
    *at += ATTACHMENT_BYTES + attachment->name_bytes;
    return true;
}

/* Whether each is whole, and there are no more than may be. */
static bool are_attachments(const struct manifest *manifest) {
    struct attachment_spec spec;
    size_t at = 0, count = 0;
    while (manifest->attachments_bytes - at >= ATTACHMENT_BYTES &&
           manifest_next_attachment(manifest, &at, &spec))
        if (at > manifest->attachments_bytes || spec.name_bytes == 0 ||
            spec.bytes > ATTACHMENT_BYTES_MAX || spec.record_bytes == 0 ||
            spec.record_bytes > UINT32_MAX || ++count > ATTACHMENTS_MAX)
            return false;
    return at == manifest->attachments_bytes;
}

static bool read_attachments(struct manifest *manifest, const uint8_t *from, size_t bytes) {
    manifest->attachments = from;
    manifest->attachments_bytes = bytes;
    return are_attachments(manifest);
}

bool manifest_next_batch(const struct manifest *manifest, size_t *at,
                         struct manifest_batch *batch) {
    if (*at >= manifest->batches_bytes)
        return false;
    const uint8_t *from = manifest->batches + *at;
    *batch = (struct manifest_batch){.spec = {.id = bytes_get(from, 8),
                                              .bytes = bytes_get(from + 8, 8),
                                              .record_bytes = bytes_get(from + 16, 8),
                                              .is_batch = true},
                                     .rows = (uint32_t)bytes_get(from + 24, 4),
                                     .gone = from + BATCH_BYTES};
    *at += BATCH_BYTES + batch_ref_words(batch->rows) * BATCH_WORD_BYTES;
    return true;
}

static bool are_batches(const struct manifest *manifest) {
    struct manifest_batch batch;
    size_t at = 0;
    while (manifest->batches_bytes - at >= BATCH_BYTES &&
           manifest_next_batch(manifest, &at, &batch))
        if (at > manifest->batches_bytes || batch.rows == 0 ||
            batch.spec.bytes > ATTACHMENT_BYTES_MAX || batch.spec.record_bytes == 0 ||
            batch.spec.record_bytes > UINT32_MAX)
            return false;
    return at == manifest->batches_bytes;
}

static bool read_batches(struct manifest *manifest, const uint8_t *from, size_t bytes) {
    manifest->batches = from;
    manifest->batches_bytes = bytes;
    return are_batches(manifest);
}

static bool read_section(struct manifest *manifest, uint64_t kind, const uint8_t *from,
                         size_t bytes) {
    switch (kind) {
    case SECTION_LOST:
        return read_lost(manifest, from, bytes);
    case SECTION_BLOCKS:
        return read_blocks(manifest, from, bytes);
    case SECTION_ATTACHMENTS:
        return read_attachments(manifest, from, bytes);
    case SECTION_BATCHES:
        return read_batches(manifest, from, bytes);
    default:
        return true;
    }
}

bool manifest_sections_read(struct manifest *manifest, const uint8_t *from, const uint8_t *end) {
    while (end - from >= HEAD_BYTES) {
        uint64_t kind = bytes_get(from, 4);
        size_t bytes = bytes_get(from + 4, 4);
        from += HEAD_BYTES;
        if (bytes > (size_t)(end - from) || !read_section(manifest, kind, from, bytes))
            return false;
        from += bytes;
    }
    return from == end;
}
