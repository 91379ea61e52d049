/* The disk: a log-structured store of values by key, in a directory of append-only segment files.
 *
 * It knows nothing of sessions: a value is some metadata and up to DISK_PARTS_MAX parts of bytes,
 * each checked, and with a key encrypted, alone. The newest value of a key is the one that counts,
 * a delete is a record too, and space is reclaimed by copying what still counts; DISK.md has the
 * format. What touches the files is done by the disk's own threads, one for writes and some for
 * reads: a job is submitted, belongs to the disk until its `done` is called, and then to the caller
 * again. Safe from any thread.
 *
 * Writes, deletes and syncs are done in the order in which they were submitted, several at a time
 * with one fdatasync. A read sees every write that was done before it was submitted, and waits for
 * none. After kill -9 everything that was done is there; after a loss of power what was done as
 * durable.
 */
#ifndef DAEMON_STORE_DISK_DISK_H
#define DAEMON_STORE_DISK_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/budget.h"

struct disk;
struct disk_io;

enum {
    DISK_KEY_BYTES = 32,
    DISK_PARTS_MAX = 8448,
    DISK_NAME_BYTES_MAX = 1023, /* of a tenant, model or session */
};

/* An id belongs to one value for good where values do not change (chunks). Kinds are the caller's;
 * 0 is not one. */
struct disk_key {
    uint64_t id;
    uint8_t kind;
};

/* What a value is of, kept with it and checked with it. On disk these are in the clear, so that a
 * damaged or foreign file can be told; the names are not terminated. */
struct disk_metadata {
    const char *tenant, *model, *session;
    size_t tenant_bytes, model_bytes, session_bytes;
    uint64_t first_token, tokens, version;
    int level;
};

struct disk_part {
    const void *memory;
    size_t bytes;
};

enum disk_operation {
    DISK_WRITE,  /* a new value of the key */
    DISK_DELETE, /* none; of a key without one that is no error */
    DISK_SYNC,   /* everything submitted before becomes durable */
    DISK_READ,   /* some or all parts of the value, into the caller's memory */
};

enum disk_status {
    DISK_OK,
    DISK_MISS,     /* read: the key has no value, or somebody has removed the file that had it */
    DISK_DAMAGED,  /* read: it has one, but what was to be read is not what was written */
    DISK_FULL,     /* write, delete: the limit, or the file system's; nothing was written */
    DISK_FAILED,   /* an I/O error, logged; a write counts as not done */
    DISK_NO_MEMORY /* write, delete: the memory limit, for the directory of what lies where */
};

struct disk_job {
    enum disk_operation operation;
    struct disk_key key;
    bool durable; /* write, delete: done only after fdatasync */
    /* Write: both are read until done. */
    struct disk_metadata metadata;
    const struct disk_part *parts;
    uint32_t part_count;
    /* Read: parts first_part.. of the value, at most read_parts of them, one behind the other into
     * `memory`. A value that does not fit is DISK_DAMAGED: disk_find() says what it takes. */
    uint32_t first_part, read_parts;
    uint8_t *memory;
    size_t capacity;
    size_t bytes; /* that were read */
    /* Read: NULL, or 3 * DISK_NAME_BYTES_MAX bytes for the names; then metadata is filled in. */
    char *names;

    void (*done)(struct disk_job *job); /* from a thread of the disk that holds no lock */
    void *context;
    enum disk_status status;
    struct disk_job *next; /* the disk's */
};

/* A value found when the directory was read. */
struct disk_found {
    struct disk_key key;
    const struct disk_metadata *metadata; /* for the call */
    uint64_t bytes;                       /* of its parts */
    /* Damage has taken records of which it is not known whose they were, and a newer value or the
     * delete of this key may have been among them: what can change is not to be believed. */
    bool doubtful;
};

struct disk_options {
    const char *directory;
    uint64_t limit_bytes; /* of all files, at every instant; a segment of it is for reclaiming */
    /* Of a file, or 0: 64 MiB, or less with a small limit, or more with a large one, so that there
     * are 256 files at most, about: each stays open. */
    uint64_t segment_bytes;
    uint64_t queue_bytes;     /* of writes that wait, or 0: 64 MiB */
    const uint8_t *key;       /* NULL, or DISK_KEY_BYTES: then all is encrypted and authenticated */
    struct budget *budget;    /* for the disk's own memory, or NULL */
    int readers;              /* threads that read, or 0: 2 */
    const struct disk_io *io; /* NULL: the system's */
    /* From the thread that scans: each value, once all files were gone through, then `on_scanned`.
     */
    void (*on_found)(void *context, const struct disk_found *found);
    void (*on_scanned)(void *context);
    void *context;
};

struct disk_stats {
    uint64_t limit_bytes, used_bytes, live_bytes; /* of files; of records that count */
    uint64_t segments, values;
    uint64_t writes, written_bytes, deletes, syncs; /* jobs that were done */
    uint64_t groups;                                /* of jobs that shared an fdatasync */
    uint64_t reads, read_bytes;
    uint64_t queued_jobs, queued_bytes;
    uint64_t failed_writes, failed_syncs, refused_full;
    uint64_t damaged_reads; /* values whose parts were damaged when read or copied */
    uint64_t reclaimed_segments, reclaimed_bytes; /* unlinked */
    uint64_t copied_bytes;                        /* of what counted in them */
    bool scanned;
    uint64_t scan_ns, scanned_bytes; /* from start to end, and of files that were gone through */
    uint64_t scan_damaged;           /* records that were damaged, and skipped */
    uint64_t scan_unknown;   /* of these: stretches of which it is not known what they were */
    uint64_t scan_cut_bytes; /* of torn tails */
    bool scan_unread; /* something is not known for this run only: the device failed, or there
                       * was no memory to note it */
};

/* Creates the directory (mode 0700) where it is missing, locks it against other daemons and begins
 * to read it. NULL, with a sentence of what is wrong. */
struct disk *disk_open(const struct disk_options *options, char *error, size_t error_bytes);

/* Does what was submitted, makes all of it durable, and frees. Nobody submits any more. */
void disk_close(struct disk *disk);

/* False, and nothing was submitted, if a write would make the queue longer than its bytes; one
 * alone is always taken, and so is every other job. */
bool disk_submit(struct disk *disk, struct disk_job *job) __attribute__((warn_unused_result));

/* The key has no value from now on, but may have one again after a restart: for what nobody refers
 * to any more. Not while a job of the key is under way. */
void disk_forget(struct disk *disk, struct disk_key key);

/* The bytes of a value's parts together; 0 if the key has none, as far as is known before all has
 * been scanned. */
uint64_t disk_find(struct disk *disk, struct disk_key key);

/* Whether the directory has been read: until then a miss may be none. */
bool disk_is_scanned(struct disk *disk);

void disk_read_stats(struct disk *disk, struct disk_stats *stats);

/* Lets the limit be another; files beyond it are reclaimed as values are deleted. */
void disk_set_limit(struct disk *disk, uint64_t limit_bytes);

/* The key in a file: 32 bytes, or 64 hexadecimal digits and at most a newline. The file belongs to
 * the daemon's user or root and to nobody else (mode 0600 or tighter); a name without a slash is
 * looked for in $CREDENTIALS_DIRECTORY first, whose files are the service manager's to guard. 0, or
 * -1 with a sentence. */
int disk_key_read(const char *file, uint8_t key[DISK_KEY_BYTES], char *error, size_t error_bytes)
    __attribute__((warn_unused_result));

#endif
