/* The part of ZIP that .npz files are made of: stored (uncompressed) entries, ZIP64 included.
 *
 * Works on the caller's memory and allocates nothing.
 */
#ifndef CLIENT_CLI_ZIP_H
#define CLIENT_CLI_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum zip_result {
    ZIP_FOUND = 0,
    ZIP_ABSENT,     /* no entry of this name */
    ZIP_COMPRESSED, /* there is one, but not stored */
    ZIP_DAMAGED,    /* not a ZIP file, or one that contradicts itself or its checksums */
};

struct zip_entry {
    const uint8_t *bytes; /* inside the file */
    size_t count;
};

/* Finds an entry and checks its checksum. */
enum zip_result zip_find(const uint8_t *file, size_t file_bytes, const char *name,
                         struct zip_entry *entry);

/* Writing: each entry is a local header, then its bytes; the directory closes the file. */
enum { ZIP_NAME_BYTES = 5, ZIP_LOCAL_BYTES = 30 + ZIP_NAME_BYTES + 20, ZIP_ENTRIES_MAX = 2 };

struct zip_member {
    const char *name; /* of ZIP_NAME_BYTES: "k.npy" */
    uint64_t offset;  /* of the local header */
    uint64_t count;   /* of the bytes after it */
    uint32_t crc;
};

uint32_t zip_crc(const uint8_t *bytes, size_t count);

void zip_write_local(uint8_t header[ZIP_LOCAL_BYTES], const struct zip_member *member);

size_t zip_directory_bytes(int members);
/* Writes zip_directory_bytes() for a directory that stands at offset. */
void zip_write_directory(uint8_t *directory, uint64_t offset, const struct zip_member *members,
                         int count);

#endif
