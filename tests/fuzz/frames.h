/* Changes to what a client sends that leave most of it frames. */
#ifndef TESTS_FUZZ_FRAMES_H
#define TESTS_FUZZ_FRAMES_H

#include <stddef.h>
#include <stdint.h>

/* Changes one frame's control, payload, type or id, repeats, drops or moves one, or changes any
 * byte. The new length. */
size_t frames_change(uint8_t *bytes, size_t length, size_t length_max, unsigned seed);

#endif
