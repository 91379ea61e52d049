#include "tests/fuzz/values.h"

#include <string.h>
#include <xxhash.h>

#include "daemon/store/disk_tier.h"
#include "daemon/store/record.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/must.h"

enum { HEAD_BYTES = 36, PARTS_MAX = 64, VALUES_MAX = 64 };

struct value {
    size_t at, parts_at, parts_bytes, end;
    struct disk_key key;
    struct disk_metadata metadata;
    struct disk_part parts[PARTS_MAX];
    uint32_t part_count;
};

static uint64_t number(const uint8_t *bytes, int count) {
    uint64_t value = 0;
    for (int i = count; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

/* False if what is there is no value. */
static bool read_value(const uint8_t *bytes, size_t count, size_t at, struct value *value) {
    const uint8_t *head = bytes + at;
    if (count - at < HEAD_BYTES)
        return false;
    size_t name_bytes = head[34], next = at + HEAD_BYTES + name_bytes;
    value->at = at;
    value->key = (struct disk_key){number(head, 8), head[32]};
    value->part_count = head[35];
    value->parts_at = next + 4u * value->part_count;
    if (value->key.kind == 0 || value->part_count > PARTS_MAX || value->parts_at > count)
        return false;
    value->metadata = (struct disk_metadata){.tenant = "default",
                                             .tenant_bytes = 7,
                                             .model = "m",
                                             .model_bytes = 1,
                                             .session = (const char *)head + HEAD_BYTES,
                                             .session_bytes = name_bytes,
                                             .first_token = number(head + 8, 8),
                                             .tokens = number(head + 16, 8),
                                             .version = number(head + 24, 8),
                                             .level = (int8_t)head[33]};
    value->end = value->parts_at;
    for (uint32_t i = 0; i < value->part_count; i++) {
        size_t part_bytes = (size_t)number(bytes + next + 4u * i, 4);
        if (part_bytes > count - value->end)
            return false;
        value->parts[i] = (struct disk_part){bytes + value->end, part_bytes};
        value->end += part_bytes;
    }
    value->parts_bytes = value->end - value->parts_at;
    return true;
}

static size_t read_values(const uint8_t *bytes, size_t count, struct value *values, size_t *end) {
    size_t all = count < 4 ? 0 : (size_t)number(bytes, 4), found = 0;
    *end = count < 4 ? count : 4;
    while (found < all && found < VALUES_MAX && read_value(bytes, count, *end, &values[found]))
        *end = values[found++].end;
    return found;
}

size_t values_end(const uint8_t *bytes, size_t count) {
    static struct value values[VALUES_MAX];
    size_t end;
    (void)read_values(bytes, count, values, &end);
    return end;
}

static void note_done(struct disk_job *job) {
    (void)job; /* closing waits for all of them */
}

size_t values_write(const char *directory, const uint8_t *bytes, size_t count) {
    static struct value values[VALUES_MAX];
    static struct disk_job jobs[VALUES_MAX];
    char error[256];
    size_t end, found = read_values(bytes, count, values, &end);
    struct disk *disk =
        disk_open(&(struct disk_options){.directory = directory, .limit_bytes = 256 << 20}, error,
                  sizeof error);
    must(disk != NULL, error);
    for (size_t i = 0; i < found; i++) {
        jobs[i] = (struct disk_job){.operation = DISK_WRITE,
                                    .key = values[i].key,
                                    .metadata = values[i].metadata,
                                    .parts = values[i].parts,
                                    .part_count = values[i].part_count,
                                    .done = note_done};
        must(disk_submit(disk, &jobs[i]), "the disk takes a value");
    }
    disk_close(disk);
    return end;
}

/* --- changes --- */

static uint8_t *find(uint8_t *memory, size_t bytes, const char *magic, size_t least) {
    for (size_t at = 0; bytes >= least && at <= bytes - least; at += 4)
        if (memcmp(memory + at, magic, 7) == 0)
            return memory + at;
    return NULL;
}

static void put_hash(uint8_t *at, const uint8_t *bytes, size_t count) {
    uint64_t hash = record_hash(bytes, count);
    memcpy(at, &hash, sizeof hash);
}

static void seal(uint8_t *header, size_t bytes, size_t left, size_t hash_at) {
    if (bytes > left || bytes < hash_at + 8)
        return;
    memset(header + hash_at, 0, 8);
    put_hash(header + hash_at, header, bytes);
}

/* The hashes of what an entry of a directory says is there: u32 offset, u32 bytes, u64 hash. */
static void seal_entries(uint8_t *record, size_t left, size_t from, size_t to, size_t step) {
    for (size_t at = from; at + step <= to && to <= left; at += step) {
        uint64_t offset = number(record + at, 4), bytes = number(record + at + 4, 4);
        if (offset <= left && bytes <= left - offset)
            put_hash(record + at + 8, record + offset, bytes);
    }
}

/* All hashes that stand within the value. */
static void make_whole(uint8_t *memory, size_t bytes) {
    uint8_t *record = find(memory, bytes, "KVQCHUNK", 104), *end = memory + bytes;
    uint8_t *keys = find(memory, bytes, "KVQKEYS", 64);
    uint8_t *blob = find(memory, bytes, "KVQATTCH", 64);
    if (keys)
        put_hash(keys + 32, keys + 64, (size_t)((record ? record : end) - keys) - 64);
    if (record) {
        size_t left = (size_t)(end - record), header = (size_t)number(record + 12, 4);
        size_t names = number(record + 82, 2) + number(record + 84, 2) + number(record + 86, 2);
        seal_entries(record, left, (104 + names + 7) / 8 * 8, header, 24);
        seal(record, header, left, 88);
    }
    if (blob) {
        size_t left = (size_t)(end - blob), header = (size_t)number(blob + 12, 4);
        seal_entries(blob, left, (64 + (size_t)number(blob + 48, 2) + 7) / 8 * 8, header, 16);
        seal(blob, header, left, 56);
    }
}

bool values_change(uint8_t *bytes, size_t count, unsigned seed) {
    static struct value values[VALUES_MAX];
    size_t end, found = read_values(bytes, count, values, &end);
    if (found == 0)
        return false;
    const struct value *value = &values[seed % found];
    uint8_t *memory = bytes + value->parts_at;
    if (seed / 64 % 16 == 0 || value->parts_bytes == 0) {
        (void)LLVMFuzzerMutate(bytes + value->at, HEAD_BYTES, HEAD_BYTES);
        return true;
    }
    /* mostly near the beginning, where the numbers are */
    size_t at = seed / 1024 % (seed / 64 % 4 ? 256 : value->parts_bytes);
    at = at < value->parts_bytes ? at : 0;
    size_t left = value->parts_bytes - at, most = left < 64 ? left : 64;
    (void)LLVMFuzzerMutate(memory + at, most, most);
    if (seed / 64 % 8)
        make_whole(memory, value->parts_bytes);
    return true;
}
