/* Memory between pages that cannot be touched: an access outside ends the program. */
#ifndef TESTS_FUZZ_GUARDED_H
#define TESTS_FUZZ_GUARDED_H

#include "tests/fuzz/must.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

enum { GUARDED_UNIT = 1 << 16 }; /* a multiple of every machine's page */

struct guarded_room {
    uint8_t *first;
    size_t bytes; /* a multiple of the unit: both ends are guarded */
};

static inline struct guarded_room guarded_room_new(size_t bytes_min) {
    size_t bytes = (bytes_min + GUARDED_UNIT - 1) / GUARDED_UNIT * GUARDED_UNIT;
    uint8_t *map = mmap(NULL, bytes + 2 * (size_t)GUARDED_UNIT, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(map != MAP_FAILED, "there is memory");
    must(mprotect(map + GUARDED_UNIT, bytes, PROT_READ | PROT_WRITE) == 0, "there is memory");
    return (struct guarded_room){map + GUARDED_UNIT, bytes};
}

static inline void guarded_room_free(const struct guarded_room *room) {
    munmap(room->first - GUARDED_UNIT, room->bytes + 2 * (size_t)GUARDED_UNIT);
}

/* So many bytes of it: the last ones, or the first. */
static inline uint8_t *guarded_place(const struct guarded_room *room, size_t bytes, bool at_end) {
    must(bytes <= room->bytes, "the room is large enough");
    return room->first + (at_end ? room->bytes - bytes : 0);
}

#endif
