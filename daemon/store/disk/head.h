/* A record's head: what stands before its parts, in a segment's file. DISK.md has it to the byte.
 */
#ifndef DAEMON_STORE_DISK_HEAD_H
#define DAEMON_STORE_DISK_HEAD_H

#include "daemon/store/disk/disk.h"
#include "daemon/store/disk/guard.h"

enum {
    BLOCK_BYTES = 4096, /* records begin at multiples of it */
    HEAD_HISTORY_MAX = 16,
    HEAD_ENTRY_BYTES = 24, /* of a part, and of an earlier record */
    HEAD_SIGNED_OFFSET = GUARD_TAG_BYTES,
    HEAD_FIXED_BYTES = 88,
    HEAD_BYTES_MAX = HEAD_FIXED_BYTES + 3 * DISK_NAME_BYTES_MAX + 7 +
                     (HEAD_HISTORY_MAX + DISK_PARTS_MAX) * HEAD_ENTRY_BYTES,
};

/* A record that stands earlier in the segment, in case it cannot be read itself. */
struct earlier {
    struct disk_key key;
    uint64_t sequence, offset;
};

struct head {
    struct disk_key key;
    bool deleted;
    uint64_t sequence; /* the newest of a key counts */
    struct disk_metadata metadata;
    uint32_t part_count, history_count;
    uint64_t data_bytes; /* of all parts */
    size_t head_bytes;
    size_t parts_offset, history_offset; /* of their entries in the head */
};

/* Fills in head_bytes and the offsets. */
void head_lay_out(struct head *head);

/* All but parts, history and tag; memory is of head_bytes. */
void head_write(const struct head *head, uint8_t *memory);

/* 0, or -1 for what cannot be a head; the names are the memory's. `count` bytes of it are there: of
 * a head that is longer only head_bytes is told. */
int head_read(const uint8_t *memory, size_t count, struct head *head)
    __attribute__((warn_unused_result));

uint64_t head_part_bytes(const struct head *head, const uint8_t *memory, uint32_t part);
uint8_t *head_part_tag(const struct head *head, uint8_t *memory, uint32_t part);
void head_write_part_bytes(const struct head *head, uint8_t *memory, uint32_t part, uint64_t bytes);

void earlier_write(const struct earlier *earlier, uint8_t *memory);
void earlier_read(struct earlier *earlier, const uint8_t *memory);

/* Head and parts, up to where the next record may begin. */
uint64_t head_record_bytes(const struct head *head);

static inline uint64_t block_round(uint64_t bytes) {
    return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

#endif
