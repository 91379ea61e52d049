/* A batch: embeddings of ranges of a session's tokens, in one stretch of bytes that never changes
 * and is searched where it lies. It is an attachment without a name; its bytes, little-endian:
 *     0  magic "KVQBATCH"             8  u32 format (1)   12  u32 dim
 *    16  u32 dtype                   20  u32 metric       24  u32 rows   28  u32 0
 *    32  u64 bytes of all this       40  u64 offset of the vectors, a multiple of 64
 *    48  16 bytes 0
 *    64  rows, 40 bytes each, as struct batch_row; labels and metadata; zeros; the vectors
 * The rows have numbers that are never given again: the batch's own, and those that follow it.
 *
 * A client gives it without what only the daemon knows: an entry of 16 bytes for each row (u64
 * first token, u32 tokens, u16 label bytes, u16 metadata bytes), then the label and metadata of
 * each, zeros to a multiple of 64, and the vectors.
 */
#ifndef DAEMON_STORE_BATCH_H
#define DAEMON_STORE_BATCH_H

#include "daemon/store/attachment.h"

enum {
    BATCH_DIM_MAX = 4096,
    BATCH_LABEL_BYTES_MAX = 255,
    BATCH_METADATA_BYTES_MAX = 1024,
    BATCH_ENTRY_BYTES = 16,
    BATCH_HEAD_BYTES = 64,
};

/* The wire's numbers. */
enum batch_dtype { BATCH_F16 = 1, BATCH_F32 = 3 };
enum batch_metric { BATCH_COSINE, BATCH_INNER_PRODUCT };

struct batch_kind {
    uint32_t dim;
    enum batch_dtype dtype;
    enum batch_metric metric;
};

struct batch_row {
    uint64_t first, put_us;   /* microseconds since 1970 */
    uint64_t label_hash;      /* 0: no label */
    uint32_t tokens, strings; /* where its label begins, from the batch's start; the metadata
                                 follows */
    uint16_t label_bytes, metadata_bytes;
    uint32_t zero;
};

/* A batch as it lies in memory. */
struct batch_view {
    struct batch_kind kind;
    uint32_t rows;
    uint64_t first_id;
    const uint8_t *bytes;
    const struct batch_row *row;
    const uint8_t *vectors;
};

struct batch_text {
    const char *text;
    size_t bytes;
};

bool batch_kind_equal(const struct batch_kind *left, const struct batch_kind *right);
size_t batch_vector_bytes(const struct batch_kind *kind);

/* Of one that is whole. */
struct batch_view batch_view(const struct attachment *batch);

static inline uint64_t batch_row_end(const struct batch_row *row) {
    return row->first + row->tokens;
}

struct batch_text batch_label(const struct batch_view *batch, uint32_t row);
struct batch_text batch_metadata(const struct batch_view *batch, uint32_t row);
const uint8_t *batch_vector(const struct batch_view *batch, uint32_t row);

/* 0 for the empty label, and for no other. */
uint64_t batch_label_hash(struct batch_text label);

/* Where the vectors begin, and the bytes of all, with so many rows and bytes of strings. */
uint64_t batch_vectors_offset(uint64_t rows, uint64_t string_bytes);
uint64_t batch_bytes(const struct batch_kind *kind, uint64_t rows, uint64_t string_bytes);

/* The first 64 bytes, and zeros between the strings and the vectors. */
void batch_write_head(uint8_t *bytes, const struct batch_kind *kind, uint32_t rows,
                      uint64_t string_bytes);

/* Whether what came out of a pool or from a disk is a batch of that many rows, undamaged. */
bool batch_is_whole(const struct attachment *batch, uint32_t rows);

/* What is wrong with a vector, or NULL: not finite, or, to be compared by its direction, zero. */
const char *batch_vector_fault(const struct batch_kind *kind, const uint8_t *vector);

/* --- as a client gives it --- */

struct batch_given {
    struct batch_kind kind;
    uint32_t rows;
    const uint8_t *entries, *strings, *vectors;
    uint64_t string_bytes;
};

struct batch_entry {
    uint64_t first;
    uint32_t tokens;
    uint16_t label_bytes, metadata_bytes;
};

/* The entries and what they say of what follows them; kind and rows are set. What is wrong with
 * it, or NULL. */
const char *batch_read_given(struct batch_given *given, const uint8_t *bytes, uint64_t count);

struct batch_entry batch_entry(const struct batch_given *given, uint32_t row);

#endif
