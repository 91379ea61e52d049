#include "daemon/store/disk/head.h"

#include <string.h>

#include "daemon/base/bytes.h"

enum { FLAG_DELETED = 1 };

#define DATA_BYTES_MAX (UINT64_C(1) << 48)

static const char magic[4] = "KVQR";

static size_t names_bytes(const struct disk_metadata *metadata) {
    return metadata->tenant_bytes + metadata->model_bytes + metadata->session_bytes;
}

void head_lay_out(struct head *head) {
    size_t names_end = HEAD_FIXED_BYTES + names_bytes(&head->metadata);
    head->history_offset = (names_end + 7) / 8 * 8;
    head->parts_offset = head->history_offset + head->history_count * (size_t)HEAD_ENTRY_BYTES;
    head->head_bytes = head->parts_offset + head->part_count * (size_t)HEAD_ENTRY_BYTES;
}

uint64_t head_record_bytes(const struct head *head) {
    return block_round(head->head_bytes + head->data_bytes);
}

void head_write(const struct head *head, uint8_t *memory) {
    const struct disk_metadata *metadata = &head->metadata;
    memset(memory, 0, head->head_bytes);
    memcpy(memory + 16, magic, sizeof magic);
    bytes_put(memory + 20, head->head_bytes, 4);
    bytes_put(memory + 24, head->sequence, 8);
    bytes_put(memory + 32, head->key.id, 8);
    memory[40] = head->key.kind;
    memory[41] = head->deleted ? FLAG_DELETED : 0;
    memory[42] = (uint8_t)metadata->level;
    bytes_put(memory + 44, head->part_count, 4);
    bytes_put(memory + 48, head->data_bytes, 8);
    bytes_put(memory + 56, metadata->first_token, 8);
    bytes_put(memory + 64, metadata->tokens, 8);
    bytes_put(memory + 72, metadata->version, 8);
    bytes_put(memory + 80, metadata->tenant_bytes, 2);
    bytes_put(memory + 82, metadata->model_bytes, 2);
    bytes_put(memory + 84, metadata->session_bytes, 2);
    bytes_put(memory + 86, head->history_count, 2);
    uint8_t *names = memory + HEAD_FIXED_BYTES;
    if (metadata->tenant_bytes)
        memcpy(names, metadata->tenant, metadata->tenant_bytes);
    names += metadata->tenant_bytes;
    if (metadata->model_bytes)
        memcpy(names, metadata->model, metadata->model_bytes);
    names += metadata->model_bytes;
    if (metadata->session_bytes)
        memcpy(names, metadata->session, metadata->session_bytes);
}

static void read_metadata(const uint8_t *memory, struct disk_metadata *metadata) {
    const char *names = (const char *)memory + HEAD_FIXED_BYTES;
    *metadata = (struct disk_metadata){
        .tenant = names,
        .tenant_bytes = bytes_get(memory + 80, 2),
        .model_bytes = bytes_get(memory + 82, 2),
        .session_bytes = bytes_get(memory + 84, 2),
        .first_token = bytes_get(memory + 56, 8),
        .tokens = bytes_get(memory + 64, 8),
        .version = bytes_get(memory + 72, 8),
        .level = (int8_t)memory[42],
    };
    metadata->model = names + metadata->tenant_bytes;
    metadata->session = metadata->model + metadata->model_bytes;
}

static bool within_limits(const struct head *head) {
    return head->data_bytes <= DATA_BYTES_MAX && head->part_count <= DISK_PARTS_MAX &&
           head->history_count <= HEAD_HISTORY_MAX &&
           head->metadata.tenant_bytes <= DISK_NAME_BYTES_MAX &&
           head->metadata.model_bytes <= DISK_NAME_BYTES_MAX &&
           head->metadata.session_bytes <= DISK_NAME_BYTES_MAX;
}

/* The parts' bytes add up to the data's. */
static bool adds_up(const struct head *head, const uint8_t *memory) {
    uint64_t left = head->data_bytes;
    for (uint32_t i = 0; i < head->part_count; i++) {
        uint64_t bytes = head_part_bytes(head, memory, i);
        if (bytes > left)
            return false;
        left -= bytes;
    }
    return left == 0;
}

int head_read(const uint8_t *memory, size_t count, struct head *head) {
    if (count < HEAD_FIXED_BYTES || memcmp(memory + 16, magic, sizeof magic) != 0)
        return -1;
    *head = (struct head){
        .key = {.id = bytes_get(memory + 32, 8), .kind = memory[40]},
        .deleted = memory[41] & FLAG_DELETED,
        .sequence = bytes_get(memory + 24, 8),
        .part_count = (uint32_t)bytes_get(memory + 44, 4),
        .history_count = (uint32_t)bytes_get(memory + 86, 2),
        .data_bytes = bytes_get(memory + 48, 8),
    };
    read_metadata(memory, &head->metadata);
    if (!within_limits(head))
        return -1;
    head_lay_out(head);
    if (head->head_bytes != bytes_get(memory + 20, 4))
        return -1;
    return head->head_bytes > count || adds_up(head, memory) ? 0 : -1;
}

uint64_t head_part_bytes(const struct head *head, const uint8_t *memory, uint32_t part) {
    return bytes_get(memory + head->parts_offset + part * (size_t)HEAD_ENTRY_BYTES, 8);
}

uint8_t *head_part_tag(const struct head *head, uint8_t *memory, uint32_t part) {
    return memory + head->parts_offset + part * (size_t)HEAD_ENTRY_BYTES + 8;
}

void head_write_part_bytes(const struct head *head, uint8_t *memory, uint32_t part,
                           uint64_t bytes) {
    bytes_put(memory + head->parts_offset + part * (size_t)HEAD_ENTRY_BYTES, bytes, 8);
}

void earlier_write(const struct earlier *earlier, uint8_t *memory) {
    bytes_put(memory, earlier->key.id, 8);
    bytes_put(memory + 8, earlier->sequence, 8);
    bytes_put(memory + 16, earlier->offset / BLOCK_BYTES, 4);
    bytes_put(memory + 20, earlier->key.kind, 4);
}

void earlier_read(struct earlier *earlier, const uint8_t *memory) {
    *earlier = (struct earlier){
        .key = {.id = bytes_get(memory, 8), .kind = memory[20]},
        .sequence = bytes_get(memory + 8, 8),
        .offset = bytes_get(memory + 16, 4) * BLOCK_BYTES,
    };
}
