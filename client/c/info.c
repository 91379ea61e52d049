/* What the daemon knows about sessions and itself, lent out of the client's arena. */
#include "client/c/client.h"

#include <math.h>
#include <string.h>

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

static int fill_levels(struct kvq_client *client, const Kvq__SessionInfo *wire,
                       struct kvq_session_info *info) {
    if (wire->n_levels == 0)
        return KVQ_OK;
    struct kvq_level_info *levels =
        wire_arena_alloc(&client->arena, wire->n_levels * sizeof *levels);
    if (!levels)
        return no_room(client);
    for (size_t i = 0; i < wire->n_levels; i++)
        levels[i] = (struct kvq_level_info){
            .place = (enum kvq_place)wire->levels[i]->place,
            .level = wire->levels[i]->level,
            .tokens = wire->levels[i]->tokens,
            .bytes = wire->levels[i]->bytes,
        };
    info->levels = levels;
    info->level_count = wire->n_levels;
    return KVQ_OK;
}

static int fill_info(struct kvq_client *client, const Kvq__SessionInfo *wire,
                     struct kvq_session_info *info) {
    *info = (struct kvq_session_info){
        .session = kvq_lend_string(client, &wire->session),
        .model = kvq_lend_string(client, &wire->model),
        .level = wire->level,
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
        .k = kvq_loss_from_wire(wire->k),
        .v = kvq_loss_from_wire(wire->v),
    };
    kvq_geometry_from_wire(&info->geometry, wire->geometry);
    fill_figures(info);
    return fill_levels(client, wire, info);
}

int kvq_info(struct kvq_client *client, const char *session, struct kvq_session_info *info) {
    int error = kvq_begin_call(client, 0);
    if (!error)
        error = kvq_check_name(client, "session's name", session, KVQ_SESSION_BYTES_MAX);
    if (error)
        return error;
    Kvq__InfoRequest request = KVQ__INFO_REQUEST__INIT;
    request.session.data = (uint8_t *)session;
    request.session.len = strlen(session);
    const Kvq__SessionInfo *reply;
    error = kvq_request(client, WIRE_INFO, &request.base, &kvq__session_info__descriptor,
                        (ProtobufCMessage **)&reply);
    return error ? error : fill_info(client, reply, info);
}

int kvq_list(struct kvq_client *client, uint64_t after_id, uint32_t limit,
             struct kvq_session_list *list) {
    int error = kvq_begin_call(client, 0);
    if (error)
        return error;
    Kvq__ListRequest request = KVQ__LIST_REQUEST__INIT;
    request.after_id = after_id;
    request.limit = limit;
    const Kvq__ListReply *reply;
    error = kvq_request(client, WIRE_LIST, &request.base, &kvq__list_reply__descriptor,
                        (ProtobufCMessage **)&reply);
    if (error)
        return error;
    struct kvq_session_info *sessions =
        wire_arena_alloc(&client->arena, reply->n_sessions * sizeof *sessions);
    if (!sessions)
        return no_room(client);
    for (size_t i = 0; i < reply->n_sessions; i++) {
        error = fill_info(client, reply->sessions[i], &sessions[i]);
        if (error)
            return error;
        if (sessions[i].id <= after_id)
            return kvq_break(client, KVQ_DAEMON_PROTOCOL, "%s lists sessions out of order",
                             client->address);
        after_id = sessions[i].id;
    }
    *list = (struct kvq_session_list){sessions, reply->n_sessions,
                                      reply->more && reply->n_sessions > 0};
    return KVQ_OK;
}

static int fill_operations(struct kvq_client *client, const Kvq__StatsReply *reply,
                           struct kvq_stats *stats) {
    struct kvq_operation_count *operations =
        wire_arena_alloc(&client->arena, reply->n_operations * sizeof *operations);
    if (!operations)
        return no_room(client);
    for (size_t i = 0; i < reply->n_operations; i++)
        operations[i] = (struct kvq_operation_count){
            .operation = reply->operations[i]->operation,
            .requests = reply->operations[i]->requests,
            .errors = reply->operations[i]->errors,
        };
    stats->operations = operations;
    stats->operation_count = reply->n_operations;
    return KVQ_OK;
}

int kvq_stats(struct kvq_client *client, struct kvq_stats *stats) {
    int error = kvq_begin_call(client, 0);
    if (error)
        return error;
    Kvq__StatsRequest request = KVQ__STATS_REQUEST__INIT;
    const Kvq__StatsReply *reply;
    error = kvq_request(client, WIRE_STATS, &request.base, &kvq__stats_reply__descriptor,
                        (ProtobufCMessage **)&reply);
    if (error)
        return error;
    *stats = (struct kvq_stats){
        .version = reply->version,
        .pid = reply->pid,
        .uptime_seconds = reply->uptime_seconds,
        .sockets = (const char *const *)reply->sockets,
        .socket_count = reply->n_sockets,
        .limit_bytes = reply->limit_bytes,
        .used_bytes = reply->used_bytes,
        .rss_bytes = reply->rss_bytes,
        .sessions = reply->sessions,
        .tokens = reply->tokens,
        .bytes_16bit = reply->bytes_16bit,
        .stored_bytes = reply->stored_bytes,
        .connections = reply->connections,
    };
    return fill_operations(client, reply, stats);
}
