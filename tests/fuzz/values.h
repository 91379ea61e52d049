/* Values of the disk as a fuzzer's input: written through the disk itself, so that its checksums
 * hold, and changed so that those within them do, too.
 *
 * Bytes, little-endian: u32 count, then for each value u64 id, first token, tokens, version, u8
 * kind, s8 level, u8 bytes of its session's name, u8 parts; the name; u32 bytes of each part; the
 * parts.
 */
#ifndef TESTS_FUZZ_VALUES_H
#define TESTS_FUZZ_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes them to a new disk in that folder. How many bytes of the input they were. */
size_t values_write(const char *directory, const uint8_t *bytes, size_t count);

/* The same without writing. */
size_t values_end(const uint8_t *bytes, size_t count);

/* Changes one value within its length. False if there is none. */
bool values_change(uint8_t *bytes, size_t count, unsigned seed);

#endif
