#include "client/c/channel.h"

#include "client/c/kvq.h"
#include "client/c/tls_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t kvq_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void kvq_channel_init(struct kvq_channel *channel) {
    channel->socket = -1;
    channel->tls = NULL;
    channel->started = false;
    channel->in = channel->out = (struct kvq_pieces){0};
    channel->ahead_start = channel->ahead_end = 0;
    channel->out_bytes = channel->heads_used = 0;
}

void kvq_channel_close(struct kvq_channel *channel) {
    kvq_tls_stream_free(channel->tls);
    if (channel->socket >= 0)
        close(channel->socket);
    kvq_channel_init(channel);
}

bool kvq_channel_hung_up(const struct kvq_channel *channel) {
    char byte;
    if (channel->tls)
        return kvq_tls_stream_hung_up(channel->tls);
    ssize_t seen = recv(channel->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return seen == 0 || (seen < 0 && errno != EAGAIN && errno != EINTR);
}

/* Takes bytes off the front of the pieces that are still to be moved. */
static void take_off(struct iovec *all, struct kvq_pieces *pieces, size_t bytes) {
    while (pieces->first < pieces->count && bytes >= all[pieces->first].iov_len)
        bytes -= all[pieces->first++].iov_len;
    if (pieces->first < pieces->count) {
        struct iovec *piece = &all[pieces->first];
        piece->iov_base = (char *)piece->iov_base + bytes;
        piece->iov_len -= bytes;
    }
}

static bool done(struct kvq_pieces pieces) {
    return pieces.first == pieces.count;
}

/* ---- Output ---- */

bool kvq_channel_drained(const struct kvq_channel *channel) {
    return done(channel->out) && !(channel->tls && kvq_tls_stream_has_output(channel->tls));
}

void kvq_channel_mark(struct kvq_channel *channel) {
    channel->started = false;
}

static bool fits(const struct kvq_channel *channel, size_t pieces, size_t head_bytes) {
    return pieces <= KVQ_OUTPUT_PIECES_MAX - channel->out.count &&
           head_bytes <= KVQ_HEADS_BYTES - channel->heads_used;
}

bool kvq_channel_has_room(const struct kvq_channel *channel, size_t pieces) {
    return fits(channel, pieces + 1 + KVQ_SPARE_FRAMES,
                WIRE_HEADER_BYTES + WIRE_DATA_BYTES + KVQ_SPARE_FRAMES * WIRE_HEADER_BYTES);
}

struct iovec *kvq_channel_output_end(struct kvq_channel *channel) {
    return channel->output + channel->out.count;
}

void kvq_channel_queue(struct kvq_channel *channel, size_t pieces) {
    for (size_t i = 0; i < pieces; i++)
        channel->out_bytes += channel->output[channel->out.count++].iov_len;
}

uint8_t *kvq_channel_queue_head(struct kvq_channel *channel, size_t bytes) {
    if (!fits(channel, 1, bytes))
        return NULL;
    uint8_t *head = channel->heads + channel->heads_used;
    channel->heads_used += bytes;
    *kvq_channel_output_end(channel) = (struct iovec){.iov_base = head, .iov_len = bytes};
    kvq_channel_queue(channel, 1);
    return head;
}

static void forget_output(struct kvq_channel *channel) {
    channel->out = (struct kvq_pieces){0};
    channel->out_bytes = channel->heads_used = 0;
}

static bool is_head(const struct kvq_channel *channel, const struct iovec *piece) {
    uintptr_t at = (uintptr_t)piece->iov_base, heads = (uintptr_t)channel->heads;
    return at >= heads && at < heads + sizeof channel->heads;
}

void kvq_channel_disown_output(struct kvq_channel *channel, uint8_t *filler) {
    if (!channel->started)
        forget_output(channel);
    for (size_t i = channel->out.first; i < channel->out.count; i++)
        if (!is_head(channel, &channel->output[i]))
            channel->output[i].iov_base = filler;
}

static ssize_t send_pieces(struct kvq_channel *channel) {
    struct msghdr message = {.msg_iov = channel->output + channel->out.first,
                             .msg_iovlen = channel->out.count - channel->out.first};
    if (channel->tls)
        return kvq_tls_stream_send(channel->tls, message.msg_iov, message.msg_iovlen);
    return sendmsg(channel->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int kvq_channel_send(struct kvq_channel *channel) {
    while (!kvq_channel_drained(channel)) {
        ssize_t sent = send_pieces(channel);
        if (sent < 0 && errno == EAGAIN)
            return KVQ_AGAIN;
        if (sent < 0 && errno != EINTR)
            return KVQ_CONNECTION_LOST;
        if (sent > 0) {
            channel->started = true;
            take_off(channel->output, &channel->out, (size_t)sent);
        }
    }
    forget_output(channel);
    return KVQ_OK;
}

/* ---- Input ---- */

void kvq_channel_expect(struct kvq_channel *channel, void *memory, size_t bytes) {
    channel->input[0] = (struct iovec){.iov_base = memory, .iov_len = bytes};
    channel->in = (struct kvq_pieces){.count = bytes > 0};
    channel->ahead_max = KVQ_AHEAD_BYTES;
}

void kvq_channel_expect_payload(struct kvq_channel *channel, size_t count) {
    channel->in = (struct kvq_pieces){.count = count};
    channel->ahead_max = KVQ_AHEAD_OF_PAYLOAD_BYTES;
}

size_t kvq_channel_missing_bytes(const struct kvq_channel *channel) {
    size_t bytes = 0;
    for (size_t i = channel->in.first; i < channel->in.count; i++)
        bytes += channel->input[i].iov_len;
    return bytes;
}

bool kvq_channel_has_ahead(const struct kvq_channel *channel) {
    return channel->ahead_end > channel->ahead_start;
}

bool kvq_channel_has_decrypted(const struct kvq_channel *channel) {
    return channel->tls && kvq_tls_stream_has_input(channel->tls);
}

static void take_from_ahead(struct kvq_channel *channel) {
    while (!done(channel->in) && kvq_channel_has_ahead(channel)) {
        struct iovec *piece = &channel->input[channel->in.first];
        size_t there = channel->ahead_end - channel->ahead_start;
        size_t taken = piece->iov_len < there ? piece->iov_len : there;
        memcpy(piece->iov_base, channel->ahead + channel->ahead_start, taken);
        channel->ahead_start += taken;
        take_off(channel->input, &channel->in, taken);
    }
}

static int receive_flags(const struct kvq_channel *channel) {
    bool may_sleep = kvq_channel_drained(channel) && channel->patient_until_ns > 0 &&
                     kvq_now_ns() < channel->patient_until_ns;
    return may_sleep ? 0 : MSG_DONTWAIT;
}

/* Where the pieces are full what follows goes to ahead, which is empty when this is called; TLS
 * keeps it by itself. */
static ssize_t receive(struct kvq_channel *channel) {
    int flags = receive_flags(channel);
    const struct iovec *piece = &channel->input[channel->in.first];
    if (channel->tls)
        return kvq_tls_stream_receive(channel->tls, piece->iov_base, piece->iov_len, flags);
    channel->input[channel->in.count] =
        (struct iovec){.iov_base = channel->ahead, .iov_len = channel->ahead_max};
    struct msghdr message = {.msg_iov = channel->input + channel->in.first,
                             .msg_iovlen = channel->in.count - channel->in.first + 1};
    return recvmsg(channel->socket, &message, flags);
}

int kvq_channel_secure(struct kvq_channel *channel) {
    ssize_t shaken = kvq_tls_stream_handshake(channel->tls, receive_flags(channel));
    return shaken > 0 ? KVQ_OK : shaken < 0 ? KVQ_AGAIN : KVQ_CONNECTION_LOST;
}

int kvq_channel_fill(struct kvq_channel *channel) {
    take_from_ahead(channel);
    while (!done(channel->in)) {
        size_t missing_bytes = kvq_channel_missing_bytes(channel);
        ssize_t got = receive(channel);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return KVQ_AGAIN;
        if (got <= 0)
            return KVQ_CONNECTION_LOST;
        size_t received = (size_t)got, wanted = received < missing_bytes ? received : missing_bytes;
        channel->ahead_start = 0;
        channel->ahead_end = received - wanted;
        take_off(channel->input, &channel->in, wanted);
    }
    return KVQ_OK;
}
