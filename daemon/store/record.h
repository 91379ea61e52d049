/* A chunk record: the coded pages of the same tokens over all layers, in one self-describing
 * stretch of bytes that means the same in the pool, on disk and elsewhere. Immutable once built.
 *
 * Bytes, little-endian, offsets from the record's start:
 *     0  magic "KVQCHUNK"             8  u32 record format (0)
 *    12  u32 header bytes            16  u64 record bytes
 *    24  u64 session id              32  u64 first token
 *    40  u32 tokens                  44  u32 layers
 *    48  u32 heads                   52  u32 head_dim of K
 *    56  u32 head_dim of V, or 0     60  u8 dtype  61 u8 RoPE pairing  62 u16 RoPE dims
 *    64  f64 RoPE theta              72  f64 RoPE scaling
 *    80  s8 level asked  81 u8 0     82  u16 tenant bytes
 *    84  u16 model bytes             86  u16 session bytes
 *    88  u64 xxh3 of the header with this field 0
 *    96  f64 decibels asked of every page, or 0
 *   104  tenant, model, session      then zeros to a multiple of 8
 *        directory: for each layer, K then V, 24 bytes:
 *            u32 offset, u32 bytes, u64 xxh3 of the page, f32 inherited error, u32 0
 *        the pages, each at a multiple of 8, in the order in which they arrived
 * Inherited error is what a page coded from an already lossy one takes over from it (sum of
 * squares, an estimate); the page's header has the error of its own coding.
 *
 * struct record is the handle: a pinned record's bytes stay. Pins may be taken and dropped on any
 * thread; the last one gives the extent and its reservation back. A record may be absent: then its
 * bytes are on disk only, and the handle says what it says of them, but that they take no memory.
 */
#ifndef DAEMON_STORE_RECORD_H
#define DAEMON_STORE_RECORD_H

#include <stdatomic.h>
#include <stdbool.h>

#include "daemon/base/budget.h"
#include "daemon/store/geometry.h"
#include "daemon/store/pool.h"
#include "daemon/store/usage.h"

struct loss {
    double error, energy; /* sums of squares */
    bool estimated;
};

void loss_add(struct loss *sum, const struct loss *more);

/* What a record says of itself; the strings are the caller's. */
struct record_spec {
    const char *tenant, *model, *session;
    size_t tenant_bytes, model_bytes, session_bytes;
    uint64_t session_id, first_token;
    uint32_t tokens;
    const struct geometry *geometry;
    int level;
    double min_snr_db; /* of every page, or 0 */
};

struct record_page {
    uint32_t offset, bytes;
    uint64_t hash;
    float inherited_error;
};

struct record_level {
    uint32_t pages, bytes; /* without what they keep exact */
};

struct record {
    _Atomic unsigned pins;
    struct pool *pool;
    struct budget *budget;
    struct pool_extent extent;
    uint64_t bytes;
    uint64_t serial; /* that no other record of the pool has */
    uint32_t tokens;
    uint64_t reserved_bytes;                  /* of the extent, in the budget */
    _Atomic int level_asked;                  /* the keeper's note: at most this level is wanted */
    int level;                                /* the coarsest that a page really has */
    struct record_level levels[USAGE_LEVELS]; /* what its pages have, by level - PAGE_LEVEL_MIN */
    uint32_t sink_tokens;                     /* exact because they are a session's first */
    uint32_t exact_tokens; /* those, and what else its pages keep exact: their mean, rounded up */
    uint64_t exact_bytes;
    struct loss loss[GEOMETRY_PARTS];
};

/* A record's tokens and bytes, or a part of them, by level - PAGE_LEVEL_MIN: tokens as the mean
 * over its pages, what no page has at the coarsest. */
struct record_share {
    uint64_t tokens, bytes;
};

void record_divide(const struct record *record, struct record_share whole,
                   struct record_share levels[USAGE_LEVELS]);

/* What guards pages and headers: xxh3 of 64 bits. */
uint64_t record_hash(const void *bytes, size_t count);

/* Whether a header, of a record or an attachment, has its own hash at that offset, which was taken
 * with 0 there. */
bool record_header_is_whole(uint8_t *memory, size_t bytes, size_t hash_offset);

size_t record_header_bytes(const struct record_spec *spec);

/* Writes the header without record bytes and hash; memory is zeroed and of record_header_bytes. */
void record_write_header(uint8_t *memory, const struct record_spec *spec);

/* What the record says of itself, but for its geometry; the strings are the record's. */
void record_read_spec(const struct record *record, struct record_spec *spec);

/* What the first RECORD_FIXED_BYTES of a record that comes from elsewhere say of what follows. */
enum { RECORD_FIXED_BYTES = 104, RECORD_ENTRY_BYTES = 24 };

struct record_outline {
    uint64_t bytes, header_bytes, directory_offset;
    uint32_t tokens;
    int level;
    double min_snr_db;
};

/* 0, or -1 if no record of this geometry has them. */
int record_read_outline(const uint8_t fixed[RECORD_FIXED_BYTES], const struct geometry *geometry,
                        struct record_outline *outline) __attribute__((warn_unused_result));

/* Behind a header that was written anew lies the directory of another of so many header bytes, and
 * are its pages to come: makes it this record's. Or -1 if that cannot be. */
int record_adopt_directory(const struct record *record, const struct geometry *geometry,
                           uint64_t header_bytes_before) __attribute__((warn_unused_result));

/* Of a record that is not absent. */
uint32_t record_layers(const struct record *record);

/* Enters a page into the directory. */
void record_write_page(uint8_t *memory, uint32_t layer, enum page_part part,
                       const struct record_page *page);

/* The last step: record bytes and hash. */
void record_seal(uint8_t *memory, uint64_t record_bytes);

/* Whether what came into the record's memory is a record of these tokens, bytes and geometry. 0 or
 * -1. Nobody else reads it meanwhile. */
int record_check_header(const struct record *record, const struct geometry *geometry)
    __attribute__((warn_unused_result));

static inline bool record_is_absent(const struct record *record) {
    return record->extent.bytes == 0;
}

/* What its pages add up to, while they are entered. */
struct record_tally {
    uint64_t pages, exact_tokens; /* of all of them together */
};

/* Counts a page. */
void record_count_page(struct record *record, struct record_tally *tally,
                       const struct page_info *info, size_t page_bytes, double inherited_error);

/* After the last page. */
void record_count_end(struct record *record, const struct record_tally *tally);

void record_pin(struct record *record);
void record_unpin(struct record *record);

/* The page's entry in the directory. 0, or -1 if the record is absent or has no such page. */
int record_find_page(const struct record *record, uint32_t layer, enum page_part part,
                     struct record_page *page) __attribute__((warn_unused_result));

/* The page's bytes and its inherited error. 0, or -1, logged, if its hash is not theirs. */
int record_read_page(const struct record *record, uint32_t layer, enum page_part part,
                     struct page_bytes *bytes, double *inherited_error)
    __attribute__((warn_unused_result));

/* Checks the page's hash and decodes. 0, or -1, logged, if the bytes are damaged. */
int record_decode(const struct record *record, uint32_t layer, enum page_part part,
                  const struct page_target *target, void *workspace)
    __attribute__((warn_unused_result));

/* The same for K and V of a layer, in less time; targets by part. */
int record_decode_layer(const struct record *record, uint32_t layer,
                        const struct page_target targets[GEOMETRY_PARTS], void *workspace)
    __attribute__((warn_unused_result));

/* Whether the pages that end behind the record's first `from` bytes, and not behind `to`, have
 * their hashes. Logged if not. */
bool record_pages_are_whole(const struct record *record, uint64_t from, uint64_t to);

/* Whether the pages of two records are the same to the last byte. */
bool record_has_same_pages(const struct record *a, const struct record *b);

/* The loss of one page, own and inherited. */
int record_page_loss(const struct record *record, uint32_t layer, enum page_part part,
                     struct loss *loss) __attribute__((warn_unused_result));

#endif
