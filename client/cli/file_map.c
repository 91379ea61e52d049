#include "client/cli/file_map.h"

#include "client/cli/command.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_map_open(const char *path, struct file_map *map) {
    *map = (struct file_map){0};
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status)) {
        complain("%s: %s", path, strerror(errno));
        if (file >= 0)
            close(file);
        return false;
    }
    if (!S_ISREG(status.st_mode) || status.st_size == 0) {
        complain("%s: %s", path, S_ISREG(status.st_mode) ? "an empty file" : "not a file");
        close(file);
        return false;
    }
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (bytes == MAP_FAILED) {
        complain("%s: cannot be mapped: %s", path, strerror(errno));
        return false;
    }
    *map = (struct file_map){bytes, (size_t)status.st_size};
    return true;
}

void file_map_close(struct file_map *map) {
    if (map->bytes)
        munmap(map->bytes, map->count);
    map->bytes = NULL;
}
