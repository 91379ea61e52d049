#include "proto/wire/dump.h"

#include <assert.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static_assert(sizeof(XXH3_state_t) <= WIRE_DUMP_HASH_BYTES, "a state has room");

enum { MAGIC_BYTES = 8, HEAD_HASH_OFFSET = 24, ALIGNMENT = 8, CHECKSUM_BYTES = 8 };
enum { IN_HEAD, IN_PART, IN_TAIL };

static const char magic[MAGIC_BYTES + 1] = "KVQDUMP\n";

static void put(uint8_t *bytes, uint64_t value, int count) {
    for (int i = 0; i < count; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *bytes, int count) {
    uint64_t value = 0;
    for (int i = 0; i < count; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

/* --- the checksum --- */

static void hash_begin(struct wire_dump_hash *hash, uint64_t seed) {
    (void)XXH3_64bits_reset_withSeed((XXH3_state_t *)hash->state, seed);
}

static void hash_add(struct wire_dump_hash *hash, const void *bytes, size_t count) {
    (void)XXH3_64bits_update((XXH3_state_t *)hash->state, bytes, count);
}

static uint64_t hash_end(const struct wire_dump_hash *hash) {
    return XXH3_64bits_digest((const XXH3_state_t *)hash->state);
}

uint64_t wire_dump_chain(uint64_t chain, uint64_t checksum) {
    uint8_t bytes[CHECKSUM_BYTES];
    put(bytes, checksum, CHECKSUM_BYTES);
    return XXH3_64bits_withSeed(bytes, sizeof bytes, chain);
}

/* --- parts --- */

static size_t padding(uint64_t bytes) {
    return (size_t)((ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT);
}

static void write_head(uint8_t head[WIRE_DUMP_HEAD_BYTES], const struct wire_dump_part *part) {
    memcpy(head, magic, MAGIC_BYTES);
    put(head + 8, WIRE_DUMP_VERSION, 2);
    put(head + 10, part->kind, 2);
    put(head + 12, part->number, 4);
    put(head + 16, part->bytes, 8);
    put(head + HEAD_HASH_OFFSET, XXH3_64bits(head, HEAD_HASH_OFFSET), CHECKSUM_BYTES);
}

void wire_dump_begin(struct wire_dump_writer *writer, const struct wire_dump_part *part,
                     uint8_t head[WIRE_DUMP_HEAD_BYTES]) {
    writer->part = *part;
    write_head(head, part);
    hash_begin(&writer->hash, part->number == 0 ? 0 : writer->chain);
    wire_dump_add(writer, head, WIRE_DUMP_HEAD_BYTES);
}

void wire_dump_add(struct wire_dump_writer *writer, const uint8_t *bytes, size_t count) {
    hash_add(&writer->hash, bytes, count);
    writer->bytes += count;
}

size_t wire_dump_end(struct wire_dump_writer *writer, uint8_t tail[WIRE_DUMP_TAIL_BYTES_MAX]) {
    size_t zeros = padding(writer->part.bytes);
    memset(tail, 0, zeros);
    hash_add(&writer->hash, tail, zeros);
    writer->chain = hash_end(&writer->hash);
    put(tail + zeros, writer->chain, CHECKSUM_BYTES);
    writer->bytes += zeros + CHECKSUM_BYTES;
    return zeros + CHECKSUM_BYTES;
}

/* Takes what is still missing of a head or tail. */
static size_t fill(struct wire_dump_reader *reader, const uint8_t *bytes, size_t count,
                   size_t whole) {
    size_t missing = whole - reader->filled, taken = count < missing ? count : missing;
    memcpy(reader->fixed + reader->filled, bytes, taken);
    reader->filled += (uint32_t)taken;
    reader->bytes += taken;
    return taken;
}

static enum wire_dump_event read_head(struct wire_dump_reader *reader) {
    const uint8_t *head = reader->fixed;
    if (memcmp(head, magic, MAGIC_BYTES) != 0)
        return WIRE_DUMP_DAMAGED;
    if (get(head + 8, 2) > WIRE_DUMP_VERSION)
        return WIRE_DUMP_NEWER;
    if (get(head + 8, 2) == 0 ||
        get(head + HEAD_HASH_OFFSET, CHECKSUM_BYTES) != XXH3_64bits(head, HEAD_HASH_OFFSET))
        return WIRE_DUMP_DAMAGED;
    reader->part = (struct wire_dump_part){.kind = (enum wire_dump_kind)get(head + 10, 2),
                                           .number = (uint32_t)get(head + 12, 4),
                                           .bytes = get(head + 16, 8)};
    reader->left = reader->part.bytes;
    hash_begin(&reader->hash, reader->part.number == 0 ? 0 : reader->chain);
    hash_add(&reader->hash, head, WIRE_DUMP_HEAD_BYTES);
    reader->stage = reader->left > 0 ? IN_PART : IN_TAIL;
    reader->filled = 0;
    return WIRE_DUMP_BEGINS;
}

static enum wire_dump_event read_tail(struct wire_dump_reader *reader) {
    static const uint8_t zeros[ALIGNMENT];
    size_t count = padding(reader->part.bytes);
    hash_add(&reader->hash, reader->fixed, count);
    reader->chain = hash_end(&reader->hash);
    reader->stage = IN_HEAD;
    reader->filled = 0;
    return memcmp(reader->fixed, zeros, count) == 0 &&
                   get(reader->fixed + count, CHECKSUM_BYTES) == reader->chain
               ? WIRE_DUMP_ENDS
               : WIRE_DUMP_DAMAGED;
}

static enum wire_dump_event read_part(struct wire_dump_reader *reader, const uint8_t *bytes,
                                      size_t count, size_t *taken, struct wire_dump_bytes *held) {
    *taken = count < reader->left ? count : (size_t)reader->left;
    *held = (struct wire_dump_bytes){bytes, *taken};
    hash_add(&reader->hash, bytes, *taken);
    reader->bytes += *taken;
    reader->left -= *taken;
    if (reader->left == 0)
        reader->stage = IN_TAIL;
    return WIRE_DUMP_HOLDS;
}

enum wire_dump_event wire_dump_read(struct wire_dump_reader *reader, const uint8_t *bytes,
                                    size_t count, size_t *taken, struct wire_dump_bytes *held) {
    *taken = 0;
    if (count == 0)
        return WIRE_DUMP_MORE;
    if (reader->stage == IN_PART)
        return read_part(reader, bytes, count, taken, held);
    size_t whole = reader->stage == IN_HEAD ? WIRE_DUMP_HEAD_BYTES
                                            : padding(reader->part.bytes) + CHECKSUM_BYTES;
    *taken = fill(reader, bytes, count, whole);
    if (reader->filled < whole)
        return WIRE_DUMP_MORE;
    return reader->stage == IN_HEAD ? read_head(reader) : read_tail(reader);
}

/* --- what some parts hold --- */

size_t wire_dump_session_bytes(const struct wire_dump_session *session) {
    return (size_t)WIRE_DUMP_SESSION_BYTES + session->tenant_bytes + session->model_bytes +
           session->session_bytes;
}

void wire_dump_write_session(uint8_t *bytes, const struct wire_dump_session *session) {
    memset(bytes, 0, WIRE_DUMP_SESSION_BYTES);
    put(bytes, session->tenant_bytes, 2);
    put(bytes + 2, session->model_bytes, 2);
    put(bytes + 4, session->session_bytes, 2);
    put(bytes + 6, (uint8_t)session->level, 1);
    put(bytes + 8, session->layers, 4);
    put(bytes + 12, session->heads, 4);
    put(bytes + 16, session->head_dim_k, 4);
    put(bytes + 20, session->head_dim_v, 4);
    put(bytes + 24, session->dtype, 4);
    put(bytes + 32, session->tokens, 8);
    put(bytes + 40, session->version, 8);
    put(bytes + 48, session->logical_bytes, 8);
    uint8_t *text = bytes + WIRE_DUMP_SESSION_BYTES;
    memcpy(text, session->tenant, session->tenant_bytes);
    memcpy(text + session->tenant_bytes, session->model, session->model_bytes);
    memcpy(text + session->tenant_bytes + session->model_bytes, session->session,
           session->session_bytes);
}

bool wire_dump_read_session(const uint8_t *bytes, size_t count, struct wire_dump_session *session) {
    if (count < WIRE_DUMP_SESSION_BYTES)
        return false;
    *session = (struct wire_dump_session){
        .tenant_bytes = (uint16_t)get(bytes, 2),
        .model_bytes = (uint16_t)get(bytes + 2, 2),
        .session_bytes = (uint16_t)get(bytes + 4, 2),
        .level = (int8_t)bytes[6],
        .layers = (uint32_t)get(bytes + 8, 4),
        .heads = (uint32_t)get(bytes + 12, 4),
        .head_dim_k = (uint32_t)get(bytes + 16, 4),
        .head_dim_v = (uint32_t)get(bytes + 20, 4),
        .dtype = (uint32_t)get(bytes + 24, 4),
        .tokens = get(bytes + 32, 8),
        .version = get(bytes + 40, 8),
        .logical_bytes = get(bytes + 48, 8),
        .tenant = (const char *)bytes + WIRE_DUMP_SESSION_BYTES,
    };
    session->model = session->tenant + session->tenant_bytes;
    session->session = session->model + session->model_bytes;
    return wire_dump_session_bytes(session) == count;
}

void wire_dump_write_totals(uint8_t bytes[WIRE_DUMP_END_BYTES],
                            const struct wire_dump_totals *totals) {
    put(bytes, totals->parts, 8);
    put(bytes + 8, totals->bytes, 8);
}

struct wire_dump_totals wire_dump_read_totals(const uint8_t bytes[WIRE_DUMP_END_BYTES]) {
    return (struct wire_dump_totals){get(bytes, 8), get(bytes + 8, 8)};
}

void wire_dump_write_closing(uint8_t bytes[WIRE_DUMP_CLOSING_BYTES],
                             const struct wire_dump_closing *closing) {
    put(bytes, closing->sessions, 8);
    put(bytes + 8, closing->bytes, 8);
    put(bytes + 16, closing->chain, 8);
}

struct wire_dump_closing wire_dump_read_closing(const uint8_t bytes[WIRE_DUMP_CLOSING_BYTES]) {
    return (struct wire_dump_closing){get(bytes, 8), get(bytes + 8, 8), get(bytes + 16, 8)};
}
