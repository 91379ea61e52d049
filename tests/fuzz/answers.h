/* What a daemon may send, held against what was sent to it. */
#ifndef TESTS_FUZZ_ANSWERS_H
#define TESTS_FUZZ_ANSWERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire/frame.h"

enum {
    ANSWERS_REQUESTS_MAX = 1024,
    ANSWERS_FRAME_BYTES_MAX = WIRE_HEADER_BYTES + WIRE_CONTROL_BYTES_MAX + WIRE_PAYLOAD_BYTES_MAX,
};

/* Of one connection. */
struct answers {
    struct asked {
        uint32_t id;
        uint8_t type;
        bool answered;
    } asked[ANSWERS_REQUESTS_MAX]; /* as far as the bytes sent were the protocol */
    size_t asked_count, skip;      /* bytes of a frame whose header was seen */
    uint8_t header[WIRE_HEADER_BYTES];
    size_t header_bytes;
    bool nonsense, too_many; /* was sent: nothing more is known of what follows */
    uint8_t frame[ANSWERS_FRAME_BYTES_MAX];
    size_t frame_bytes;
};

void answers_begin(struct answers *answers);

/* The client sends these bytes. */
void answers_expect(struct answers *answers, const uint8_t *bytes, size_t count);

/* The daemon sent these: aborts unless they are frames of the protocol, of requests that were sent,
 * with one reply or error for each. */
void answers_take(struct answers *answers, const uint8_t *bytes, size_t count);

#endif
