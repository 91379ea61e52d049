#include "daemon/store/disk/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/bytes.h"
#include "daemon/base/log.h"

enum {
    FORMAT = 1,
    FLAG_ENCRYPTED = 1,
    SALT_OFFSET = 24,
    TAG_OFFSET = 56, /* of what stands before it */
    SUM_OFFSET = 72,
    MARK_SUM_OFFSET = 8,
    MARK_BODY_OFFSET = 24,
    MARK_FIXED_BYTES = 40,
    FLAG_CLOSED = 1,
};

_Static_assert(MARK_FIXED_BYTES + HISTORY_MAX * HEAD_ENTRY_BYTES <= BLOCK_BYTES, "a mark fits");

#define HEADER_NONCE UINT64_MAX /* no record begins there */

static const char magic[8] = "KVQDISK", mark_magic[8] = "KVQMARK";

void history_add(struct history *history, const struct earlier *earlier) {
    history->earlier[history->count++ % HISTORY_MAX] = *earlier;
}

uint32_t history_length(const struct history *history, uint32_t max) {
    return history->count < max ? (uint32_t)history->count : max;
}

const struct earlier *history_back(const struct history *history, uint32_t back) {
    return &history->earlier[(history->count - 1 - back) % HISTORY_MAX];
}

void segment_name(uint64_t number, char name[SEGMENT_NAME_BYTES]) {
    snprintf(name, SEGMENT_NAME_BYTES, "%016" PRIx64 ".segment", number);
}

uint64_t segment_number(const char *name) {
    char expected[SEGMENT_NAME_BYTES];
    uint64_t number = strtoull(name, NULL, 16);
    segment_name(number, expected);
    return strcmp(name, expected) == 0 ? number : 0;
}

static struct segment *new_segment(const struct segment_place *place, uint64_t number, int file) {
    struct segment *segment = calloc(1, sizeof *segment);
    if (!segment)
        return NULL;
    segment->references = 1;
    segment->io = place->io;
    segment->folder = place->folder;
    segment->file = file;
    segment->number = number;
    segment->end_bytes = SEGMENT_BEGIN;
    return segment;
}

void segment_ref(struct segment *segment) {
    atomic_fetch_add(&segment->references, 1);
}

void segment_unref(struct segment *segment) {
    if (atomic_fetch_sub(&segment->references, 1) > 1)
        return;
    close(segment->file);
    explicit_bzero(&segment->guard, sizeof segment->guard);
    free(segment);
}

bool segment_is_removed(struct segment *segment) {
    struct stat status;
    bool removed = fstat(segment->file, &status) == 0 && status.st_nlink == 0 && !segment->retired;
    if (removed && !atomic_exchange(&segment->removed, true))
        log_error("the disk: segment %llu was removed by somebody else",
                  (unsigned long long)segment->number);
    return removed;
}

static int write_header(struct segment *segment, const struct segment_place *place) {
    uint8_t header[BLOCK_BYTES] = {0};
    if (getrandom(header + SALT_OFFSET, GUARD_SALT_BYTES, 0) != GUARD_SALT_BYTES)
        return -1;
    if (guard_init(&segment->guard, place->key, header + SALT_OFFSET) < 0) {
        errno = ENOMEM;
        return -1;
    }
    memcpy(header, magic, sizeof magic);
    bytes_put(header + 8, FORMAT, 4);
    bytes_put(header + 12, place->key ? FLAG_ENCRYPTED : 0, 4);
    bytes_put(header + 16, segment->number, 8);
    if (guard_sign(place->guarder, &segment->guard, HEADER_NONCE, header, TAG_OFFSET,
                   header + TAG_OFFSET) < 0) {
        errno = ENOMEM;
        return -1;
    }
    guard_checksum(header, SUM_OFFSET, 0, header + SUM_OFFSET);
    struct iovec part = {header, sizeof header};
    return disk_io_write(segment->io, segment->file, &part, 1, 0);
}

static int write_new(struct segment *segment, const struct segment_place *place) {
    struct mark mark = {.synced_bytes = SEGMENT_BEGIN};
    segment->readable = true;
    return write_header(segment, place) < 0 || segment_write_mark(segment, &mark) < 0 ||
                   segment->io->datasync(segment->file) < 0
               ? -1
               : 0;
}

/* Under a name of its own until it is whole: a segment always has a header. */
static const char new_name[] = "new";

struct segment *segment_create(const struct segment_place *place, uint64_t number) {
    char name[SEGMENT_NAME_BYTES];
    segment_name(number, name);
    int file =
        place->io->open(place->folder, new_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0)
        return NULL;
    struct segment *segment = new_segment(place, number, file);
    if (!segment) {
        close(file);
        return NULL;
    }
    if (write_new(segment, place) < 0 || place->io->rename(place->folder, new_name, name) < 0) {
        segment_unref(segment);
        place->io->unlink(place->folder, new_name);
        return NULL;
    }
    if (place->io->sync(place->folder) < 0) {
        segment_unref(segment);
        place->io->unlink(place->folder, name);
        return NULL;
    }
    return segment;
}

static enum segment_fault check_header(struct segment *segment, const struct segment_place *place,
                                       const uint8_t *header) {
    uint8_t sum[GUARD_TAG_BYTES];
    guard_checksum(header, SUM_OFFSET, 0, sum);
    if (memcmp(header, magic, sizeof magic) != 0 ||
        memcmp(header + SUM_OFFSET, sum, sizeof sum) != 0)
        return SEGMENT_DAMAGED;
    if (bytes_get(header + 8, 4) != FORMAT)
        return SEGMENT_NEWER;
    if (bytes_get(header + 16, 8) != segment->number)
        return SEGMENT_DAMAGED;
    bool encrypted = header[12] & FLAG_ENCRYPTED;
    if (encrypted != (place->key != NULL))
        return encrypted ? SEGMENT_ENCRYPTED : SEGMENT_PLAIN;
    if (guard_init(&segment->guard, place->key, header + SALT_OFFSET) < 0 ||
        guard_verify(place->guarder, &segment->guard, HEADER_NONCE, header, TAG_OFFSET,
                     header + TAG_OFFSET) < 0)
        return encrypted ? SEGMENT_WRONG_KEY : SEGMENT_DAMAGED;
    return SEGMENT_FINE;
}

struct segment *segment_open(const struct segment_place *place, uint64_t number,
                             enum segment_fault *fault) {
    char name[SEGMENT_NAME_BYTES];
    uint8_t header[BLOCK_BYTES] = {0};
    struct iovec part = {header, sizeof header};
    struct stat status;
    segment_name(number, name);
    int file = place->io->open(place->folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
    if (file < 0)
        return NULL;
    struct segment *segment = new_segment(place, number, file);
    if (!segment || fstat(file, &status) < 0) {
        close(file);
        free(segment);
        return NULL;
    }
    segment->end_bytes = block_round((uint64_t)status.st_size);
    errno = 0;
    bool is_read =
        status.st_size >= SEGMENT_BEGIN && disk_io_read(place->io, file, &part, 1, 0) == 0;
    segment->stuck = !is_read && segment_could_not_read();
    *fault = is_read ? check_header(segment, place, header) : SEGMENT_DAMAGED;
    segment->readable = *fault == SEGMENT_FINE;
    return segment;
}

int segment_write_mark(struct segment *segment, const struct mark *mark) {
    uint8_t block[BLOCK_BYTES] = {0};
    uint32_t count = history_length(&mark->history, HISTORY_MAX);
    memcpy(block, mark_magic, sizeof mark_magic);
    bytes_put(block + 24, mark->synced_bytes, 8);
    bytes_put(block + 32, mark->closed ? FLAG_CLOSED : 0, 4);
    bytes_put(block + 36, count, 4);
    for (uint32_t i = 0; i < count; i++)
        earlier_write(history_back(&mark->history, i),
                      block + MARK_FIXED_BYTES + i * (size_t)HEAD_ENTRY_BYTES);
    guard_checksum(block + MARK_BODY_OFFSET, BLOCK_BYTES - MARK_BODY_OFFSET, segment->guard.seed,
                   block + MARK_SUM_OFFSET);
    struct iovec part = {block, sizeof block};
    return disk_io_write(segment->io, segment->file, &part, 1, BLOCK_BYTES);
}

static bool mark_is_whole(const struct segment *segment, const uint8_t *block) {
    uint8_t sum[GUARD_TAG_BYTES];
    guard_checksum(block + MARK_BODY_OFFSET, BLOCK_BYTES - MARK_BODY_OFFSET, segment->guard.seed,
                   sum);
    return memcmp(block, mark_magic, sizeof mark_magic) == 0 &&
           memcmp(block + MARK_SUM_OFFSET, sum, sizeof sum) == 0 &&
           bytes_get(block + 36, 4) <= HISTORY_MAX;
}

void segment_read_mark(const struct segment *segment, struct mark *mark) {
    uint8_t block[BLOCK_BYTES];
    struct iovec part = {block, sizeof block};
    *mark = (struct mark){.synced_bytes = SEGMENT_BEGIN};
    if (disk_io_read(segment->io, segment->file, &part, 1, BLOCK_BYTES) < 0) {
        mark->failed = segment_could_not_read();
        return;
    }
    if (!mark_is_whole(segment, block))
        return;
    mark->known = true;
    mark->synced_bytes = bytes_get(block + 24, 8);
    mark->closed = block[32] & FLAG_CLOSED;
    for (uint32_t i = (uint32_t)bytes_get(block + 36, 4); i-- > 0;) {
        struct earlier earlier;
        earlier_read(&earlier, block + MARK_FIXED_BYTES + i * (size_t)HEAD_ENTRY_BYTES);
        history_add(&mark->history, &earlier);
    }
}

int segment_read(const struct segment *segment, uint64_t offset, void *memory, size_t bytes) {
    struct iovec part = {memory, bytes};
    return disk_io_read(segment->io, segment->file, &part, 1, offset);
}

/* A block at first, which is all of most heads. */
static int read_head_bytes(const struct segment *segment, uint64_t offset, uint8_t *memory,
                           struct head *head) {
    size_t count = BLOCK_BYTES;
    if (segment_read(segment, offset, memory, count) < 0) {
        if (errno != ENODATA)
            return -1;
        errno = 0;
        count = HEAD_FIXED_BYTES; /* the file's last record may be shorter than a block */
        if (segment_read(segment, offset, memory, count) < 0)
            return -1;
    }
    if (head_read(memory, count, head) < 0 || head->head_bytes > HEAD_BYTES_MAX)
        return -1;
    if (head->head_bytes <= count)
        return 0;
    if (segment_read(segment, offset + count, memory + count, head->head_bytes - count) < 0)
        return -1;
    return head_read(memory, head->head_bytes, head);
}

static int verify_head(const struct segment *segment, struct guarder *guarder, uint64_t offset,
                       uint8_t *memory, const struct head *head) {
    return guard_verify(guarder, &segment->guard, offset, memory + HEAD_SIGNED_OFFSET,
                        head->head_bytes - HEAD_SIGNED_OFFSET, memory);
}

int segment_read_head(const struct segment *segment, struct guarder *guarder, uint64_t offset,
                      uint8_t *memory, struct head *head) {
    errno = 0;
    if (read_head_bytes(segment, offset, memory, head) < 0)
        return -1;
    return verify_head(segment, guarder, offset, memory, head);
}

int segment_check_head(const struct segment *segment, struct guarder *guarder, uint64_t offset,
                       uint8_t *memory, size_t bytes, struct head *head) {
    return head_read(memory, bytes, head) < 0 || head->head_bytes > bytes
               ? -1
               : verify_head(segment, guarder, offset, memory, head);
}

bool segment_could_not_read(void) {
    return errno && errno != ENODATA;
}

int segment_check_part(const struct segment *segment, struct guarder *guarder, uint8_t *head_memory,
                       const struct head *head, uint32_t part, uint64_t offset, uint8_t *memory) {
    struct guarded what = {
        .offset = offset,
        .beside = head_memory + HEAD_SIGNED_OFFSET,
        .beside_bytes = head->history_offset - HEAD_SIGNED_OFFSET,
        .bytes = head_part_bytes(head, head_memory, part),
    };
    return what.bytes == 0 ? 0
                           : guard_open(guarder, &segment->guard, &what, memory,
                                        head_part_tag(head, head_memory, part));
}

int segment_read_part(const struct segment *segment, struct guarder *guarder, uint8_t *head_memory,
                      const struct head *head, uint32_t part, uint64_t offset, uint8_t *memory) {
    if (segment_read(segment, offset, memory, head_part_bytes(head, head_memory, part)) < 0)
        return -1;
    errno = 0;
    return segment_check_part(segment, guarder, head_memory, head, part, offset, memory);
}

struct walk walk_begin(const struct segment *segment, struct guarder *guarder, uint8_t *memory) {
    return (struct walk){
        .segment = segment,
        .guarder = guarder,
        .memory = memory,
        .next = SEGMENT_BEGIN,
        .end = segment->end_bytes,
    };
}

/* The next head from `offset` on. */
static bool find_head(struct walk *walk) {
    for (; walk->offset < walk->segment->end_bytes; walk->offset += BLOCK_BYTES) {
        if (segment_read_head(walk->segment, walk->guarder, walk->offset, walk->memory,
                              &walk->head) == 0)
            return true;
        walk->failed |= segment_could_not_read();
    }
    walk->offset = walk->end > walk->offset ? walk->end : walk->offset;
    return false;
}

enum walk_step walk_next(struct walk *walk) {
    if (walk->found) { /* behind the damage */
        walk->found = false;
        return WALK_RECORD;
    }
    uint64_t begin = walk->next;
    walk->offset = begin;
    bool found = find_head(walk);
    walk->next = walk->offset + (found ? head_record_bytes(&walk->head) : 0);
    if (walk->offset == begin)
        return found ? WALK_RECORD : WALK_END;
    walk->damage_begin = begin;
    walk->found = found;
    return WALK_DAMAGE;
}

uint32_t walk_damaged(const struct walk *walk, const struct mark *mark,
                      struct earlier known[HISTORY_MAX], bool *all) {
    uint32_t count = 0, listed = walk->found ? walk->head.history_count
                                             : history_length(&mark->history, HISTORY_MAX);
    const uint8_t *history = walk->memory + walk->head.history_offset;
    *all = false;
    for (uint32_t i = 0; i < listed; i++) {
        struct earlier earlier;
        if (walk->found)
            earlier_read(&earlier, history + i * (size_t)HEAD_ENTRY_BYTES);
        else
            earlier = *history_back(&mark->history, i);
        if (earlier.offset < walk->damage_begin || earlier.offset >= walk->offset)
            continue;
        known[count++] = earlier;
        *all |= earlier.offset == walk->damage_begin;
    }
    return count;
}
