/* A segment: one append-only file of records, and the walk through it.
 *
 * Its first two blocks are a header, written once, and a mark, written after each fdatasync: up to
 * where that reached, whether the segment is closed, and what its last records were. Records
 * follow.
 */
#ifndef DAEMON_STORE_DISK_SEGMENT_H
#define DAEMON_STORE_DISK_SEGMENT_H

#include <stdatomic.h>

#include "daemon/store/disk/head.h"
#include "daemon/store/disk/io.h"

enum {
    SEGMENT_BEGIN = 2 * BLOCK_BYTES, /* of records */
    SEGMENT_NAME_BYTES = 32,
    HISTORY_MAX = 168, /* in a mark */
};

/* A segment's last records, oldest overwritten first. */
struct history {
    struct earlier earlier[HISTORY_MAX];
    uint64_t count; /* that were added */
};

void history_add(struct history *history, const struct earlier *earlier);
/* How many there are, at most `max`; and the one so many before the newest. */
uint32_t history_length(const struct history *history, uint32_t max);
const struct earlier *history_back(const struct history *history, uint32_t back);

struct segment {
    struct segment *next; /* the disk's, by rising number */
    _Atomic unsigned references;
    const struct disk_io *io;
    int folder, file;
    uint64_t number;
    struct guard guard;
    bool readable;        /* its header was */
    uint64_t end_bytes;   /* of the file, rounded up to blocks; of the disk's lock */
    uint64_t live_bytes;  /* of its records that count; of the disk's lock */
    bool worth_rewriting; /* small or damaged, from an earlier run */
    bool unsafe;          /* fdatasync failed */
    bool stuck;           /* it could not be read or noted: it stays as it is, for another run */
    _Atomic bool retired; /* it is being unlinked by the disk itself */
    _Atomic bool removed; /* by somebody else, which was logged */
};

/* What is encrypted by a key, where there is one, and whose guarder this is. */
struct segment_place {
    const struct disk_io *io;
    int folder;
    const uint8_t *key;
    struct guarder *guarder;
};

void segment_name(uint64_t number, char name[SEGMENT_NAME_BYTES]);
/* The number of a segment by that name; 0 for other files. */
uint64_t segment_number(const char *name);

/* A new file, durably in its folder; with one reference. NULL with errno. */
struct segment *segment_create(const struct segment_place *place, uint64_t number);

/* Whether somebody else has unlinked the file: what is in it would not outlast the daemon. Logged
 * once. */
bool segment_is_removed(struct segment *segment);

enum segment_fault {
    SEGMENT_FINE,
    SEGMENT_DAMAGED,
    SEGMENT_WRONG_KEY,
    SEGMENT_PLAIN,
    SEGMENT_ENCRYPTED,
    SEGMENT_NEWER
};

/* One that exists. Of a damaged one nothing can be read. NULL with errno where the system refuses.
 */
struct segment *segment_open(const struct segment_place *place, uint64_t number,
                             enum segment_fault *fault);

void segment_ref(struct segment *segment);
void segment_unref(struct segment *segment);

struct mark {
    uint64_t synced_bytes;
    bool known;  /* it could be read */
    bool failed; /* the device did */
    bool closed;
    struct history history;
};

/* 0, or -1 with errno. */
int segment_write_mark(struct segment *segment, const struct mark *mark)
    __attribute__((warn_unused_result));
/* A mark that cannot be read is as none at all: nothing is known to be synced. */
void segment_read_mark(const struct segment *segment, struct mark *mark);

/* Reads and checks the head at that offset into `memory`, of HEAD_BYTES_MAX. 0, or -1 with errno,
 * which is 0 if there is none. */
int segment_read_head(const struct segment *segment, struct guarder *guarder, uint64_t offset,
                      uint8_t *memory, struct head *head) __attribute__((warn_unused_result));

/* The same of a head that was read with all its bytes. 0, or -1 if it is none. */
int segment_check_head(const struct segment *segment, struct guarder *guarder, uint64_t offset,
                       uint8_t *memory, size_t bytes, struct head *head)
    __attribute__((warn_unused_result));

/* 0, or -1 with errno, ENODATA behind the file's end. */
int segment_read(const struct segment *segment, uint64_t offset, void *memory, size_t bytes)
    __attribute__((warn_unused_result));

/* Checks a part that was read, and decrypts it in place. 0, or -1. */
int segment_check_part(const struct segment *segment, struct guarder *guarder, uint8_t *head_memory,
                       const struct head *head, uint32_t part, uint64_t offset, uint8_t *memory)
    __attribute__((warn_unused_result));

/* Both. 0, or -1 with errno, which is 0 for damage. */
int segment_read_part(const struct segment *segment, struct guarder *guarder, uint8_t *head_memory,
                      const struct head *head, uint32_t part, uint64_t offset, uint8_t *memory)
    __attribute__((warn_unused_result));

/* Whether errno tells, after one of these failed, of the device and not of damage. */
bool segment_could_not_read(void);

struct walk {
    const struct segment *segment;
    struct guarder *guarder;
    uint8_t *memory;       /* of HEAD_BYTES_MAX */
    uint64_t offset, next; /* of the record, and where to look on */
    uint64_t end;          /* up to here records are expected */
    uint64_t damage_begin; /* of a damaged stretch up to `offset` */
    struct head head;
    bool found;  /* there is a record behind the damage: the next step */
    bool failed; /* there was an error of the device: what is taken for damage may be none */
};

/* Through all records that are in the file. */
struct walk walk_begin(const struct segment *segment, struct guarder *guarder, uint8_t *memory);

enum walk_step { WALK_END, WALK_RECORD, WALK_DAMAGE };
enum walk_step walk_next(struct walk *walk);

/* After a damaged stretch: what is known of the records that stood there, from the next one's head
 * or the mark. `all` is false if there were more. */
uint32_t walk_damaged(const struct walk *walk, const struct mark *mark,
                      struct earlier known[HISTORY_MAX], bool *all);

#endif
