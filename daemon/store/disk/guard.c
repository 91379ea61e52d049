#include "daemon/store/disk/guard.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/base/bytes.h"

enum { NONCE_BYTES = 12, PIECE_BYTES = 1 << 30 /* EVP counts in int */ };

static const char purpose[] = "kvquant disk segment 1";

/* Of some builds of libxxhash for x86-64: chooses the widest vectors that the processor has. */
XXH128_hash_t XXH3_128bits_withSeed_dispatch(const void *bytes, size_t count, XXH64_hash_t seed)
    __attribute__((weak));

void guard_checksum(const void *bytes, size_t count, uint64_t seed, uint8_t sum[GUARD_TAG_BYTES]) {
    XXH128_hash_t hash = XXH3_128bits_withSeed_dispatch
                             ? XXH3_128bits_withSeed_dispatch(bytes, count, seed)
                             : XXH3_128bits_withSeed(bytes, count, seed);
    bytes_put(sum, hash.low64, 8);
    bytes_put(sum + 8, hash.high64, 8);
}

static int derive(uint8_t out[GUARD_KEY_BYTES], const uint8_t *key, const uint8_t *salt) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string("digest", (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string("key", (void *)key, GUARD_KEY_BYTES),
        OSSL_PARAM_construct_octet_string("salt", (void *)salt, GUARD_SALT_BYTES),
        OSSL_PARAM_construct_octet_string("info", (void *)purpose, sizeof purpose - 1),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    int done = context ? EVP_KDF_derive(context, out, GUARD_KEY_BYTES, parameters) : 0;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return done == 1 ? 0 : -1;
}

int guard_init(struct guard *guard, const uint8_t *key, const uint8_t salt[GUARD_SALT_BYTES]) {
    *guard = (struct guard){.encrypted = key != NULL, .seed = bytes_get(salt, 8)};
    return key ? derive(guard->key, key, salt) : 0;
}

int guarder_init(struct guarder *guarder) {
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    guarder->cipher = cipher;
    return cipher && EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, NULL, NULL, 1) == 1 ? 0
                                                                                            : -1;
}

void guarder_free(struct guarder *guarder) {
    EVP_CIPHER_CTX_free(guarder->cipher);
}

/* Everything but the tag. */
static int run_cipher(EVP_CIPHER_CTX *cipher, const struct guard *guard, const struct guarded *what,
                      const uint8_t *from, uint8_t *to, int closing) {
    uint8_t nonce[NONCE_BYTES] = {0};
    int count;
    bytes_put(nonce, what->offset, 8);
    if (EVP_CipherInit_ex(cipher, NULL, NULL, guard->key, nonce, closing) != 1 ||
        EVP_CipherUpdate(cipher, NULL, &count, what->beside, (int)what->beside_bytes) != 1)
        return -1;
    for (size_t at = 0; at < what->bytes; at += (size_t)count) {
        size_t piece = what->bytes - at < PIECE_BYTES ? what->bytes - at : PIECE_BYTES;
        if (EVP_CipherUpdate(cipher, to + at, &count, from + at, (int)piece) != 1 || count <= 0)
            return -1;
    }
    return 0;
}

static int encrypt(EVP_CIPHER_CTX *cipher, const struct guard *guard, const struct guarded *what,
                   const void *plain, void *stored, uint8_t *tag) {
    uint8_t none[1];
    int count;
    if (run_cipher(cipher, guard, what, plain, stored, 1) < 0 ||
        EVP_CipherFinal_ex(cipher, none, &count) != 1)
        return -1;
    return EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, GUARD_TAG_BYTES, tag) == 1 ? 0 : -1;
}

static int decrypt(EVP_CIPHER_CTX *cipher, const struct guard *guard, const struct guarded *what,
                   void *bytes, const uint8_t *tag) {
    uint8_t none[1], wanted[GUARD_TAG_BYTES];
    int count;
    memcpy(wanted, tag, sizeof wanted);
    if (run_cipher(cipher, guard, what, bytes, bytes, 0) < 0 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, GUARD_TAG_BYTES, wanted) != 1)
        return -1;
    return EVP_CipherFinal_ex(cipher, none, &count) == 1 ? 0 : -1;
}

int guard_close(struct guarder *guarder, const struct guard *guard, const struct guarded *what,
                const void *plain, void *stored, uint8_t tag[GUARD_TAG_BYTES]) {
    if (guard->encrypted)
        return encrypt(guarder->cipher, guard, what, plain, stored, tag);
    guard_checksum(plain, what->bytes, guard->seed ^ what->offset, tag);
    return 0;
}

static int check_sum(const struct guard *guard, uint64_t offset, const void *bytes, size_t count,
                     const uint8_t *tag) {
    uint8_t sum[GUARD_TAG_BYTES];
    guard_checksum(bytes, count, guard->seed ^ offset, sum);
    return memcmp(sum, tag, sizeof sum) == 0 ? 0 : -1;
}

int guard_open(struct guarder *guarder, const struct guard *guard, const struct guarded *what,
               void *bytes, const uint8_t tag[GUARD_TAG_BYTES]) {
    if (guard->encrypted)
        return decrypt(guarder->cipher, guard, what, bytes, tag);
    return check_sum(guard, what->offset, bytes, what->bytes, tag);
}

int guard_sign(struct guarder *guarder, const struct guard *guard, uint64_t offset,
               const void *bytes, size_t count, uint8_t tag[GUARD_TAG_BYTES]) {
    struct guarded nothing = {.offset = offset, .beside = bytes, .beside_bytes = count};
    if (guard->encrypted)
        return encrypt(guarder->cipher, guard, &nothing, NULL, NULL, tag);
    guard_checksum(bytes, count, guard->seed ^ offset, tag);
    return 0;
}

int guard_verify(struct guarder *guarder, const struct guard *guard, uint64_t offset,
                 const void *bytes, size_t count, const uint8_t tag[GUARD_TAG_BYTES]) {
    struct guarded nothing = {.offset = offset, .beside = bytes, .beside_bytes = count};
    if (guard->encrypted)
        return decrypt(guarder->cipher, guard, &nothing, NULL, tag);
    return check_sum(guard, offset, bytes, count, tag);
}
