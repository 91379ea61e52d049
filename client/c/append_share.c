/* One connection's share of an append: one state machine for the whole of it and for its parts. */
#include "client/c/client.h"

#include <limits.h>
#include <string.h>

static struct kvq_connection *connection_of(struct kvq_client *client,
                                            const struct kvq_append_share *share) {
    return client->connections[share - client->append.shares];
}

static void close_share(struct kvq_client *client, struct kvq_append_share *share) {
    share->stage = KVQ_SHARE_CLOSED;
    connection_of(client, share)->busy = false;
}

/* ---- What it fails with ---- */

/* What the daemon refused outweighs what may only follow from another connection's end. */
static int weight_of(int error) {
    switch (error) {
    case KVQ_CANCELLED:
        return 1;
    case KVQ_INCOMPLETE:
        return 2;
    case KVQ_BUSY:
        return 3;
    case KVQ_CONNECTION_LOST:
        return 4;
    default:
        return 5;
    }
}

static void take_failure(struct kvq_client *client, int error, int weight) {
    struct kvq_append_failure *failure = &client->append.failure;
    if (weight <= failure->weight)
        return;
    failure->error = error;
    failure->weight = weight;
    failure->tokens = client->error_tokens;
    failure->tail_tokens = client->error_tail_tokens;
    memcpy(failure->message, client->message, sizeof failure->message);
}

static void fail(struct kvq_client *client, int error) {
    take_failure(client, error, weight_of(error));
}

/* ---- Stages: each moves the share's stage on, or returns what it waits for or failed with ---- */

/* Something came before COMMIT was sent: it can only be a refusal. The daemon reads on up to our
 * CANCEL and does not answer that. */
static int take_refusal(struct kvq_client *client, struct kvq_append_share *share) {
    struct kvq_connection *connection = connection_of(client, share);
    ProtobufCMessage *reply;
    int error = kvq_read_answer(client, connection, &kvq__append_reply__descriptor, &reply);
    if (!error)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s accepted an append before its end; the connection is closed",
                         client->address);
    if (connection->state != KVQ_READY)
        return error;
    fail(client, error);
    share->stage = KVQ_SHARE_REFUSED;
    return KVQ_OK;
}

/* Sends what is queued; the stage is then next, or that of a refusal. */
static int send_queued(struct kvq_client *client, struct kvq_append_share *share,
                       enum kvq_share_stage next) {
    struct kvq_connection *connection = connection_of(client, share);
    int error = kvq_send(client, connection, share->request_id);
    if (error == KVQ_AGAIN && kvq_frame_waits(connection))
        return take_refusal(client, share);
    if (!error)
        share->stage = next;
    return error;
}

static int report_progress(struct kvq_client *client, struct kvq_append_share *share) {
    const struct kvq_append *append = &client->append;
    const struct kvq_append_options *options = &append->options;
    uint64_t sent_tokens = 0;
    for (size_t i = 0; i < append->share_count; i++)
        sent_tokens += append->shares[i].run.offset - append->shares[i].begin;
    if (!append->whole || !options->progress ||
        options->progress(options->context,
                          sent_tokens * kvq_append_token_bytes(&append->geometry)))
        return KVQ_OK;
    kvq_fail(client, KVQ_CANCELLED, "the append was cancelled by its progress function");
    take_failure(client, KVQ_CANCELLED, INT_MAX);
    share->stage = KVQ_SHARE_ABORT;
    return KVQ_OK;
}

static int send_values(struct kvq_client *client, struct kvq_append_share *share) {
    const struct kvq_append *append = &client->append;
    struct kvq_connection *connection = connection_of(client, share);
    if (share->run.tokens == 0) {
        bool alone = append->whole && append->share_count == 1;
        share->stage = alone ? KVQ_SHARE_COMMIT : KVQ_SHARE_FLUSH;
        return KVQ_OK;
    }
    if (kvq_queue_frame(connection, append, share))
        return kvq_append_go_on(append, share) ? report_progress(client, share) : KVQ_OK;
    if (share->turn_bytes >= KVQ_STEP_BYTES_MAX / append->share_count)
        return KVQ_AGAIN;
    size_t queued_bytes = connection->channel.out_bytes;
    int error = send_queued(client, share, KVQ_SHARE_VALUES);
    if (!error) {
        share->turn_bytes += queued_bytes;
        client->call.moved_bytes += queued_bytes;
    }
    return error;
}

/* The end of the share follows what is queued. */
static int queue_end(struct kvq_client *client, struct kvq_append_share *share, enum wire_type type,
                     enum kvq_share_stage next) {
    kvq_queue_control(connection_of(client, share), type, share->request_id, NULL, 0);
    share->committed = share->committed || type == WIRE_COMMIT;
    share->stage = next;
    return KVQ_OK;
}

/* From where COMMIT is sent the daemon may have done it. */
static int send_commit(struct kvq_client *client, struct kvq_append_share *share) {
    int error = send_queued(client, share, KVQ_SHARE_ANSWER);
    client->call.sent = client->call.sent || share->stage == KVQ_SHARE_ANSWER;
    return error;
}

static int send_abort(struct kvq_client *client, struct kvq_append_share *share) {
    int error = kvq_send(client, connection_of(client, share), share->request_id);
    if (error)
        return error;
    client->call.sent = client->call.sent || share->committed;
    share->stage = KVQ_SHARE_ABORT_ANSWER;
    return KVQ_OK;
}

/* A connection that ends now changes nothing: the append was refused. */
static int send_refused(struct kvq_client *client, struct kvq_append_share *share) {
    int error = kvq_send(client, connection_of(client, share), 0);
    if (error == KVQ_AGAIN)
        return error;
    if (!error && share->stage == KVQ_SHARE_REFUSED)
        return queue_end(client, share, WIRE_CANCEL, KVQ_SHARE_REFUSED_CANCEL);
    close_share(client, share);
    return KVQ_OK;
}

/* All connections are told the same; of a block that is nothing. */
static int agree(struct kvq_client *client, struct kvq_connection *connection,
                 const Kvq__AppendReply *reply) {
    struct kvq_append *append = &client->append;
    const struct kvq_append_answer *known = &append->answer;
    if (reply->tail_tokens >= append->page_tokens)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s reports a tail that cannot be; the connection is closed",
                         client->address);
    if (append->visible && (reply->version != known->version || reply->tokens != known->tokens ||
                            reply->tail_tokens != known->tail_tokens))
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s gives one append two answers; the connection is closed",
                         client->address);
    append->visible = true;
    append->answer = (struct kvq_append_answer){reply->version, reply->tokens, reply->tail_tokens};
    return KVQ_OK;
}

static int take_answer(struct kvq_client *client, struct kvq_append_share *share) {
    struct kvq_connection *connection = connection_of(client, share);
    const Kvq__AppendReply *reply;
    int error = kvq_receive(client, connection, share->request_id);
    if (error)
        return error;
    error = kvq_read_answer(client, connection, &kvq__append_reply__descriptor,
                            (ProtobufCMessage **)&reply);
    if (error)
        return error;
    if (!share->committed)
        return kvq_break(client, connection, KVQ_DAEMON_PROTOCOL,
                         "%s accepted an append that was cancelled; the connection is closed",
                         client->address);
    error = agree(client, connection, reply);
    if (!error)
        close_share(client, share);
    return error;
}

static int run_stage(struct kvq_client *client, struct kvq_append_share *share) {
    switch (share->stage) {
    case KVQ_SHARE_VALUES:
        return send_values(client, share);
    case KVQ_SHARE_FLUSH:
        return send_queued(client, share, KVQ_SHARE_SENT);
    case KVQ_SHARE_COMMIT:
        return queue_end(client, share, WIRE_COMMIT, KVQ_SHARE_COMMIT_QUEUED);
    case KVQ_SHARE_COMMIT_QUEUED:
        return send_commit(client, share);
    case KVQ_SHARE_REFUSED:
    case KVQ_SHARE_REFUSED_CANCEL:
        return send_refused(client, share);
    case KVQ_SHARE_ABORT:
        return queue_end(client, share, WIRE_CANCEL, KVQ_SHARE_ABORT_QUEUED);
    case KVQ_SHARE_ABORT_QUEUED:
        return send_abort(client, share);
    case KVQ_SHARE_ANSWER:
    case KVQ_SHARE_ABORT_ANSWER:
        return take_answer(client, share);
    case KVQ_SHARE_SENT:
    case KVQ_SHARE_CLOSED:
        break;
    }
    return KVQ_OK;
}

/* While others send, this one may be refused. */
static int look_for_refusal(struct kvq_client *client, struct kvq_append_share *share) {
    int error = kvq_receive(client, connection_of(client, share), share->request_id);
    if (error == KVQ_AGAIN)
        return KVQ_OK;
    return error ? error : take_refusal(client, share);
}

int kvq_append_share_step(struct kvq_client *client, struct kvq_append_share *share) {
    int error = KVQ_OK;
    share->turn_bytes = 0;
    if (client->append.failure.error && share->stage < KVQ_SHARE_REFUSED)
        share->stage = KVQ_SHARE_ABORT;
    if (share->stage == KVQ_SHARE_SENT)
        error = look_for_refusal(client, share);
    while (!error && share->stage != KVQ_SHARE_SENT && share->stage != KVQ_SHARE_CLOSED)
        error = run_stage(client, share);
    if (error == KVQ_AGAIN)
        return error;
    if (error) {
        fail(client, error);
        close_share(client, share);
    }
    return KVQ_OK;
}

void kvq_append_share_leave(struct kvq_client *client, struct kvq_append_share *share) {
    struct kvq_connection *connection = connection_of(client, share);
    bool refused = share->stage == KVQ_SHARE_REFUSED || share->stage == KVQ_SHARE_REFUSED_CANCEL;
    if (share->stage == KVQ_SHARE_CLOSED)
        return;
    if (!refused) {
        kvq_leave(connection, share->request_id);
        connection->has_left_append = connection->state == KVQ_READY;
        return;
    }
    kvq_channel_disown_output(&connection->channel, connection->bounce);
    if (share->stage == KVQ_SHARE_REFUSED)
        queue_end(client, share, WIRE_CANCEL, KVQ_SHARE_REFUSED_CANCEL);
}
