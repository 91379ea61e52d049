/* Frames: the fixed header before every message and the descriptor of a DATA frame.
 *
 * PROTOCOL.md gives the bytes. Functions here work on the caller's memory and check every length
 * against the limits below before anybody allocates or waits for it.
 */
#ifndef PROTO_WIRE_FRAME_H
#define PROTO_WIRE_FRAME_H

#include <stdint.h>

enum {
    WIRE_HEADER_BYTES = 24,
    WIRE_DATA_BYTES = 24,
    WIRE_VERSION_MIN = 1,
    WIRE_VERSION_MAX = 1,
    WIRE_CONTROL_BYTES_MAX = 1 << 16,
    WIRE_PAYLOAD_BYTES_MAX = 1 << 20,
    WIRE_REQUESTS_MAX = 32,
    WIRE_APPEND_RUNS_MAX = 8192,
    WIRE_SESSION_BYTES_MAX = 255,
    WIRE_MODEL_BYTES_MAX = 255,
    WIRE_SNR_DB_MAX = 200,
    WIRE_SALT_BYTES_MAX = 64,
    WIRE_SALTS_MAX = 1024,
    WIRE_MATCH_TOKENS_MAX = 1 << 20,
    WIRE_BLOCK_KEY_BYTES_MAX = 64,
    WIRE_BLOCK_KEYS_MAX = 512,
    WIRE_ATTACHMENT_BYTES_MAX = 16 << 20,
    WIRE_ATTACHMENT_PIECE_BYTES = 256 << 10, /* of each DATA frame but the last */
    WIRE_ATTACHMENT_NAME_BYTES_MAX = 255,
    WIRE_ATTACHMENTS_MAX = 64,
    WIRE_INDEX_BYTES_MAX = 16 << 20,
    WIRE_INDEX_PIECE_BYTES = 256 << 10, /* likewise */
    WIRE_DUMP_FRAME_BYTES_MAX = 260 << 10,
    WIRE_DIM_MAX = 4096,
    WIRE_LABEL_BYTES_MAX = 255,
    WIRE_METADATA_BYTES_MAX = 1024,
    WIRE_RECALL_K_MAX = 512,
    WIRE_RECALL_SESSIONS_MAX = 1024,
    WIRE_RECALL_BLOCKS_MAX = 1 << 16, /* of a layer, by keys */
    WIRE_RANGE_BYTES = 16,            /* of tokens that were recalled by keys */
};

#define WIRE_MAGIC 0x3151564bu /* "KVQ1" */

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_PING = 2,
    WIRE_OPEN = 3,
    WIRE_APPEND = 4,
    WIRE_COMMIT = 5,
    WIRE_FETCH = 6,
    WIRE_INFO = 7,
    WIRE_LIST = 8,
    WIRE_DELETE = 9,
    WIRE_CANCEL = 10,
    WIRE_STATS = 11,
    WIRE_FORK = 12,
    WIRE_TRUNCATE = 13,
    WIRE_AGE = 14,
    WIRE_PIN = 15,
    WIRE_DELETE_MANY = 16,
    WIRE_POLICY = 17,
    WIRE_MATCH = 18,
    WIRE_FLUSH = 19,
    WIRE_ATTACH_PUT = 20,
    WIRE_ATTACH_GET = 21,
    WIRE_ATTACH_LIST = 22,
    WIRE_ATTACH_DELETE = 23,
    WIRE_BLOCK_PUT = 24,
    WIRE_BLOCK_GET = 25,
    WIRE_BLOCK_CONTROL = 26,
    WIRE_CONTROL = 27,
    WIRE_INDEX_PUT = 28,
    WIRE_INDEX_DELETE = 29,
    WIRE_RECALL = 30,
    WIRE_RECALL_KEYS = 31,
    WIRE_DATA = 32,
    WIRE_DUMP = 33,
    WIRE_RESTORE = 34,
    WIRE_REPLY = 64,
    WIRE_ERROR = 65,
};

enum { WIRE_TYPES = 40 }; /* what is below is a request, or belongs to one */

enum wire_part {
    WIRE_PART_K,
    WIRE_PART_V,
    WIRE_PART_TOKEN_IDS,
    WIRE_PART_BYTES,
    WIRE_PART_VECTORS
};

struct wire_header {
    uint8_t type;
    uint32_t request_id;
    uint32_t control_bytes;
    uint32_t payload_bytes;
};

struct wire_data {
    uint64_t first;
    uint32_t tokens, layer;
    uint8_t part; /* of enum wire_part */
};

void wire_header_write(uint8_t bytes[WIRE_HEADER_BYTES], const struct wire_header *header);

/* Returns WIRE_OK; WIRE_PROTOCOL for a wrong magic, flags or a payload where none may be;
 * WIRE_VERSION; WIRE_TOO_LARGE. All of these end the connection. */
int wire_header_read(const uint8_t bytes[WIRE_HEADER_BYTES], struct wire_header *header)
    __attribute__((warn_unused_result));

void wire_data_write(uint8_t bytes[WIRE_DATA_BYTES], const struct wire_data *data);

/* Returns WIRE_OK, or WIRE_PROTOCOL where bytes that must be 0 are not. */
int wire_data_read(const uint8_t bytes[WIRE_DATA_BYTES], struct wire_data *data)
    __attribute__((warn_unused_result));

#endif
