#include "daemon/store/manifest.h"

#include <math.h>
#include <string.h>

#include "daemon/base/bytes.h"
#include "daemon/base/clock.h"
#include "daemon/store/manifest_sections.h"

enum {
    MAGIC_BYTES = 8,
    GEOMETRY_OFFSET = 48,
    FIXED_BYTES = 160,
    SLICE_BYTES = 28,
    PIECE_BYTES = 12,
    LOSS_BYTES = 24,
    IDS_HEAD_BYTES = 16,
    SALT_BYTES = 24 + SALT_BYTES_MAX,
    NAME_BYTES_MAX = 255,
};

static const char magic[MAGIC_BYTES + 1] = "KVQSESSN";

static size_t losses_bytes(const struct geometry *geometry) {
    return (size_t)geometry->layers * GEOMETRY_PARTS * LOSS_BYTES;
}

/* What the raw rows have lost before. */
static int tail_level(const struct session *session, size_t pieces) {
    return pieces > 0 && session->tail ? session->tail->level : PAGE_EXACT;
}

/* The tail is a slice where no pieces have it. */
static size_t slice_count(const struct session *session, size_t pieces) {
    return session->slice_count + (session->coded_tail.chunk && pieces == 0);
}

static void count_salts(void *context, const struct token_ids *page) {
    *(size_t *)context += page->salt_count;
}

static size_t salts_of(const struct session *session) {
    size_t count = 0;
    prefix_each(session, count_salts, &count);
    return count;
}

size_t manifest_bytes(const struct session *session, size_t pieces) {
    bool has_losses = tail_level(session, pieces) > PAGE_EXACT;
    return FIXED_BYTES + session->tenant->name_bytes + session->model_bytes + session->name_bytes +
           slice_count(session, pieces) * SLICE_BYTES + pieces * PIECE_BYTES +
           has_losses * losses_bytes(&session->geometry) + IDS_HEAD_BYTES +
           salts_of(session) * SALT_BYTES + session->prefix.tokens * sizeof(uint32_t) +
           manifest_sections_bytes(session);
}

/* Of the clock that stands still while the machine does not run, as a time of day. */
static uint64_t time_of_day_us(uint64_t ns) {
    uint64_t now_ns = clock_now_ns(), now_us = clock_wall_us();
    if (ns > now_ns)
        return (ns - now_ns) / 1000 < UINT64_MAX - now_us ? now_us + (ns - now_ns) / 1000
                                                          : UINT64_MAX;
    return now_us - (now_ns - ns) / 1000;
}

static void write_fixed(const struct session *session, uint8_t *bytes) {
    const struct session_policy *policy = &session->policy;
    memcpy(bytes, magic, MAGIC_BYTES);
    bytes_put(bytes + 8, MANIFEST_FORMAT, 4);
    bytes_put(bytes + 16, session->id, 8);
    bytes_put(bytes + 24, session->version, 8);
    bytes_put(bytes + 32, session->tokens, 8);
    bytes_put(bytes + 40, session->tail_tokens, 4);
    bytes_put(bytes + 44, session->durability, 1);
    bytes_put(bytes + 45, (uint8_t)policy->level, 1);
    bytes_put(bytes + 46, (uint8_t)policy->newest_level, 1);
    bytes_put(bytes + 47, (uint8_t)policy->floor, 1);
    geometry_write(&session->geometry, bytes + GEOMETRY_OFFSET);
    bytes_put_double(bytes + 92, policy->min_snr_db);
    bytes_put(bytes + 100, policy->newest_tokens, 8);
    bytes_put(bytes + 108, policy->idle_step_ms, 8);
    bytes_put(bytes + 116, policy->ttl_ms, 8);
    bytes_put(bytes + 124, time_of_day_us(session->created_ns), 8);
    bytes_put(bytes + 132, time_of_day_us(session->used_ns), 8);
    bytes_put(bytes + 140, time_of_day_us(session->pinned_until_ns), 8);
    bytes_put(bytes + 148, session->tenant->name_bytes, 2);
    bytes_put(bytes + 156, session->sharing, 1);
    bytes_put(bytes + 157, session->key_summaries, 3);
    bytes_put(bytes + 150, session->model_bytes, 2);
    bytes_put(bytes + 152, session->name_bytes, 2);
}

static uint8_t *write_string(uint8_t *to, const char *text, size_t bytes) {
    memcpy(to, text, bytes);
    return to + bytes;
}

static uint8_t *write_slice(uint8_t *to, const struct slice *slice) {
    bytes_put(to, slice->chunk->id, 8);
    bytes_put(to + 8, slice->start, 8);
    bytes_put(to + 16, slice->first, 4);
    bytes_put(to + 20, slice->tokens, 4);
    bytes_put(to + 24, (uint8_t)slice->level, 4);
    return to + SLICE_BYTES;
}

static uint8_t *write_losses(const struct tail *tail, uint8_t *to) {
    for (uint32_t i = 0; i < tail->geometry.layers * GEOMETRY_PARTS; i++, to += LOSS_BYTES) {
        bytes_put_double(to, tail->losses[i].error);
        bytes_put_double(to + 8, tail->losses[i].energy);
        bytes_put(to + 16, tail->losses[i].estimated, 8);
    }
    return to;
}

/* Where the first token's id goes, and behind what salts end; pages come from the last on. */
struct ids_target {
    uint8_t *ids, *salts_end;
};

static void write_page_ids(void *context, const struct token_ids *page) {
    struct ids_target *target = context;
    for (size_t i = 0; i < page->count; i++)
        bytes_put(target->ids + (page->first + i) * sizeof *page->ids, page->ids[i],
                  sizeof *page->ids);
    for (size_t i = page->salt_count; i-- > 0;) {
        const struct salt *salt = &page->salts[i];
        uint8_t *to = target->salts_end -= SALT_BYTES;
        bytes_put(to, salt->first, 8);
        bytes_put(to + 8, salt->end, 8);
        bytes_put(to + 16, salt->bytes, 8);
        memcpy(to + 24, salt->text, SALT_BYTES_MAX);
    }
}

static uint8_t *write_ids(const struct session *session, uint8_t *to) {
    size_t salts = salts_of(session);
    bytes_put(to, salts, 8);
    bytes_put(to + 8, session->prefix.tokens, 8);
    uint8_t *salts_end = to + IDS_HEAD_BYTES + salts * SALT_BYTES;
    prefix_each(session, write_page_ids, &(struct ids_target){salts_end, salts_end});
    return salts_end + session->prefix.tokens * sizeof(uint32_t);
}

void manifest_write(const struct session *session, const struct tail_piece *pieces,
                    size_t piece_count, uint8_t *bytes) {
    write_fixed(session, bytes);
    bytes_put(bytes + 12, manifest_bytes(session, piece_count), 4);
    bytes_put(bytes + 84, slice_count(session, piece_count), 4);
    bytes_put(bytes + 88, piece_count, 4);
    bytes_put(bytes + 154, (uint8_t)tail_level(session, piece_count), 1);
    bytes_put(bytes + 155, slice_count(session, piece_count) > session->slice_count, 1);
    uint8_t *to = bytes + FIXED_BYTES;
    to = write_string(to, session->tenant->name, session->tenant->name_bytes);
    to = write_string(to, session->model, session->model_bytes);
    to = write_string(to, session->name, session->name_bytes);
    for (size_t i = 0; i < session->slice_count; i++)
        to = write_slice(to, &session->slices[i]);
    if (slice_count(session, piece_count) > session->slice_count)
        to = write_slice(to, &session->coded_tail);
    for (size_t i = 0; i < piece_count; i++, to += PIECE_BYTES) {
        bytes_put(to, pieces[i].id, 8);
        bytes_put(to + 8, pieces[i].rows, 4);
    }
    if (tail_level(session, piece_count) > PAGE_EXACT)
        to = write_losses(session->tail, to);
    manifest_sections_write(session, write_ids(session, to));
}

static void read_fixed(struct manifest *manifest, const uint8_t *bytes) {
    *manifest = (struct manifest){
        .session_id = bytes_get(bytes + 16, 8),
        .version = bytes_get(bytes + 24, 8),
        .tokens = bytes_get(bytes + 32, 8),
        .tail_tokens = (uint32_t)bytes_get(bytes + 40, 4),
        .durability = (enum session_durability)bytes[44],
        .slice_count = (uint32_t)bytes_get(bytes + 84, 4),
        .piece_count = (uint32_t)bytes_get(bytes + 88, 4),
        .policy = {.level = (int8_t)bytes[45],
                   .newest_level = (int8_t)bytes[46],
                   .floor = (int8_t)bytes[47],
                   .min_snr_db = bytes_get_double(bytes + 92),
                   .newest_tokens = bytes_get(bytes + 100, 8),
                   .idle_step_ms = bytes_get(bytes + 108, 8),
                   .ttl_ms = bytes_get(bytes + 116, 8)},
        .created_us = bytes_get(bytes + 124, 8),
        .used_us = bytes_get(bytes + 132, 8),
        .pinned_us = bytes_get(bytes + 140, 8),
        .tail_level = (int8_t)bytes[154],
        .sharing = (enum session_sharing)bytes[156],
        .key_summaries = bytes[157] != 0,
        .tail_is_coded = bytes[155] != 0,
        .tenant_bytes = bytes_get(bytes + 148, 2),
        .names = {.model_bytes = bytes_get(bytes + 150, 2),
                  .session_bytes = bytes_get(bytes + 152, 2)},
    };
    geometry_read(&manifest->geometry, bytes + GEOMETRY_OFFSET);
}

static bool is_level(int level) {
    return level >= PAGE_LEVEL_MIN && level <= PAGE_LEVEL_MAX;
}

/* With its strings and arrays in place: whether a session can be like that. */
static bool can_be(const struct manifest *manifest) {
    const struct session_policy *policy = &manifest->policy;
    const struct geometry *geometry = &manifest->geometry;
    uint64_t token = 0, rows = 0;
    if (geometry_fault(geometry) || geometry_limit(geometry) ||
        manifest->durability > SESSION_ON_DISK || manifest->sharing > SESSION_SHARES_BYTES ||
        !is_level(policy->level) || !is_level(manifest->tail_level) ||
        !is_level(policy->newest_level) || !is_level(policy->floor) || !(policy->min_snr_db >= 0) ||
        isinf(policy->min_snr_db))
        return false;
    for (uint32_t i = 0; i < manifest->slice_count; i++) {
        struct manifest_slice slice = manifest_slice(manifest, i);
        if (slice.start != token || slice.tokens == 0 || !is_level(slice.level))
            return false;
        token += slice.tokens;
    }
    for (uint32_t i = 0; i < manifest->piece_count; i++)
        rows += manifest_piece(manifest, i).rows;
    uint64_t raw = manifest->tail_is_coded ? 0 : manifest->tail_tokens;
    return token + raw == manifest->tokens && rows == raw &&
           manifest->tail_tokens < geometry_page_tokens(geometry) &&
           (!manifest->tail_is_coded || manifest->slice_count > 0);
}

/* Salts that overlap or are out of order have no place among others. */
static bool are_in_order(const struct manifest *manifest) {
    uint64_t end = 0;
    for (uint64_t i = 0; i < manifest->salt_count; i++) {
        const uint8_t *salt = manifest->salts + i * SALT_BYTES;
        if (bytes_get(salt, 8) < end || bytes_get(salt + 8, 8) < bytes_get(salt, 8) ||
            bytes_get(salt + 16, 8) > SALT_BYTES_MAX)
            return false;
        end = bytes_get(salt + 8, 8);
    }
    return true;
}

/* What is behind them, or NULL if that cannot be; what does not go so far has none. */
static const uint8_t *read_ids(struct manifest *manifest, const uint8_t *from, const uint8_t *end) {
    size_t room = (size_t)(end - from);
    if (room < IDS_HEAD_BYTES)
        return end;
    uint64_t salts = bytes_get(from, 8), ids = bytes_get(from + 8, 8);
    if (ids > manifest->tokens || salts > room / SALT_BYTES || ids > room / sizeof(uint32_t) ||
        IDS_HEAD_BYTES + salts * SALT_BYTES + ids * sizeof(uint32_t) > room)
        return NULL;
    manifest->salt_count = salts;
    manifest->id_count = ids;
    manifest->salts = from + IDS_HEAD_BYTES;
    manifest->ids = manifest->salts + salts * SALT_BYTES;
    return are_in_order(manifest) ? manifest->ids + ids * sizeof(uint32_t) : NULL;
}

bool manifest_is_newer(const uint8_t *bytes, size_t count) {
    return count >= FIXED_BYTES && memcmp(bytes, magic, MAGIC_BYTES) == 0 &&
           bytes_get(bytes + 8, 4) > MANIFEST_FORMAT;
}

int manifest_read(struct manifest *manifest, const uint8_t *bytes, size_t count) {
    if (count < FIXED_BYTES || memcmp(bytes, magic, MAGIC_BYTES) != 0 ||
        bytes_get(bytes + 8, 4) != MANIFEST_FORMAT || bytes_get(bytes + 12, 4) != count)
        return -1;
    read_fixed(manifest, bytes);
    struct session_names *names = &manifest->names;
    uint64_t strings = manifest->tenant_bytes + names->model_bytes + names->session_bytes;
    uint64_t slices = (uint64_t)manifest->slice_count * SLICE_BYTES;
    uint64_t pieces = (uint64_t)manifest->piece_count * PIECE_BYTES;
    uint64_t losses =
        manifest->tail_level > PAGE_EXACT && manifest->geometry.layers <= GEOMETRY_LAYERS_MAX
            ? losses_bytes(&manifest->geometry)
            : 0;
    if (names->model_bytes > NAME_BYTES_MAX || names->session_bytes > NAME_BYTES_MAX ||
        names->session_bytes == 0 || FIXED_BYTES + strings + slices + pieces + losses > count)
        return -1;
    manifest->tenant = (const char *)bytes + FIXED_BYTES;
    names->model = manifest->tenant + manifest->tenant_bytes;
    names->session = names->model + names->model_bytes;
    manifest->slices = bytes + FIXED_BYTES + strings;
    manifest->pieces = manifest->slices + slices;
    manifest->losses = manifest->pieces + pieces;
    const uint8_t *end = bytes + count;
    if (!can_be(manifest))
        return -1;
    const uint8_t *sections = read_ids(manifest, manifest->losses + losses, end);
    return sections && manifest_sections_read(manifest, sections, end) ? 0 : -1;
}

struct manifest_slice manifest_slice(const struct manifest *manifest, uint32_t index) {
    const uint8_t *from = manifest->slices + (size_t)index * SLICE_BYTES;
    return (struct manifest_slice){.chunk_id = bytes_get(from, 8),
                                   .start = bytes_get(from + 8, 8),
                                   .first = (uint32_t)bytes_get(from + 16, 4),
                                   .tokens = (uint32_t)bytes_get(from + 20, 4),
                                   .level = (int8_t)from[24]};
}

struct tail_piece manifest_piece(const struct manifest *manifest, uint32_t index) {
    const uint8_t *from = manifest->pieces + (size_t)index * PIECE_BYTES;
    return (struct tail_piece){bytes_get(from, 8), (uint32_t)bytes_get(from + 8, 4)};
}

struct loss manifest_tail_loss(const struct manifest *manifest, uint32_t layer,
                               enum page_part part) {
    const uint8_t *from = manifest->losses + (layer * GEOMETRY_PARTS + part) * (size_t)LOSS_BYTES;
    return (struct loss){bytes_get_double(from), bytes_get_double(from + 8), from[16] != 0};
}

void manifest_read_ids(const struct manifest *manifest, struct salt *salts, uint32_t *ids) {
    for (uint64_t i = 0; i < manifest->salt_count; i++) {
        const uint8_t *from = manifest->salts + i * SALT_BYTES;
        uint64_t bytes = bytes_get(from + 16, 8);
        salts[i] = (struct salt){.first = bytes_get(from, 8),
                                 .end = bytes_get(from + 8, 8),
                                 .bytes = bytes < SALT_BYTES_MAX ? bytes : SALT_BYTES_MAX};
        memcpy(salts[i].text, from + 24, SALT_BYTES_MAX);
    }
    token_ids_read(manifest->ids, manifest->id_count, ids);
}
