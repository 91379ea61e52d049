/* A stream socket, plain or with TLS, and what is to be read from it and written to it: whole
 * pieces of memory, moved as far as the socket allows, straight from and to where they stand.
 *
 * A channel owns its socket and lends nothing. It reads at most one frame's header and descriptor
 * ahead of a payload, so that payload never passes through a buffer. What is queued must stay in
 * place until it is sent. kvq_channel_send() and kvq_channel_fill() return KVQ_OK once all is done,
 * KVQ_AGAIN where the socket has to get ready first, or KVQ_CONNECTION_LOST: the channel is then to
 * be closed.
 */
#ifndef CLIENT_C_CHANNEL_H
#define CLIENT_C_CHANNEL_H

#include "client/c/rows.h"
#include "proto/wire/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    KVQ_AHEAD_BYTES = 256, /* of a small answer: it comes with one call then */
    KVQ_AHEAD_OF_PAYLOAD_BYTES = WIRE_HEADER_BYTES + WIRE_DATA_BYTES,
    KVQ_HEADS_BYTES = 8192,
    KVQ_SPARE_FRAMES = 2,
    KVQ_OUTPUT_PIECES_MAX = 2 * (KVQ_PIECES_MAX + 1) + KVQ_SPARE_FRAMES,
    KVQ_CHANNEL_PATIENCE_MS = 100,
};

/* Pieces from first to count are still to be moved. */
struct kvq_pieces {
    size_t first, count;
};

struct kvq_channel {
    int socket;                 /* -1: closed */
    struct kvq_tls_stream *tls; /* over it; NULL: it is plain */
    /* Until then a read may sleep, for KVQ_CHANNEL_PATIENCE_MS, while nothing is to be sent. */
    int64_t patient_until_ns;

    struct kvq_pieces in;
    struct iovec input[KVQ_PIECES_MAX + 1]; /* and one for what comes ahead */
    size_t ahead_max;
    size_t ahead_start, ahead_end;
    uint8_t ahead[KVQ_AHEAD_BYTES];

    struct kvq_pieces out;
    size_t out_bytes; /* queued since the output was empty */
    bool started;     /* something was sent since kvq_channel_mark() */
    size_t heads_used;
    struct iovec output[KVQ_OUTPUT_PIECES_MAX];
    uint8_t heads[KVQ_HEADS_BYTES]; /* headers and control messages that are queued */
};

#pragma GCC visibility push(hidden)

/* On the monotonic clock. */
int64_t kvq_now_ns(void);

void kvq_channel_init(struct kvq_channel *channel);
void kvq_channel_close(struct kvq_channel *channel);

/* Whether the peer is known to have gone: for sockets whose writes do not tell. */
bool kvq_channel_hung_up(const struct kvq_channel *channel);

/* Shakes hands over `tls`: before anything is sent or received. */
int kvq_channel_secure(struct kvq_channel *channel);

/* ---- Output ---- */

bool kvq_channel_drained(const struct kvq_channel *channel);

/* From here on `started` counts. */
void kvq_channel_mark(struct kvq_channel *channel);

/* Room for the caller to write bytes to, queued; NULL if there is none before the output drains. */
uint8_t *kvq_channel_queue_head(struct kvq_channel *channel, size_t bytes);

/* Whether a DATA frame of so many pieces can be queued, and a COMMIT and CANCEL behind it. */
bool kvq_channel_has_room(const struct kvq_channel *channel, size_t pieces);

/* Where the caller writes pieces, for which there must be room, before queueing them. */
struct iovec *kvq_channel_output_end(struct kvq_channel *channel);
void kvq_channel_queue(struct kvq_channel *channel, size_t pieces);

/* What is queued is not wanted any more: drops it all, or, once sending began, lets filler stand
 * for the values, so that their memory is free and the frames are whole. */
void kvq_channel_disown_output(struct kvq_channel *channel, uint8_t *filler);

int kvq_channel_send(struct kvq_channel *channel);

/* ---- Input ---- */

/* The next bytes go to memory. */
void kvq_channel_expect(struct kvq_channel *channel, void *memory, size_t bytes);

/* The next bytes go to the first count pieces of input, which the caller has filled in. */
void kvq_channel_expect_payload(struct kvq_channel *channel, size_t count);

/* What is still to come of what is expected. */
size_t kvq_channel_missing_bytes(const struct kvq_channel *channel);

/* Whether bytes have arrived ahead of a payload. */
bool kvq_channel_has_ahead(const struct kvq_channel *channel);

/* Whether TLS may have bytes that no poll() of the socket tells of. */
bool kvq_channel_has_decrypted(const struct kvq_channel *channel);

int kvq_channel_fill(struct kvq_channel *channel);

#pragma GCC visibility pop

#endif
