#include "client/c/channel.h"

#include "client/c/kvq.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void kvq_channel_init(struct kvq_channel *channel) {
    *channel = (struct kvq_channel){.socket = -1, .deadline_ns = INT64_MAX};
}

void kvq_channel_close(struct kvq_channel *channel) {
    if (channel->socket >= 0)
        close(channel->socket);
    kvq_channel_init(channel);
}

void kvq_channel_set_deadline(struct kvq_channel *channel, int64_t deadline_ms) {
    int64_t now = now_ns(), ns;
    if (deadline_ms < 0 || __builtin_mul_overflow(deadline_ms, (int64_t)1000000, &ns) ||
        __builtin_add_overflow(now, ns, &channel->deadline_ns))
        channel->deadline_ns = INT64_MAX;
}

/* Milliseconds that poll() may wait, rounded up so that it never spins at the end. */
static int left_ms(const struct kvq_channel *channel) {
    enum { POLL_MS_MAX = 3600 * 1000 };
    if (channel->deadline_ns == INT64_MAX)
        return -1;
    int64_t left = channel->deadline_ns - now_ns();
    if (left <= 0)
        return 0;
    left = (left - 1) / 1000000 + 1;
    return left > POLL_MS_MAX ? POLL_MS_MAX : (int)left;
}

bool kvq_channel_expired(const struct kvq_channel *channel) {
    return left_ms(channel) == 0;
}

int kvq_channel_wait(struct kvq_channel *channel, short events, short *events_seen) {
    struct pollfd poller = {.fd = channel->socket, .events = events};
    for (;;) {
        int ready = poll(&poller, 1, left_ms(channel));
        if (ready > 0) {
            if (events_seen)
                *events_seen = poller.revents;
            return KVQ_OK;
        }
        if (ready < 0 && errno != EINTR)
            return KVQ_CONNECTION_LOST;
        if (kvq_channel_expired(channel))
            return KVQ_DEADLINE;
    }
}

/* Takes count bytes off the front of pieces; returns how many pieces are thereby done. */
static size_t take_off(struct iovec *pieces, size_t pieces_left, size_t count) {
    size_t done = 0;
    while (done < pieces_left && count >= pieces[done].iov_len)
        count -= pieces[done++].iov_len;
    if (done < pieces_left) {
        pieces[done].iov_base = (char *)pieces[done].iov_base + count;
        pieces[done].iov_len -= count;
    }
    return done;
}

/* What arrives meanwhile is an answer that the writer wants to know of after its frame. */
static int wait_for_room(struct kvq_channel *channel) {
    short seen = 0;
    int error = kvq_channel_wait(channel, channel->input_waits ? POLLOUT : POLLOUT | POLLIN, &seen);
    if (seen & POLLIN)
        channel->input_waits = true;
    return error;
}

int kvq_channel_write(struct kvq_channel *channel, struct iovec *pieces, size_t count) {
    while (count > 0) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        ssize_t sent = sendmsg(channel->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            int error = wait_for_room(channel);
            if (error)
                return error;
        } else if (sent < 0 && errno != EINTR) {
            return KVQ_CONNECTION_LOST;
        } else if (sent >= 0) {
            size_t done = take_off(pieces, count, (size_t)sent);
            pieces += done;
            count -= done;
        }
    }
    return KVQ_OK;
}

/* At least one byte into pieces; *received says how many. */
static int receive_some(struct kvq_channel *channel, struct iovec *pieces, size_t count,
                        size_t *received) {
    for (;;) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        ssize_t got = recvmsg(channel->socket, &message, MSG_DONTWAIT);
        if (got > 0) {
            *received = (size_t)got;
            return KVQ_OK;
        }
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            return KVQ_CONNECTION_LOST;
        int error = errno == EINTR ? KVQ_OK : kvq_channel_wait(channel, POLLIN, NULL);
        if (error)
            return error;
    }
}

static size_t take_from_ahead(struct kvq_channel *channel, void *bytes, size_t count) {
    size_t there = channel->ahead_end - channel->ahead_start;
    size_t taken = count < there ? count : there;
    memcpy(bytes, channel->ahead + channel->ahead_start, taken);
    channel->ahead_start += taken;
    if (channel->ahead_start == channel->ahead_end)
        channel->ahead_start = channel->ahead_end = 0;
    return taken;
}

int kvq_channel_read(struct kvq_channel *channel, void *bytes, size_t count) {
    struct iovec pieces[2] = {{.iov_base = bytes, .iov_len = count}};
    return kvq_channel_read_pieces(channel, pieces, count > 0, false);
}

int kvq_channel_read_pieces(struct kvq_channel *channel, struct iovec *pieces, size_t count,
                            bool more) {
    channel->input_waits = false;
    while (count > 0 && channel->ahead_end > channel->ahead_start) {
        size_t taken = take_from_ahead(channel, pieces->iov_base, pieces->iov_len);
        size_t done = take_off(pieces, 1, taken);
        pieces += done;
        count -= done;
    }
    size_t extra = more && channel->ahead_end == 0 ? 1 : 0;
    if (extra)
        pieces[count] = (struct iovec){.iov_base = channel->ahead, .iov_len = KVQ_AHEAD_BYTES};
    while (count > 0) {
        size_t received = 0, wanted = 0;
        for (size_t i = 0; i < count; i++)
            wanted += pieces[i].iov_len;
        int error = receive_some(channel, pieces, count + extra, &received);
        if (error)
            return error;
        if (received > wanted)
            channel->ahead_end = received - wanted;
        size_t done = take_off(pieces, count, received < wanted ? received : wanted);
        pieces += done;
        count -= done;
    }
    return KVQ_OK;
}
