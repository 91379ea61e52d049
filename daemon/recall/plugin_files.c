#include "daemon/recall/plugin_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { NAME_BYTES = 48 };

static const char prefix[] = "recall-", saving[] = "recall.saving", loading[] = "recall.loading";

static void join(const char *directory, const char *name, char path[PLUGIN_FILE_BYTES]) {
    snprintf(path, PLUGIN_FILE_BYTES, "%s/%s", directory, name);
}

static void make_name(uint64_t index, uint64_t hash, char name[NAME_BYTES]) {
    snprintf(name, NAME_BYTES, "%s%016llx-%016llx", prefix, (unsigned long long)index,
             (unsigned long long)hash);
}

/* False for a name that is none of these. */
static bool read_name(const char *name, uint64_t *index, uint64_t *hash) {
    char again[NAME_BYTES], *end;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    *index = strtoull(name + sizeof prefix - 1, &end, 16);
    *hash = *end == '-' ? strtoull(end + 1, NULL, 16) : 0;
    make_name(*index, *hash, again);
    return strcmp(name, again) == 0;
}

/* 0 with the hash of the file's bytes, which are on the disk by then, or -1. */
static int hash_file(const char *path, uint64_t *hash) {
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    bool known = fsync(file) == 0 && fstat(file, &status) == 0 && status.st_size > 0;
    size_t bytes = known ? (size_t)status.st_size : 0;
    void *mapped = known ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    close(file);
    if (mapped == MAP_FAILED)
        return -1;
    *hash = XXH3_64bits(mapped, bytes);
    munmap(mapped, bytes);
    return 0;
}

/* Of the index's file. */
static bool find(const char *directory, uint64_t index, uint64_t *hash) {
    DIR *folder = opendir(directory);
    const struct dirent *entry;
    bool found = false;
    uint64_t of;
    while (folder && !found && (entry = readdir(folder)))
        found = read_name(entry->d_name, &of, hash) && of == index;
    if (folder)
        closedir(folder);
    return found;
}

bool plugin_files_take(const char *directory, uint64_t index, char path[PLUGIN_FILE_BYTES]) {
    char name[NAME_BYTES], found[PLUGIN_FILE_BYTES];
    uint64_t hash, got;
    if (!find(directory, index, &hash))
        return false;
    make_name(index, hash, name);
    join(directory, name, found);
    join(directory, loading, path);
    if (rename(found, path) == 0 && hash_file(path, &got) == 0 && got == hash)
        return true;
    unlink(path);
    return false;
}

int plugin_files_begin(const char *directory, char path[PLUGIN_FILE_BYTES]) {
    join(directory, saving, path);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return file < 0 ? -1 : close(file);
}

int plugin_files_keep(const char *directory, uint64_t index) {
    char name[NAME_BYTES], from[PLUGIN_FILE_BYTES], to[PLUGIN_FILE_BYTES];
    uint64_t hash;
    join(directory, saving, from);
    if (hash_file(from, &hash) < 0)
        return -1;
    make_name(index, hash, name);
    join(directory, name, to);
    return rename(from, to);
}

void plugin_files_sweep(const char *directory, time_t since) {
    DIR *folder = opendir(directory);
    const struct dirent *entry;
    struct stat status;
    uint64_t index, hash;
    while (folder && (entry = readdir(folder)))
        if (read_name(entry->d_name, &index, &hash) &&
            fstatat(dirfd(folder), entry->d_name, &status, 0) == 0 && status.st_mtime < since)
            unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder)
        closedir(folder);
}
