#include "daemon/rpc/messages.h"

#include <assert.h>
#include <string.h>

#include "daemon/base/clock.h"

static_assert((int)KVQ__DTYPE__DTYPE_F16 == PAGE_F16, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_BF16 == PAGE_BF16, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_F32 == PAGE_F32, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_FP8_E4M3 == PAGE_F8E4M3, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_FP8_E5M2 == PAGE_F8E5M2, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_INT8 == PAGE_I8, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_Q8_0 == PAGE_Q8_0, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_Q4_0 == PAGE_Q4_0, "dtypes are the same numbers");
static_assert((int)KVQ__PAIRING__PAIRING_INTERLEAVED == ROPE_INTERLEAVED, "pairings, too");
static_assert((int)KVQ__PAIRING__PAIRING_HALF == ROPE_HALF, "pairings, too");
static_assert((int)KVQ__SHARING__SHARING_IDS == SESSION_SHARES_IDS, "and sharing");
static_assert((int)KVQ__SHARING__SHARING_BYTES == SESSION_SHARES_BYTES, "and sharing");
static_assert((int)WIRE_SALT_BYTES_MAX == SALT_BYTES_MAX, "salts have room");
static_assert((int)WIRE_BLOCK_KEY_BYTES_MAX == BLOCK_KEY_BYTES_MAX, "keys have room");
static_assert((int)WIRE_BLOCK_KEYS_MAX == BLOCK_KEYS_MAX, "so have many");
static_assert((int)WIRE_ATTACHMENT_BYTES_MAX == ATTACHMENT_BYTES_MAX, "and attachments");
static_assert((int)WIRE_ATTACHMENT_PIECE_BYTES == ATTACHMENT_PIECE_BYTES, "a frame is a piece");
static_assert((int)WIRE_ATTACHMENT_NAME_BYTES_MAX == ATTACHMENT_NAME_BYTES_MAX, "names, too");
static_assert((int)WIRE_ATTACHMENTS_MAX == ATTACHMENTS_MAX, "so have many");
static_assert((int)WIRE_INDEX_BYTES_MAX == ATTACHMENT_BYTES_MAX, "a batch is one");
static_assert((int)WIRE_INDEX_PIECE_BYTES == ATTACHMENT_PIECE_BYTES, "and comes as one");
static_assert((int)WIRE_DIM_MAX == BATCH_DIM_MAX, "vectors have room");
static_assert((int)WIRE_LABEL_BYTES_MAX == BATCH_LABEL_BYTES_MAX, "and labels");
static_assert((int)WIRE_METADATA_BYTES_MAX == BATCH_METADATA_BYTES_MAX, "and metadata");
static_assert((int)KVQ__DTYPE__DTYPE_F16 == BATCH_F16, "dtypes are the same numbers");
static_assert((int)KVQ__DTYPE__DTYPE_F32 == BATCH_F32, "dtypes are the same numbers");
static_assert((int)KVQ__METRIC__METRIC_INNER_PRODUCT == BATCH_INNER_PRODUCT, "and metrics");

/* Bytes of the UTF-8 character at text, or 0 if it is not one (RFC 3629). */
static size_t utf8_length(const uint8_t *text, size_t bytes) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = text[0] < 0x80 ? 1 : text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : 4;
    if (length == 1)
        return 1;
    if (length > bytes || (length == 4 && text[0] >> 3 != 30))
        return 0;
    uint32_t code = text[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (text[i] >> 6 != 2)
            return 0;
        code = code << 6 | (text[i] & 0x3f);
    }
    bool surrogate = code >= 0xd800 && code < 0xe000;
    return code < least[length] || code > 0x10ffff || surrogate ? 0 : length;
}

static bool is_plain_utf8(const uint8_t *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        size_t length = utf8_length(text + at, bytes - at);
        if (length == 0 || text[at] < 0x20 || text[at] == 0x7f)
            return false;
        at += length;
    }
    return true;
}

uint32_t messages_read_name(struct rpc_request *request, const ProtobufCBinaryData *bytes,
                            struct store_name *name) {
    if (bytes->len == 0 || bytes->len > WIRE_SESSION_BYTES_MAX ||
        !is_plain_utf8(bytes->data, bytes->len))
        return rpc_fail(request, WIRE_INVALID,
                        "a session's name is 1 to 255 bytes of UTF-8 without control characters");
    *name = (struct store_name){(const char *)bytes->data, bytes->len, request->peer->tenant};
    memcpy(request->session_name, bytes->data, bytes->len);
    request->session_name[bytes->len] = 0;
    return WIRE_OK;
}

uint32_t messages_read_tenant(struct rpc_request *request, const char *text,
                              struct store_name *name) {
    struct tenants *tenants = &request->context->daemon->store->tenants;
    if (!text[0])
        return WIRE_OK;
    uint32_t code = role_check(request, ROLE_ADMIN, "the session of another tenant");
    if (code)
        return code;
    name->tenant = tenants_known(tenants, text, strlen(text));
    return name->tenant ? WIRE_OK : rpc_fail(request, WIRE_MISS, NULL);
}

bool messages_is_plain(const char *text, size_t bytes) {
    return is_plain_utf8((const uint8_t *)text, bytes);
}

uint32_t messages_read_attachment(struct rpc_request *request,
                                  const struct messages_attachment *message,
                                  struct attachment_key *key) {
    const ProtobufCBinaryData *name = message->name;
    uint32_t code = messages_read_name(request, message->session, &key->session);
    if (code)
        return code;
    if (name->len == 0 || name->len > WIRE_ATTACHMENT_NAME_BYTES_MAX ||
        !is_plain_utf8(name->data, name->len))
        return rpc_fail(request, WIRE_INVALID,
                        "an attachment's name is 1 to 255 bytes of UTF-8 without control "
                        "characters");
    key->name = (struct store_name){.text = (const char *)name->data, .bytes = name->len};
    key->if_version = message->if_version;
    return WIRE_OK;
}

uint32_t messages_fail_attachment(struct rpc_request *request, bool has_session) {
    return rpc_fail(request, WIRE_MISS, "%s",
                    has_session ? "the session has no attachment of this name"
                                : wire_error_info(WIRE_MISS)->sentence);
}

uint32_t messages_read_model(struct rpc_request *request, const ProtobufCBinaryData *bytes,
                             struct store_name *model) {
    if (bytes->len > WIRE_MODEL_BYTES_MAX || !is_plain_utf8(bytes->data, bytes->len))
        return rpc_fail(
            request, WIRE_INVALID,
            "a model's fingerprint is 1 to 255 bytes of UTF-8 without control characters");
    *model = (struct store_name){(const char *)bytes->data, bytes->len, request->peer->tenant};
    return WIRE_OK;
}

uint32_t messages_check_level(struct rpc_request *request, int level) {
    if (level < PAGE_LEVEL_MIN || level > PAGE_LEVEL_MAX)
        return rpc_fail(request, WIRE_INVALID, "a level is -2 (exact), -1 (fast8) or 0 to 5");
    return WIRE_OK;
}

uint32_t messages_read_geometry(struct rpc_request *request, const Kvq__Geometry *message,
                                struct geometry *geometry) {
    *geometry = (struct geometry){.layers = message->layers,
                                  .heads = message->heads,
                                  .head_dim_k = message->head_dim_k,
                                  .head_dim_v = message->head_dim_v,
                                  .dtype = (enum page_dtype)message->dtype,
                                  .rope_scaling = 1};
    if (message->rope) {
        geometry->rope_pairing = (enum rope_pairing)message->rope->pairing;
        geometry->rope_dims = message->rope->dims;
        geometry->rope_theta = message->rope->theta;
        if (message->rope->scaling != 0)
            geometry->rope_scaling = message->rope->scaling;
    }
    const char *fault = geometry_fault(geometry);
    if (fault)
        return rpc_fail(request, WIRE_INVALID, "geometry: %s", fault);
    const char *limit = geometry_limit(geometry);
    if (limit)
        return rpc_fail(request, WIRE_UNSUPPORTED, "geometry: %s", limit);
    return WIRE_OK;
}

void messages_write_geometry(const struct geometry *geometry, struct messages_geometry *message) {
    kvq__geometry__init(&message->geometry);
    kvq__rope__init(&message->rope);
    message->geometry.layers = geometry->layers;
    message->geometry.heads = geometry->heads;
    message->geometry.head_dim_k = geometry->head_dim_k;
    message->geometry.head_dim_v = geometry->head_dim_v;
    message->geometry.dtype = (Kvq__Dtype)geometry->dtype;
    message->geometry.rope = &message->rope;
    message->rope.pairing = (Kvq__Pairing)geometry->rope_pairing;
    message->rope.dims = geometry->rope_dims;
    message->rope.theta = geometry->rope_theta;
    message->rope.scaling = geometry->rope_scaling;
}

static bool read_salt(const Kvq__SaltRange *range, uint64_t from, uint64_t end, struct salt *salt) {
    if (range->first < from || range->first > end || range->tokens == 0 ||
        range->tokens > end - range->first || range->salt.len > WIRE_SALT_BYTES_MAX)
        return false;
    *salt = (struct salt){
        .first = range->first, .end = range->first + range->tokens, .bytes = range->salt.len};
    if (salt->bytes > 0)
        memcpy(salt->text, range->salt.data, salt->bytes);
    return true;
}

uint32_t messages_read_salts(struct rpc_request *request, const struct messages_salts *message,
                             const struct salt **salts) {
    uint64_t from = message->first, end = message->first + message->tokens;
    if (message->count == 0)
        return WIRE_OK;
    if (message->count > WIRE_SALTS_MAX)
        return rpc_fail(request, WIRE_TOO_LARGE, "a request has at most %d salts", WIRE_SALTS_MAX);
    struct salt *read = wire_arena_alloc(&request->context->arena, message->count * sizeof *read);
    if (!read)
        return rpc_fail(request, WIRE_TOO_LARGE, "the salts take more memory than is set aside");
    for (size_t i = 0; i < message->count; i++) {
        if (!read_salt(message->ranges[i], from, end, &read[i]))
            return rpc_fail(request, WIRE_INVALID,
                            "salts ascend, do not overlap, stay within the tokens and have at "
                            "most %d bytes",
                            WIRE_SALT_BYTES_MAX);
        from = read[i].end;
    }
    *salts = read;
    return WIRE_OK;
}

bool messages_are_ids(const struct wire_data *data, size_t payload_bytes) {
    return data->layer == 0 && payload_bytes == (uint64_t)data->tokens * sizeof(uint32_t);
}

size_t messages_write_levels(const uint64_t tokens[FETCH_LEVELS], struct messages_levels *message) {
    size_t count = 0;
    for (int i = 0; i < FETCH_LEVELS; i++) {
        if (tokens[i] == 0)
            continue;
        Kvq__LevelTokens *level = &message->levels[count];
        kvq__level_tokens__init(level);
        level->level = i + PAGE_LEVEL_MIN;
        level->tokens = tokens[i];
        message->pointers[count++] = level;
    }
    return count;
}

void messages_write_loss(const struct loss *loss, Kvq__Loss *message) {
    kvq__loss__init(message);
    message->error = loss->error;
    message->energy = loss->energy;
    message->estimated = loss->estimated;
}

/* What a SessionInfo points to. */
struct info_parts {
    Kvq__SessionInfo info;
    struct messages_geometry geometry;
    struct messages_policy policy;
    Kvq__PolicyState policy_state;
    Kvq__Attachments attachments;
    Kvq__Entries entries;
    Kvq__Loss k, v;
    Kvq__LevelInfo levels[INFO_LEVELS + 2];
    Kvq__LevelInfo *level_pointers[INFO_LEVELS + 2];
    char name[WIRE_SESSION_BYTES_MAX], model[WIRE_MODEL_BYTES_MAX];
};

static void add_level(struct info_parts *parts, Kvq__Place place, int level,
                      const struct info_count *count) {
    if (count->tokens == 0)
        return;
    Kvq__LevelInfo *message = &parts->levels[parts->info.n_levels];
    kvq__level_info__init(message);
    message->place = place;
    message->level = level;
    message->tokens = count->tokens;
    message->bytes = count->bytes;
    parts->level_pointers[parts->info.n_levels++] = message;
}

static void write_levels(struct info_parts *parts, const struct session_info *info) {
    parts->info.levels = parts->level_pointers;
    add_level(parts, KVQ__PLACE__PLACE_SINKS, PAGE_EXACT, &info->sinks);
    for (int level = PAGE_LEVEL_MIN; level <= PAGE_LEVEL_MAX; level++)
        add_level(parts, KVQ__PLACE__PLACE_PAGES, level, &info->levels[level - PAGE_LEVEL_MIN]);
    add_level(parts, KVQ__PLACE__PLACE_TAIL, info->tail_level, &info->tail);
}

static ProtobufCBinaryData copy(char *target, const char *text, size_t bytes) {
    memcpy(target, text, bytes);
    return (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)target};
}

Kvq__SessionInfo *messages_write_info(struct wire_arena *arena, const struct session *session,
                                      const struct session_info *info, bool with_levels) {
    struct info_parts *parts = wire_arena_alloc(arena, sizeof *parts);
    if (!parts)
        return NULL;
    Kvq__SessionInfo *message = &parts->info;
    kvq__session_info__init(message);
    message->session = copy(parts->name, session->name, session->name_bytes);
    message->model = copy(parts->model, session->model, session->model_bytes);
    message->tenant = session->tenant->name;
    message->id = info->id;
    message->version = info->state.version;
    message->tokens = info->state.tokens + info->state.lost_tokens;
    message->tokens_available = info->state.tokens;
    message->tail_tokens = info->state.tail_tokens;
    message->page_tokens = info->state.page_tokens;
    message->level = info->state.policy.level;
    message->min_snr_db = info->state.policy.min_snr_db;
    message->sharing = (Kvq__Sharing)info->sharing;
    message->token_ids_tokens = info->token_ids_tokens;
    message->disk_bytes = info->disk_bytes;
    message->durability = messages_write_durability(info->state.durability);
    message->key_summaries = info->state.key_summaries;
    message->key_summaries_bytes = info->key_summaries_bytes;
    message->values = info->values;
    message->logical_bytes = info->logical_bytes;
    message->stored_bytes = info->stored_bytes;
    message->unique_bytes = info->unique_bytes;
    message->age_ms = info->age_ns / CLOCK_NS_PER_MS;
    message->idle_ms = info->idle_ns / CLOCK_NS_PER_MS;
    message->pinned_ms = (info->pinned_ns + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS;
    messages_write_geometry(&info->state.geometry, &parts->geometry);
    message->geometry = &parts->geometry.geometry;
    messages_write_policy(&info->state.policy, &parts->policy);
    message->policy = &parts->policy.policy;
    kvq__policy_state__init(&parts->policy_state);
    parts->policy_state.idle_steps = (uint32_t)info->idle_steps;
    parts->policy_state.tail_coded = info->tail_coded;
    message->policy_state = &parts->policy_state;
    kvq__attachments__init(&parts->attachments);
    parts->attachments.count = (uint32_t)info->attachments.count;
    parts->attachments.bytes = info->attachments.given_bytes;
    parts->attachments.stored_bytes = info->attachments.memory_bytes;
    message->attachments = &parts->attachments;
    kvq__entries__init(&parts->entries);
    parts->entries.entries = info->batches.entries;
    parts->entries.batches = info->batches.batches;
    parts->entries.stored_bytes = info->batches.memory_bytes;
    message->entries = &parts->entries;
    messages_write_loss(&info->loss[PAGE_K], &parts->k);
    messages_write_loss(&info->loss[PAGE_V], &parts->v);
    message->k = &parts->k;
    message->v = &parts->v;
    if (with_levels)
        write_levels(parts, info);
    return message;
}
