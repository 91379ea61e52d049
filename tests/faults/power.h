/* The files of a disk as a kill or a loss of power leaves them: from some call on nothing changes
 * any more, and without power what was not synced is gone, all of it or from somewhere on.
 *
 * There is one such disk at a time; its directory must not be in use where that is not said. */
#ifndef TESTS_FAULTS_POWER_H
#define TESTS_FAULTS_POWER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/store/disk/io.h"

extern const struct disk_io power_io;

/* After so many more calls that change a file all fail, and change nothing; of a last write at
 * the file's end a half may be done. Any thread may be at it. */
void power_end_after(uint64_t calls);

/* Whether they fail by now. */
bool power_has_ended(void);

/* They do not any more. */
void power_begin(void);

/* What was not synced is lost, by chance: files' ends, names given and names taken away. */
void power_lose_unsynced(const char *directory, uint64_t random);

#endif
