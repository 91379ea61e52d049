#include "tests/fuzz/frames.h"

#include <stdbool.h>
#include <string.h>

#include "proto/wire/errors.h"
#include "proto/wire/frame.h"
#include "tests/fuzz/fuzzer.h"

enum { FRAMES_MAX = 64, SCRATCH_BYTES = 1 << 16, SMALL_IDS = 8 };

struct place {
    size_t at, control, payload, bytes;
};

/* The frames from the start on, up to what is none. */
static size_t find_frames(const uint8_t *bytes, size_t length, struct place *frames) {
    size_t count = 0, at = 0;
    struct wire_header header;
    while (count < FRAMES_MAX && length - at >= WIRE_HEADER_BYTES &&
           wire_header_read(bytes + at, &header) == WIRE_OK) {
        size_t all = (size_t)WIRE_HEADER_BYTES + header.control_bytes + header.payload_bytes;
        if (all > length - at)
            break;
        frames[count++] = (struct place){at, header.control_bytes, header.payload_bytes, all};
        at += all;
    }
    return count;
}

/* Puts `count` bytes in the place of `old` at `at`; 0 if there is no room. */
static size_t replace(uint8_t *bytes, size_t length, size_t length_max, size_t at, size_t old,
                      const uint8_t *with, size_t count) {
    if (length - old + count > length_max)
        return 0;
    memmove(bytes + at + count, bytes + at + old, length - at - old);
    if (count > 0)
        memcpy(bytes + at, with, count);
    return length - old + count;
}

static void tell_lengths(uint8_t *frame, size_t control, size_t payload) {
    struct wire_header header = {.type = frame[5],
                                 .request_id = frame[8] | (uint32_t)frame[9] << 8,
                                 .control_bytes = (uint32_t)control,
                                 .payload_bytes = (uint32_t)payload};
    wire_header_write(frame, &header);
}

/* Changes the control, or the payload, and tells its new length. */
static size_t change_inside(uint8_t *bytes, size_t length, size_t length_max,
                            const struct place *frame, bool payload) {
    static uint8_t scratch[SCRATCH_BYTES];
    size_t old = payload ? frame->payload : frame->control;
    size_t at = frame->at + WIRE_HEADER_BYTES + (payload ? frame->control : 0);
    if (old > sizeof scratch)
        return 0;
    memcpy(scratch, bytes + at, old);
    size_t most = old + 64 < sizeof scratch ? old + 64 : sizeof scratch;
    size_t count = LLVMFuzzerMutate(scratch, old, most);
    size_t new_length = replace(bytes, length, length_max, at, old, scratch, count);
    if (new_length > 0)
        tell_lengths(bytes + frame->at, payload ? frame->control : count,
                     payload ? count : frame->payload);
    return new_length;
}

static size_t insert_copy(uint8_t *bytes, size_t length, size_t length_max,
                          const struct place *frame, size_t at) {
    static uint8_t scratch[SCRATCH_BYTES];
    if (frame->bytes > sizeof scratch)
        return 0;
    memcpy(scratch, bytes + frame->at, frame->bytes);
    return replace(bytes, length, length_max, at, 0, scratch, frame->bytes);
}

size_t frames_change(uint8_t *bytes, size_t length, size_t length_max, unsigned seed) {
    struct place frames[FRAMES_MAX];
    size_t count = find_frames(bytes, length, frames), changed = 0;
    if (count == 0 || seed % 16 == 0)
        return LLVMFuzzerMutate(bytes, length, length_max);
    const struct place *frame = &frames[seed / 16 % count], *other = &frames[seed / 1024 % count];
    switch (seed % 16) {
    case 1:
        return replace(bytes, length, length_max, frame->at, frame->bytes, NULL, 0);
    case 2:
    case 3:
        changed = insert_copy(bytes, length, length_max, frame, other->at);
        break;
    case 4:
        bytes[frame->at + 8] = (uint8_t)(1 + seed / 4096 % SMALL_IDS);
        return length;
    case 5:
        bytes[frame->at + 5] = (uint8_t)(seed / 4096 % WIRE_TYPES);
        return length;
    case 6:
    case 7:
    case 8:
        changed = change_inside(bytes, length, length_max, frame, frame->payload > 0);
        break;
    default:
        changed = change_inside(bytes, length, length_max, frame, false);
    }
    return changed > 0 ? changed : LLVMFuzzerMutate(bytes, length, length_max);
}
