#include "client/cli/zip.h"

#include <string.h>

enum {
    LOCAL = 0x04034b50,
    CENTRAL = 0x02014b50,
    END = 0x06054b50,
    END64 = 0x06064b50,
    LOCATOR64 = 0x07064b50,
    LOCAL_FIXED_BYTES = 30,
    CENTRAL_FIXED_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR64_BYTES = 20,
    COMMENT_BYTES_MAX = 65535,
    EXTRA64 = 1,
    VERSION64 = 45,
};

static const uint32_t in_extra = UINT32_MAX; /* the value stands in the ZIP64 extra field */

/* A part of the file that is known to lie inside it. */
struct span {
    const uint8_t *bytes;
    uint64_t count;
};

static bool cut(struct span from, uint64_t offset, uint64_t count, struct span *part) {
    if (offset > from.count || count > from.count - offset)
        return false;
    *part = (struct span){from.bytes + offset, count};
    return true;
}

static uint64_t get(struct span span, int offset, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)span.bytes[offset + i] << (8 * i);
    return value;
}

static uint8_t *put(uint8_t *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        *out++ = (uint8_t)(value >> (8 * i));
    return out;
}

uint32_t zip_crc(const uint8_t *bytes, size_t count) {
    uint32_t table[256], crc = UINT32_MAX;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    for (size_t i = 0; i < count; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
    return ~crc;
}

/* The end record stands at the end, before a comment that few files have. */
static bool find_end(struct span file, struct span *end, uint64_t *end_offset) {
    for (uint64_t back = END_BYTES; back <= END_BYTES + COMMENT_BYTES_MAX; back++) {
        if (back > file.count)
            return false;
        if (cut(file, file.count - back, END_BYTES, end) && get(*end, 0, 4) == END) {
            *end_offset = file.count - back;
            return true;
        }
    }
    return false;
}

static bool find_directory(struct span file, struct span *directory, uint64_t *entries) {
    struct span end, locator, end64;
    uint64_t end_offset;
    if (!find_end(file, &end, &end_offset))
        return false;
    *entries = get(end, 10, 2);
    uint64_t bytes = get(end, 12, 4), offset = get(end, 16, 4);
    if (end_offset >= LOCATOR64_BYTES &&
        cut(file, end_offset - LOCATOR64_BYTES, LOCATOR64_BYTES, &locator) &&
        get(locator, 0, 4) == LOCATOR64) {
        if (!cut(file, get(locator, 8, 8), END64_BYTES, &end64) || get(end64, 0, 4) != END64)
            return false;
        *entries = get(end64, 32, 8);
        bytes = get(end64, 40, 8);
        offset = get(end64, 48, 8);
    }
    return cut(file, offset, bytes, directory);
}

struct central {
    struct span name, extra;
    uint64_t method, crc, stored_bytes, bytes, offset;
};

/* Values of 32 bits that do not fit stand in the extra field, in this order. */
static bool widen(struct central *central) {
    uint64_t *values[] = {&central->bytes, &central->stored_bytes, &central->offset};
    struct span field, extra = central->extra;
    while (cut(extra, 0, 4, &field)) {
        uint64_t tag = get(extra, 0, 2), bytes = get(extra, 2, 2), at = 0;
        if (!cut(extra, 4, bytes, &field))
            return false;
        for (int i = 0; tag == EXTRA64 && i < 3; i++) {
            struct span value;
            if (*values[i] != in_extra)
                continue;
            if (!cut(field, at, 8, &value))
                return false;
            *values[i] = get(value, 0, 8);
            at += 8;
        }
        if (!cut(extra, 4 + bytes, extra.count - 4 - bytes, &extra))
            return false;
    }
    return true;
}

static bool take_central(struct span *directory, struct central *central) {
    struct span fixed;
    if (!cut(*directory, 0, CENTRAL_FIXED_BYTES, &fixed) || get(fixed, 0, 4) != CENTRAL)
        return false;
    *central = (struct central){
        .method = get(fixed, 10, 2),
        .crc = get(fixed, 16, 4),
        .stored_bytes = get(fixed, 20, 4),
        .bytes = get(fixed, 24, 4),
        .offset = get(fixed, 42, 4),
    };
    uint64_t name = get(fixed, 28, 2), extra = get(fixed, 30, 2), comment = get(fixed, 32, 2);
    uint64_t all = CENTRAL_FIXED_BYTES + name + extra + comment;
    return cut(*directory, CENTRAL_FIXED_BYTES, name, &central->name) &&
           cut(*directory, CENTRAL_FIXED_BYTES + name, extra, &central->extra) && widen(central) &&
           all <= directory->count && cut(*directory, all, directory->count - all, directory);
}

static enum zip_result take_entry(struct span file, const struct central *central,
                                  struct zip_entry *entry) {
    struct span local, bytes;
    if (central->method != 0)
        return ZIP_COMPRESSED;
    if (!cut(file, central->offset, LOCAL_FIXED_BYTES, &local) || get(local, 0, 4) != LOCAL)
        return ZIP_DAMAGED;
    uint64_t start = central->offset + LOCAL_FIXED_BYTES + get(local, 26, 2) + get(local, 28, 2);
    if (central->stored_bytes != central->bytes || !cut(file, start, central->bytes, &bytes) ||
        zip_crc(bytes.bytes, bytes.count) != central->crc)
        return ZIP_DAMAGED;
    *entry = (struct zip_entry){bytes.bytes, bytes.count};
    return ZIP_FOUND;
}

enum zip_result zip_find(const uint8_t *file_start, size_t file_bytes, const char *name,
                         struct zip_entry *entry) {
    struct span file = {file_start, file_bytes}, directory;
    struct central central;
    uint64_t entries;
    if (!find_directory(file, &directory, &entries))
        return ZIP_DAMAGED;
    for (; entries > 0; entries--) {
        if (!take_central(&directory, &central))
            return ZIP_DAMAGED;
        if (central.name.count == strlen(name) &&
            memcmp(central.name.bytes, name, central.name.count) == 0)
            return take_entry(file, &central, entry);
    }
    return ZIP_ABSENT;
}

/* From "version needed" to the lengths; the same in both headers. No time: 1980-01-01. */
static uint8_t *put_common(uint8_t *out, const struct zip_member *member, int extra_bytes) {
    out = put(out, VERSION64, 2);
    out = put(out, 0, 2); /* flags */
    out = put(out, 0, 2); /* stored */
    out = put(out, 0, 2);
    out = put(out, 1 << 5 | 1, 2);
    out = put(out, member->crc, 4);
    out = put(out, in_extra, 4);
    out = put(out, in_extra, 4);
    out = put(out, ZIP_NAME_BYTES, 2);
    return put(out, (uint64_t)extra_bytes, 2);
}

static uint8_t *put_name_and_sizes(uint8_t *out, const struct zip_member *member, int extra_bytes) {
    memcpy(out, member->name, ZIP_NAME_BYTES);
    out = put(out + ZIP_NAME_BYTES, EXTRA64, 2);
    out = put(out, (uint64_t)extra_bytes - 4, 2);
    out = put(out, member->count, 8);
    return put(out, member->count, 8);
}

void zip_write_local(uint8_t header[ZIP_LOCAL_BYTES], const struct zip_member *member) {
    enum { EXTRA_BYTES = 20 };
    uint8_t *out = put(header, LOCAL, 4);
    out = put_common(out, member, EXTRA_BYTES);
    put_name_and_sizes(out, member, EXTRA_BYTES);
}

enum { CENTRAL_EXTRA_BYTES = 28 };

size_t zip_directory_bytes(int members) {
    return (size_t)members * (CENTRAL_FIXED_BYTES + ZIP_NAME_BYTES + CENTRAL_EXTRA_BYTES) +
           END64_BYTES + LOCATOR64_BYTES + END_BYTES;
}

static uint8_t *put_central(uint8_t *out, const struct zip_member *member) {
    out = put(out, CENTRAL, 4);
    out = put(out, VERSION64, 2);
    out = put_common(out, member, CENTRAL_EXTRA_BYTES);
    out = put(out, 0, 6); /* comment, disk, internal attributes */
    out = put(out, 0, 4); /* external attributes */
    out = put(out, in_extra, 4);
    out = put_name_and_sizes(out, member, CENTRAL_EXTRA_BYTES);
    return put(out, member->offset, 8);
}

void zip_write_directory(uint8_t *directory, uint64_t offset, const struct zip_member *members,
                         int count) {
    uint8_t *out = directory;
    for (int i = 0; i < count; i++)
        out = put_central(out, &members[i]);
    uint64_t bytes = (uint64_t)(out - directory);
    out = put(out, END64, 4);
    out = put(out, END64_BYTES - 12, 8);
    out = put(out, VERSION64, 2);
    out = put(out, VERSION64, 2);
    out = put(out, 0, 8); /* disks */
    out = put(out, (uint64_t)count, 8);
    out = put(out, (uint64_t)count, 8);
    out = put(out, bytes, 8);
    out = put(out, offset, 8);
    out = put(out, LOCATOR64, 4);
    out = put(out, 0, 4);
    out = put(out, offset + bytes, 8);
    out = put(out, 1, 4);
    out = put(out, END, 4);
    out = put(out, 0, 4);
    out = put(out, (uint64_t)count, 2);
    out = put(out, (uint64_t)count, 2);
    out = put(out, UINT32_MAX, 4);
    out = put(out, UINT32_MAX, 4);
    put(out, 0, 2);
}
