/* Where the newest record of each key lies, and what older ones are still in files.
 *
 * An entry lasts as long as any record of its key is in a file: so that it is known for how long a
 * delete has to be remembered. Not safe from several threads.
 */
#ifndef DAEMON_STORE_DISK_INDEX_H
#define DAEMON_STORE_DISK_INDEX_H

#include "daemon/store/disk/segment.h"

enum index_state {
    INDEX_FREE,
    INDEX_VALUE,
    INDEX_DELETED, /* by a record, which has a place too */
    INDEX_FORGOTTEN,
    INDEX_DAMAGED, /* its newest record cannot be read */
};

struct index_entry {
    struct disk_key key;
    uint64_t sequence, offset;
    uint64_t data_bytes;
    struct segment *segment; /* no reference: a segment outlives its entries' places */
    uint32_t head_bytes, record_blocks;
    uint32_t stale; /* other records of the key in files */
    enum index_state state;
};

struct index {
    struct index_entry *entries;
    size_t capacity, count; /* capacity is a power of two */
    uint64_t values;
    struct budget *budget; /* or NULL */
    bool keep_deletes;     /* there are records that could not be read: they may be of any key */
};

int index_init(struct index *index, struct budget *budget) __attribute__((warn_unused_result));
void index_free(struct index *index);

/* Makes room for a key, and INDEX_ROOM more. 0, or -1 at the memory limit if it is a new one. */
enum { INDEX_ROOM = 256 };
int index_reserve(struct index *index, struct disk_key key) __attribute__((warn_unused_result));

struct index_entry *index_find(const struct index *index, struct disk_key key);

/* A record is in a file: it counts if it is newer than what is known, or the copy that is to
 * replace it, or of one that cannot be read. Room must have been reserved. */
struct index_record {
    struct segment *segment;
    uint64_t offset;
    const struct head *head;
    bool replaces; /* what has the same sequence number */
};
void index_add(struct index *index, const struct index_record *record);

/* A record of the key with that number is, or would be, in a file, but cannot be read. */
void index_add_damaged(struct index *index, struct disk_key key, uint64_t sequence);

/* The key has no value from now on. */
void index_forget(struct index *index, struct disk_key key);

/* A record of the key is no longer in a file, and was not the one that counts. */
void index_remove_stale(struct index *index, struct disk_key key);

/* Lets go of a delete that nothing older needs. */
void index_drop_needless(struct index *index, struct disk_key key);

/* Whether the key is known to be damaged at that number while older records are still in files. */
bool index_wants_delete(const struct index *index, struct disk_key key, uint64_t sequence);

/* Whether this record is the one that counts. */
bool index_has(const struct index *index, struct disk_key key, const struct segment *segment,
               uint64_t offset);

#endif
