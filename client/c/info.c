/* What the daemon knows about sessions and itself, lent out of the client's arena. */
#include "client/c/client.h"

#include <math.h>

static double quotient(double over, double under) {
    return under > 0 ? over / under : NAN;
}

static double snr_db(const struct kvq_loss *loss) {
    return loss->error > 0 && loss->energy > 0 ? 10 * log10(loss->energy / loss->error) : NAN;
}

static void fill_figures(struct kvq_session_info *info) {
    double stored_bytes = (double)info->stored_bytes, values = (double)info->values;
    info->ratio = quotient(2 * values, stored_bytes);
    info->ratio_input = quotient((double)info->logical_bytes, stored_bytes);
    info->bits_per_value = quotient(8 * stored_bytes, values);
    info->snr_k_db = snr_db(&info->k);
    info->snr_v_db = snr_db(&info->v);
}

static int no_room(struct kvq_client *client) {
    return kvq_fail(client, KVQ_NO_MEMORY,
                    "the daemon's answer takes more memory than is set aside");
}

int kvq_fill_levels(struct kvq_client *client, Kvq__LevelInfo *const *wire, size_t count,
                    const struct kvq_level_info **levels, size_t *level_count) {
    if (count == 0)
        return KVQ_OK;
    struct kvq_level_info *copies = wire_arena_alloc(&client->arena, count * sizeof *copies);
    if (!copies)
        return no_room(client);
    for (size_t i = 0; i < count; i++)
        copies[i] = (struct kvq_level_info){
            .place = (enum kvq_place)wire[i]->place,
            .level = wire[i]->level,
            .tokens = wire[i]->tokens,
            .bytes = wire[i]->bytes,
        };
    *levels = copies;
    *level_count = count;
    return KVQ_OK;
}

static int fill_info(struct kvq_client *client, const Kvq__SessionInfo *wire,
                     struct kvq_session_info *info) {
    ProtobufCBinaryData tenant = kvq_text(wire->tenant);
    *info = (struct kvq_session_info){
        .session = kvq_lend_string(client, &wire->session),
        .model = kvq_lend_string(client, &wire->model),
        .tenant = kvq_lend_string(client, &tenant),
        .level = wire->level,
        .min_snr_db = wire->min_snr_db,
        .id = wire->id,
        .version = wire->version,
        .tokens = wire->tokens,
        .tokens_available = wire->tokens_available,
        .tail_tokens = wire->tail_tokens,
        .page_tokens = wire->page_tokens,
        .logical_bytes = wire->logical_bytes,
        .stored_bytes = wire->stored_bytes,
        .unique_bytes = wire->unique_bytes,
        .values = wire->values,
        .age_ms = wire->age_ms,
        .idle_ms = wire->idle_ms,
        .pinned_ms = wire->pinned_ms,
        .sharing = (enum kvq_sharing)wire->sharing,
        .durability = (enum kvq_durability)wire->durability,
        .disk_bytes = wire->disk_bytes,
        .key_summaries = wire->key_summaries,
        .key_summaries_bytes = wire->key_summaries_bytes,
        .token_ids_tokens = wire->token_ids_tokens,
        .k = kvq_loss_from_wire(wire->k),
        .v = kvq_loss_from_wire(wire->v),
    };
    info->policy = kvq_policy_from_wire(wire->policy);
    if (wire->policy_state) {
        info->idle_steps = wire->policy_state->idle_steps;
        info->tail_coded = wire->policy_state->tail_coded;
    }
    if (wire->attachments) {
        info->attachments.count = wire->attachments->count;
        info->attachments.bytes = wire->attachments->bytes;
        info->attachments.stored_bytes = wire->attachments->stored_bytes;
    }
    if (wire->entries) {
        info->embeddings.entries = wire->entries->entries;
        info->embeddings.batches = wire->entries->batches;
        info->embeddings.stored_bytes = wire->entries->stored_bytes;
    }
    kvq_geometry_from_wire(&info->geometry, wire->geometry);
    fill_figures(info);
    return kvq_fill_levels(client, wire->levels, wire->n_levels, &info->levels, &info->level_count);
}

static int finish_info(struct kvq_client *client, const ProtobufCMessage *message) {
    return fill_info(client, (const Kvq__SessionInfo *)message, client->call.request.result);
}

int kvq_info(struct kvq_client *client, const char *session, struct kvq_session_info *info) {
    int error = kvq_begin_call(client, 0);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    Kvq__InfoRequest request = KVQ__INFO_REQUEST__INIT;
    request.session = kvq_text(session);
    return kvq_request(client, WIRE_INFO, true, &request.base, &kvq__session_info__descriptor,
                       finish_info, info);
}

static int finish_list(struct kvq_client *client, const ProtobufCMessage *message) {
    const Kvq__ListReply *reply = (const Kvq__ListReply *)message;
    uint64_t last_id = client->call.request.after_id;
    struct kvq_session_info *sessions =
        wire_arena_alloc(&client->arena, reply->n_sessions * sizeof *sessions);
    if (!sessions)
        return no_room(client);
    for (size_t i = 0; i < reply->n_sessions; i++) {
        int error = fill_info(client, reply->sessions[i], &sessions[i]);
        if (error)
            return error;
        if (sessions[i].id <= last_id)
            return kvq_impossible(client, "an order of sessions");
        last_id = sessions[i].id;
    }
    *(struct kvq_session_list *)client->call.request.result = (struct kvq_session_list){
        sessions, reply->n_sessions, reply->more && reply->n_sessions > 0};
    return KVQ_OK;
}

static int list_page(struct kvq_client *client, uint64_t after_id, uint32_t limit, bool all_tenants,
                     struct kvq_session_list *list) {
    int error = kvq_begin_call(client, 0);
    if (error)
        return error;
    Kvq__ListRequest request = KVQ__LIST_REQUEST__INIT;
    request.after_id = after_id;
    request.limit = limit;
    request.all_tenants = all_tenants;
    client->call.request.after_id = after_id;
    return kvq_request(client, WIRE_LIST, true, &request.base, &kvq__list_reply__descriptor,
                       finish_list, list);
}

int kvq_list(struct kvq_client *client, uint64_t after_id, uint32_t limit,
             struct kvq_session_list *list) {
    return list_page(client, after_id, limit, false, list);
}

int kvq_list_all(struct kvq_client *client, uint64_t after_id, uint32_t limit,
                 struct kvq_session_list *list) {
    return list_page(client, after_id, limit, true, list);
}
