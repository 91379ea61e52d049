/* Checks of the disk folder: room, and how fast it is. */
#include "client/cli/doctor.h"
#include "client/cli/words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE_BYTES = 4 << 20,
    PIECES_MAX = 16,
    PIECE_ALIGNMENT = 4096,
    SLOW_MIB_PER_SECOND = 200,
};
static const double seconds_most = 1; /* in each direction */

static void check_room(const struct machine *machine, struct finding *finding) {
    char path[MACHINE_PATH_BYTES], a[WORD_BYTES], b[WORD_BYTES];
    struct statvfs status;
    const char *disk = machine->settings.disk;
    if (settings_lack(&machine->settings, disk, "no `disk`", finding))
        return;
    if (statvfs(machine_path(machine, disk, path), &status) < 0) {
        find(finding, FINDING_WARN, "%.200s: %s", disk, strerror(errno));
        advise(finding, "run this as root, or as the daemon's user");
        return;
    }
    uint64_t free_bytes = (uint64_t)status.f_bavail * status.f_frsize;
    uint64_t limit = machine_disk_limit(machine);
    uint64_t used = machine->failure ? 0 : machine->stats.disk.used_bytes;
    bool short_of = free_bytes + used < limit;
    find(finding, short_of ? FINDING_WARN : FINDING_OK, "%s free; `disk_size` leaves %s to write",
         bytes_text(free_bytes, a), bytes_text(limit > used ? limit - used : 0, b));
    if (short_of)
        advise(finding, "set `disk_size` to %s at most, or make room",
               bytes_text(free_bytes + used, a));
}

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A file that nobody sees, past the page cache where the file system can do that. */
static int open_unseen(const char *folder) {
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
    return file >= 0 ? file : open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* MiB a second, for a second at most; negative: it failed. */
static double write_speed(int file, const char *piece, int *pieces) {
    double begin = now_seconds();
    for (*pieces = 0; *pieces < PIECES_MAX && now_seconds() - begin < seconds_most; ++*pieces)
        if (pwrite(file, piece, PIECE_BYTES, (off_t)*pieces * PIECE_BYTES) != PIECE_BYTES)
            return -1;
    if (fdatasync(file) < 0)
        return -1;
    return (double)*pieces * (PIECE_BYTES >> 20) / (now_seconds() - begin);
}

static double read_speed(int file, char *piece, int pieces) {
    int at = 0;
    double begin = now_seconds();
    (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    for (; at < pieces && now_seconds() - begin < seconds_most; at++)
        if (pread(file, piece, PIECE_BYTES, (off_t)at * PIECE_BYTES) != PIECE_BYTES)
            return -1;
    return (double)at * (PIECE_BYTES >> 20) / (now_seconds() - begin);
}

static void say_speed(double written, double read_back, int pieces, struct finding *finding) {
    bool slow = written < SLOW_MIB_PER_SECOND || read_back < SLOW_MIB_PER_SECOND;
    find(finding, slow ? FINDING_WARN : FINDING_OK,
         "%d MiB were written at %.0f MiB/s and read at %.0f", pieces * (PIECE_BYTES >> 20),
         written, read_back);
    if (slow)
        advise(finding, "a fetch from it waits for that, and saving at the end takes `memory` "
                        "divided by it: a local SSD");
}

static void check_speed(const struct machine *machine, struct finding *finding) {
    char path[MACHINE_PATH_BYTES];
    const char *disk = machine->settings.disk;
    if (settings_lack(&machine->settings, disk, "no `disk`", finding))
        return;
    int pieces = 0, file = open_unseen(machine_path(machine, disk, path));
    if (file < 0) {
        find(finding, FINDING_WARN, "%.200s: cannot be measured: %s", disk, strerror(errno));
        advise(finding, "run this as root, or as the daemon's user");
        return;
    }
    char *piece = aligned_alloc(PIECE_ALIGNMENT, PIECE_BYTES);
    if (piece)
        memset(piece, 0x5a, PIECE_BYTES);
    double written = piece ? write_speed(file, piece, &pieces) : -1;
    double read_back = written > 0 ? read_speed(file, piece, pieces) : -1;
    if (written > 0 && read_back > 0) {
        say_speed(written, read_back, pieces, finding);
    } else {
        find(finding, FINDING_FAIL, "%.200s: a file there cannot be written and read: %s", disk,
             strerror(errno));
        advise(finding, "look at the device: dmesg, smartctl");
    }
    free(piece);
    close(file);
}

static const struct check rows[] = {
    {"disk room", check_room},
    {"disk speed", check_speed},
};
const struct checks disk_checks = {rows, sizeof rows / sizeof *rows};
