/* One connection to the daemon: getting it, and sending and receiving frames on it.
 *
 * A connection owns its channel and two buffers. Requests that the client has given up are still
 * known to it: their frames are dropped as they come. Functions that may have to wait return
 * KVQ_AGAIN and are called again; every other failure is recorded in the client, and where the
 * connection is out of step or gone it is closed.
 */
#ifndef CLIENT_C_CONNECTION_H
#define CLIENT_C_CONNECTION_H

#include "client/c/channel.h"
#include "client/c/kvq.h"
#include "proto/wire/kvq.pb-c.h"

enum { KVQ_ABANDONED_MAX = 16 };

enum kvq_connection_state {
    KVQ_GONE,
    KVQ_CONNECTING,
    KVQ_SECURING, /* shaking hands over TLS */
    KVQ_GREETING, /* the HELLO is on its way */
    KVQ_READY,
};

/* What of the frame at hand has been received. */
enum kvq_frame_stage {
    KVQ_BETWEEN_FRAMES,
    KVQ_HEADER,
    KVQ_CONTROL,
    KVQ_FRAME,    /* header and control part, for whoever waits for it */
    KVQ_PAYLOAD,  /* goes where kvq_channel_expect_payload() was told */
    KVQ_DROPPING, /* of a frame that nobody waits for */
};

struct kvq_connection {
    struct kvq_channel channel;
    enum kvq_connection_state state;
    bool busy;        /* the call under way uses it */
    size_t address;   /* of the client's, that is being tried */
    int64_t retry_ns; /* 0: the socket tells when connecting has succeeded */
    uint32_t hello_id;
    short watched_events; /* in the client's epoll; -1: not there */
    enum kvq_frame_stage stage;
    struct wire_header header;
    uint8_t header_bytes[WIRE_HEADER_BYTES];
    bool has_left_append; /* one over several connections, given up: its answer is waited for */
    uint32_t abandoned[KVQ_ABANDONED_MAX];
    size_t abandoned_count;
    uint8_t *control;   /* WIRE_CONTROL_BYTES_MAX: what was received */
    uint8_t *bounce;    /* WIRE_PAYLOAD_BYTES_MAX: values that do not lie in rows */
    size_t bounce_used; /* by what is queued */
};

#pragma GCC visibility push(hidden)

/* NULL: no memory. */
struct kvq_connection *kvq_connection_new(void);
void kvq_connection_free(struct kvq_connection *connection);
void kvq_connection_close(struct kvq_connection *connection);

/* ---- connect.c ---- */

/* Connected, greeted, and nothing of earlier calls left to be sent. Connects where it is not. */
int kvq_connection_ready(struct kvq_client *client, struct kvq_connection *connection);

/* ---- Frames ---- */

/* Records the sentence, closes the connection and returns error. */
int kvq_break(struct kvq_client *client, struct kvq_connection *connection, int error,
              const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The same of a connection that has ended: by what is known of it. */
int kvq_lost(struct kvq_client *client, struct kvq_connection *connection);

/* Queues a frame without payload behind what is queued. message NULL: an empty control part. */
void kvq_queue_control(struct kvq_connection *connection, enum wire_type type, uint32_t request_id,
                       const uint8_t *control, size_t control_bytes);

/* Queues the header and descriptor of a DATA frame, for which there must be room; the caller queues
 * its payload behind them. */
void kvq_queue_data_head(struct kvq_connection *connection, uint32_t request_id,
                         const struct wire_data *data, size_t payload_bytes);

/* Queues a DATA frame whose payload lies in one piece, and stays there. */
void kvq_queue_data(struct kvq_connection *connection, uint32_t request_id,
                    const struct wire_data *data, const void *payload, size_t payload_bytes);

/* Sends what is queued, and takes a frame of request_id that comes meanwhile, which can only be a
 * refusal: kvq_frame_waits(). */
int kvq_send(struct kvq_client *client, struct kvq_connection *connection, uint32_t request_id);

/* Sends a request whose DATA and COMMIT are queued behind it. KVQ_OK, too, where an answer is there
 * before all is sent. */
int kvq_send_with_data(struct kvq_client *client, struct kvq_connection *connection,
                       uint32_t request_id);

/* Receives the next frame's header and control part: one of request_id, or an error that ends the
 * connection. */
int kvq_receive(struct kvq_client *client, struct kvq_connection *connection, uint32_t request_id);

bool kvq_frame_waits(const struct kvq_connection *connection);

/* Uses up a frame that must be a REPLY or ERROR. An ERROR is recorded and its number returned; a
 * REPLY is decoded into the arena as type. */
int kvq_read_answer(struct kvq_client *client, struct kvq_connection *connection,
                    const ProtobufCMessageDescriptor *type, ProtobufCMessage **reply);

/* Receives the answer, and lets go of what is still queued: one that came before all was sent is a
 * refusal. The daemon reads on up to the COMMIT behind it and does not answer that; the payload
 * before it need not be the caller's any more. */
int kvq_receive_answer(struct kvq_client *client, struct kvq_connection *connection,
                       uint32_t request_id, const ProtobufCMessageDescriptor *type,
                       ProtobufCMessage **reply);

/* Receives the payload of the DATA frame at hand. */
int kvq_receive_payload(struct kvq_client *client, struct kvq_connection *connection);

/* Gives a request up, at once: what was not sent yet is forgotten, else CANCEL follows it and what
 * comes of it later is dropped. From here on no memory of the caller's is used. */
void kvq_leave(struct kvq_connection *connection, uint32_t request_id);

/* Receives what still comes of the requests that were given up. */
int kvq_forget(struct kvq_client *client, struct kvq_connection *connection);

/* Whether the call can go on without a poll(), which does not see what TLS has read already. */
bool kvq_connection_can_go_on(const struct kvq_connection *connection);

/* What poll() is to wait for before the call can go on; 0: nothing but time. */
short kvq_connection_events(const struct kvq_connection *connection);

#pragma GCC visibility pop

#endif
