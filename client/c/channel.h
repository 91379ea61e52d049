/* A connected stream socket with a deadline: whole reads and writes, straight from and to memory.
 *
 * A channel owns its socket. It reads at most one frame's header and descriptor ahead, so that
 * payload never passes through a buffer. Functions return 0, KVQ_CONNECTION_LOST or KVQ_DEADLINE;
 * after either the channel is to be closed.
 */
#ifndef CLIENT_C_CHANNEL_H
#define CLIENT_C_CHANNEL_H

#include "proto/wire/frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { KVQ_AHEAD_BYTES = WIRE_HEADER_BYTES + WIRE_DATA_BYTES };

struct kvq_channel {
    int socket;          /* -1: closed */
    int64_t deadline_ns; /* on the monotonic clock; INT64_MAX: none */
    bool input_waits;    /* something arrived while a write waited for room */
    uint8_t ahead[KVQ_AHEAD_BYTES];
    size_t ahead_start, ahead_end;
};

#pragma GCC visibility push(hidden)

void kvq_channel_init(struct kvq_channel *channel);
void kvq_channel_close(struct kvq_channel *channel);

/* Negative: no deadline. */
void kvq_channel_set_deadline(struct kvq_channel *channel, int64_t deadline_ms);

bool kvq_channel_expired(const struct kvq_channel *channel);

/* Waits for events of poll(); events_seen may be NULL. */
int kvq_channel_wait(struct kvq_channel *channel, short events, short *events_seen);

/* Writes all pieces. pieces are used up: their bases and lengths change. */
int kvq_channel_write(struct kvq_channel *channel, struct iovec *pieces, size_t count);

int kvq_channel_read(struct kvq_channel *channel, void *bytes, size_t count);

/* Fills all pieces, which are used up. pieces[count] must exist: with `more`, where another header
 * is known to follow, it takes that along. */
int kvq_channel_read_pieces(struct kvq_channel *channel, struct iovec *pieces, size_t count,
                            bool more);

#pragma GCC visibility pop

#endif
