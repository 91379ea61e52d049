/* A manifest: a session as bytes, its chunks and its tail's rows by the numbers they have on disk.
 *
 * Bytes, little-endian:
 *     0  magic "KVQSESSN"             8  u32 format (1)
 *    12  u32 manifest bytes          16  u64 session id
 *    24  u64 version                 32  u64 tokens
 *    40  u32 tail tokens             44  u8 durability  45  s8 level  46  s8 newest level
 *    47  s8 floor                    48  geometry, as geometry_write() does
 *    84  u32 slices                  88  u32 tail pieces
 *    92  f64 decibels promised      100  u64 newest tokens
 *   108  u64 idle step, ms          116  u64 time to live, ms
 *   124  u64 created, 132  u64 last used, 140  u64 pinned until: microseconds since 1970
 *   148  u16 tenant bytes           150  u16 model bytes
 *   152  u16 session bytes
 *   154  s8 level that rows of the tail were coded at before, or exact
 *   155  u8 1: the last slice is the tail, coded; it has no pieces then
 *   156  u8 sharing                 157  u8 1: key summaries   158  2 bytes 0
 *   160  tenant, model, session
 *        slices, 28 bytes: u64 chunk, u64 start, u32 first, u32 tokens, s8 level, 3 bytes 0
 *        tail pieces, 12 bytes: u64 number, u32 rows
 *        with pieces and such a level: what the rows have lost, for each layer K then V, 24 bytes:
 *            f64 error, f64 energy, u64 1 where they are estimated
 *        u64 salts, u64 token ids
 *        salts, 88 bytes: u64 first token, u64 end, u64 bytes, 64 bytes
 *        token ids, u32 each
 *        sections up to the end, each u32 kind, u32 bytes, and so many bytes:
 *            1: u64 tokens that the session lost to evictions since it was last appended to
 *            2, of a chain of blocks: u64 position of its first token, then the blocks in the order
 *               of their tokens: u64 first token, u32 tokens, u8 key bytes, key
 *            3: attachments: u64 number, u64 bytes as given, u64 record bytes, u64 tokens, u8 name
 *               bytes, name
 *            4: batches of embeddings: u64 number, u64 bytes, u64 record bytes, u32 rows, u32 0,
 *               and of every 64 rows a u64 with a bit for each that is gone
 * Its checksum is the disk's. Sections of other kinds are skipped, as is what is behind the fields
 * of these; one that is not there says 0.
 */
#ifndef DAEMON_STORE_MANIFEST_H
#define DAEMON_STORE_MANIFEST_H

#include "daemon/store/block.h"
#include "daemon/store/session.h"

enum { MANIFEST_FORMAT = 1 };

struct manifest_slice {
    uint64_t chunk_id, start;
    uint32_t first, tokens;
    int level;
};

/* The strings and arrays are within the bytes it was read from. */
struct manifest {
    uint64_t session_id, version, tokens, lost_tokens;
    uint32_t tail_tokens, slice_count, piece_count;
    bool tail_is_coded; /* and the last slice */
    int tail_level;
    enum session_durability durability;
    enum session_sharing sharing;
    bool key_summaries;
    struct session_policy policy;
    struct geometry geometry;
    uint64_t created_us, used_us, pinned_us;
    const char *tenant;
    size_t tenant_bytes;
    struct session_names names;
    const uint8_t *slices, *pieces, *losses;
    uint64_t salt_count, id_count;
    const uint8_t *salts, *ids;
    uint64_t first_position;
    const uint8_t *blocks;
    size_t blocks_bytes;
    const uint8_t *attachments;
    size_t attachments_bytes;
    const uint8_t *batches;
    size_t batches_bytes;
};

/* What manifest_write() takes, with the session locked for both. */
size_t manifest_bytes(const struct session *session, size_t pieces);

void manifest_write(const struct session *session, const struct tail_piece *pieces,
                    size_t piece_count, uint8_t *bytes);

/* Whether it is of a format that this version does not know yet. */
bool manifest_is_newer(const uint8_t *bytes, size_t count);

/* 0, or -1 if no session has such a manifest. */
int manifest_read(struct manifest *manifest, const uint8_t *bytes, size_t count)
    __attribute__((warn_unused_result));

struct manifest_slice manifest_slice(const struct manifest *manifest, uint32_t index);
struct tail_piece manifest_piece(const struct manifest *manifest, uint32_t index);

/* Of the tail's rows, where tail_level is not exact. */
struct loss manifest_tail_loss(const struct manifest *manifest, uint32_t layer,
                               enum page_part part);

/* Its token ids and salts; there is room for as many as it has. */
void manifest_read_ids(const struct manifest *manifest, struct salt *salts, uint32_t *ids);

/* The next of a chain's blocks, `at` so many of blocks_bytes; false behind the last. */
bool manifest_next_block(const struct manifest *manifest, size_t *at, struct block_entry *block);

/* The same of its attachments; the name is within the bytes. */
bool manifest_next_attachment(const struct manifest *manifest, size_t *at,
                              struct attachment_spec *attachment);

/* The same of its batches. */
struct manifest_batch {
    struct attachment_spec spec;
    uint32_t rows;
    const uint8_t *gone;
};
bool manifest_next_batch(const struct manifest *manifest, size_t *at, struct manifest_batch *batch);

#endif
