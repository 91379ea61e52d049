/* libFuzzer: any bytes from a client, in pieces of any size, to the whole step function of a
 * connection: framing, every operation, the store behind it.
 *
 * The first four bytes say where the rest is split; 0: nowhere.
 */
#include <string.h>

#include "tests/fuzz/frames.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/fuzz/server.h"

enum { SPLIT_BYTES = 4, PIECE_BYTES_MAX = 512 };

static size_t next_piece(uint32_t *state, size_t left) {
    *state = *state * 1664525u + 1013904223u;
    size_t count = 1 + (*state >> 8) % ((*state >> 28) ? PIECE_BYTES_MAX : 24);
    return count < left ? count : left;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    uint32_t split;
    if (length <= SPLIT_BYTES)
        return 0;
    memcpy(&split, bytes, SPLIT_BYTES);
    bool whole = split == 0;
    server_reset();
    server_connect();
    for (size_t at = SPLIT_BYTES, count; at < length; at += count) {
        count = whole ? length - at : next_piece(&split, length - at);
        if (!server_take(bytes + at, count))
            break;
    }
    server_disconnect();
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length, size_t length_max, unsigned seed) {
    if (length <= SPLIT_BYTES || seed % 32 == 31)
        return LLVMFuzzerMutate(bytes, length, length_max);
    return SPLIT_BYTES + frames_change(bytes + SPLIT_BYTES, length - SPLIT_BYTES,
                                       length_max - SPLIT_BYTES, seed / 32);
}
