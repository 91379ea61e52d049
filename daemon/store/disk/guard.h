/* What tells that a segment's bytes are those that were written: xxh3 of 128 bits, or with a key
 * AES-256-GCM, which hides them too.
 *
 * A guard is a segment's own: from its salt comes a seed for the checksum, or by HKDF from the
 * directory's key a key that no other segment has. A place in it is used once, so that its offset
 * is a nonce. A guarder is a thread's own.
 */
#ifndef DAEMON_STORE_DISK_GUARD_H
#define DAEMON_STORE_DISK_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUARD_TAG_BYTES = 16, GUARD_SALT_BYTES = 32, GUARD_KEY_BYTES = 32 };

struct guard {
    bool encrypted;
    uint64_t seed;
    uint8_t key[GUARD_KEY_BYTES];
};

/* The guard of a segment with this salt; `key` is the directory's, or NULL. 0, or -1. */
int guard_init(struct guard *guard, const uint8_t *key, const uint8_t salt[GUARD_SALT_BYTES])
    __attribute__((warn_unused_result));

struct guarder {
    void *cipher; /* EVP_CIPHER_CTX */
};

int guarder_init(struct guarder *guarder) __attribute__((warn_unused_result));
void guarder_free(struct guarder *guarder);

struct guarded {
    uint64_t offset;    /* in the segment */
    const void *beside; /* authenticated with it, where encrypted */
    size_t beside_bytes, bytes;
};

/* Makes the tag of `plain` and, where encrypted, writes what is to be stored to `stored`, which may
 * be `plain`. 0, or -1. */
int guard_close(struct guarder *guarder, const struct guard *guard, const struct guarded *what,
                const void *plain, void *stored, uint8_t tag[GUARD_TAG_BYTES])
    __attribute__((warn_unused_result));

/* Checks what was stored and turns it into what it was, in place. 0, or -1 if it is not that. */
int guard_open(struct guarder *guarder, const struct guard *guard, const struct guarded *what,
               void *bytes, const uint8_t tag[GUARD_TAG_BYTES]) __attribute__((warn_unused_result));

/* The same for bytes that stay in the clear, offset telling where they are. */
int guard_sign(struct guarder *guarder, const struct guard *guard, uint64_t offset,
               const void *bytes, size_t count, uint8_t tag[GUARD_TAG_BYTES])
    __attribute__((warn_unused_result));
int guard_verify(struct guarder *guarder, const struct guard *guard, uint64_t offset,
                 const void *bytes, size_t count, const uint8_t tag[GUARD_TAG_BYTES])
    __attribute__((warn_unused_result));

/* xxh3 of 128 bits, as in a file: low half first. */
void guard_checksum(const void *bytes, size_t count, uint64_t seed, uint8_t sum[GUARD_TAG_BYTES]);

#endif
