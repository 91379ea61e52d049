#include "daemon/store/disk/index.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 1024 };

static size_t slot_of(const struct index *index, struct disk_key key) {
    uint64_t mixed = (key.id ^ (uint64_t)key.kind << 56) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(mixed ^ mixed >> 32) & (index->capacity - 1);
}

/* The key's entry, or the free one where it belongs. */
static struct index_entry *probe(const struct index *index, struct disk_key key) {
    size_t slot = slot_of(index, key);
    struct index_entry *entry = &index->entries[slot];
    while (entry->state != INDEX_FREE && (entry->key.id != key.id || entry->key.kind != key.kind)) {
        slot = (slot + 1) & (index->capacity - 1);
        entry = &index->entries[slot];
    }
    return entry;
}

static int resize(struct index *index, size_t capacity) {
    struct index_entry *old = index->entries;
    size_t old_capacity = index->capacity;
    if (index->budget && !budget_reserve(index->budget, capacity * sizeof *old))
        return -1;
    struct index_entry *entries = calloc(capacity, sizeof *entries);
    if (!entries) {
        if (index->budget)
            budget_release(index->budget, capacity * sizeof *old);
        return -1;
    }
    index->entries = entries;
    index->capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].state != INDEX_FREE)
            *probe(index, old[i].key) = old[i];
    free(old);
    if (index->budget)
        budget_release(index->budget, old_capacity * sizeof *old);
    return 0;
}

int index_init(struct index *index, struct budget *budget) {
    *index = (struct index){.budget = budget};
    return resize(index, CAPACITY_MIN);
}

void index_free(struct index *index) {
    free(index->entries);
    if (index->budget)
        budget_release(index->budget, index->capacity * sizeof *index->entries);
}

int index_reserve(struct index *index, struct disk_key key) {
    if (index->count + 1 + INDEX_ROOM <= index->capacity / 4 * 3 || index_find(index, key))
        return 0;
    return resize(index, 2 * index->capacity);
}

struct index_entry *index_find(const struct index *index, struct disk_key key) {
    struct index_entry *entry = probe(index, key);
    return entry->state == INDEX_FREE ? NULL : entry;
}

/* Those behind it move up, so that none is cut off from where it belongs. */
static void remove_entry(struct index *index, struct index_entry *entry) {
    size_t mask = index->capacity - 1, hole = (size_t)(entry - index->entries);
    for (size_t i = (hole + 1) & mask; index->entries[i].state != INDEX_FREE; i = (i + 1) & mask) {
        size_t home = slot_of(index, index->entries[i].key);
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        index->entries[hole] = index->entries[i];
        hole = i;
    }
    index->entries[hole].state = INDEX_FREE;
    index->count--;
}

static bool has_place(const struct index_entry *entry) {
    return entry->state == INDEX_VALUE || entry->state == INDEX_DELETED;
}

static void change(struct index *index, struct index_entry *entry, enum index_state state) {
    index->values -= entry->state == INDEX_VALUE;
    index->values += state == INDEX_VALUE;
    entry->state = state;
}

/* Its record is dead, but in its file for now. */
static void leave_place(struct index *index, struct index_entry *entry, enum index_state state) {
    if (has_place(entry)) {
        entry->segment->live_bytes -= (uint64_t)entry->record_blocks * BLOCK_BYTES;
        entry->stale++;
    }
    change(index, entry, state);
}

/* A delete need not be remembered once there is nothing older, nor a key of which there is no
 * record. */
static void drop_if_done(struct index *index, struct index_entry *entry) {
    if (entry->stale > 0 || entry->state == INDEX_VALUE)
        return;
    if (entry->state != INDEX_DELETED)
        remove_entry(index, entry);
    else if (!index->keep_deletes)
        leave_place(index, entry, INDEX_FORGOTTEN);
}

static struct index_entry *find_or_add(struct index *index, struct disk_key key) {
    struct index_entry *entry = probe(index, key);
    if (entry->state != INDEX_FREE)
        return entry;
    *entry = (struct index_entry){.key = key, .state = INDEX_FORGOTTEN};
    index->count++;
    return entry;
}

void index_add(struct index *index, const struct index_record *record) {
    const struct head *head = record->head;
    struct index_entry *entry = find_or_add(index, head->key);
    bool replaces = record->replaces || entry->state == INDEX_DAMAGED; /* of which it is a copy */
    if (head->sequence < entry->sequence || (head->sequence == entry->sequence && !replaces)) {
        entry->stale++;
        return;
    }
    leave_place(index, entry, head->deleted ? INDEX_DELETED : INDEX_VALUE);
    entry->sequence = head->sequence;
    entry->segment = record->segment;
    entry->offset = record->offset;
    entry->data_bytes = head->data_bytes;
    entry->head_bytes = (uint32_t)head->head_bytes;
    entry->record_blocks = (uint32_t)(head_record_bytes(head) / BLOCK_BYTES);
    entry->segment->live_bytes += head_record_bytes(head);
}

void index_add_damaged(struct index *index, struct disk_key key, uint64_t sequence) {
    struct index_entry *entry = find_or_add(index, key);
    if (sequence > entry->sequence) {
        leave_place(index, entry, INDEX_DAMAGED);
        entry->sequence = sequence;
    }
    entry->stale++;
}

void index_forget(struct index *index, struct disk_key key) {
    struct index_entry *entry = index_find(index, key);
    if (entry && entry->state == INDEX_VALUE)
        leave_place(index, entry, INDEX_FORGOTTEN);
}

void index_remove_stale(struct index *index, struct disk_key key) {
    struct index_entry *entry = index_find(index, key);
    if (!entry)
        return;
    entry->stale -= entry->stale > 0;
    drop_if_done(index, entry);
}

void index_drop_needless(struct index *index, struct disk_key key) {
    struct index_entry *entry = index_find(index, key);
    if (entry)
        drop_if_done(index, entry);
}

bool index_wants_delete(const struct index *index, struct disk_key key, uint64_t sequence) {
    const struct index_entry *entry = index_find(index, key);
    return entry && entry->state == INDEX_DAMAGED && entry->sequence == sequence &&
           entry->stale > 1;
}

bool index_has(const struct index *index, struct disk_key key, const struct segment *segment,
               uint64_t offset) {
    const struct index_entry *entry = index_find(index, key);
    return entry && has_place(entry) && entry->segment == segment && entry->offset == offset;
}
