/* A record on its way to disk and back: its summary, its parts, and room for it in the pool.
 *
 * The summary is what an absent record says of itself: as long as its bytes are on disk only, it
 * answers for them, also after a restart. A chunk's value on disk is this summary, then that of its
 * keys where it has one (key_summary.h), then the record: so many bytes as the value has more than
 * the other two are the second's.
 *
 * Bytes of a summary, little-endian:
 *     0  u64 record bytes       8  u32 tokens         12  u32 sink tokens
 *    16  u32 exact tokens      20  s8 level           21  s8 level asked
 *    22  u8 estimated: bit 0 for K, bit 1 for V       23  0
 *    24  f64 error of K        32  f64 energy of K
 *    40  f64 error of V        48  f64 energy of V
 *    56  u32 pages of each level, from the finest on
 */
#ifndef DAEMON_STORE_RECORD_DISK_H
#define DAEMON_STORE_RECORD_DISK_H

#include "daemon/store/disk/disk.h"
#include "daemon/store/record.h"

enum { RECORD_SUMMARY_BYTES = 56 + 4 * USAGE_LEVELS };

void record_write_summary(const struct record *record, uint8_t summary[RECORD_SUMMARY_BYTES]);

/* The absent record that a summary tells of, with one pin. NULL without memory, or if no record
 * has such a summary. */
struct record *record_read_summary(struct pool *pool, struct budget *budget,
                                   const uint8_t summary[RECORD_SUMMARY_BYTES]);

/* The same record without its bytes, with one pin. NULL without memory. */
struct record *record_without_bytes(const struct record *record);

/* How many parts the record has at most: its header with the directory, and its pages. */
size_t record_parts_max(const struct record *record);

/* The parts in the order of their bytes, without gaps: all of the record. How many; 0 if the
 * directory is damaged. */
size_t record_parts(const struct record *record, struct disk_part *parts, size_t parts_max);

/* A record like this absent one with room for its bytes, which hold nothing yet, and one pin. NULL
 * at the memory limit. */
struct record *record_with_room(const struct record *absent);

void *record_room(const struct record *record);

/* When the bytes are there: 0, or -1 if they are not those of the absent record. */
int record_check_arrived(struct record *record, const struct geometry *geometry)
    __attribute__((warn_unused_result));

#endif
