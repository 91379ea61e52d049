#include "tests/bench/disk_folder.h"

#include "tests/bench/clock.h"
#include "tests/bench/fail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 512, CALL_BYTES = 1 << 20 };

/* Files may go meanwhile: it is in use. */
static void for_each_file(const char *folder, void (*call)(const char *path)) {
    char path[PATH_BYTES];
    DIR *entries = opendir(folder);
    if (!entries)
        fail(folder);
    for (const struct dirent *entry; (entry = readdir(entries));) {
        snprintf(path, sizeof path, "%s/%.255s", folder, entry->d_name);
        if (entry->d_type == DT_REG)
            call(path);
    }
    closedir(entries);
}

/* -1 if it is gone. */
static int open_file(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 && errno != ENOENT)
        fail(path);
    return file;
}

static void drop_file(const char *path) {
    int file = open_file(path);
    if (file < 0)
        return;
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    close(file);
}

static void read_file(const char *path) {
    static char memory[CALL_BYTES];
    int file = open_file(path);
    ssize_t bytes = 0;
    while (file >= 0 && (bytes = read(file, memory, sizeof memory)) > 0)
        ;
    if (bytes < 0)
        fail(path);
    if (file >= 0)
        close(file);
}

static void remove_file(const char *path) {
    if (unlink(path) < 0)
        fail(path);
}

void disk_folder_drop_cache(const char *folder) {
    for_each_file(folder, drop_file);
}

double disk_folder_read(const char *folder) {
    double begin = clock_seconds();
    for_each_file(folder, read_file);
    return clock_seconds() - begin;
}

void disk_folder_remove(const char *folder) {
    for_each_file(folder, remove_file);
    if (rmdir(folder) < 0)
        fail(folder);
}
