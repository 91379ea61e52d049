/* A file to read, mapped. */
#ifndef CLIENT_CLI_FILE_MAP_H
#define CLIENT_CLI_FILE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Owns the mapping. */
struct file_map {
    uint8_t *bytes;
    size_t count;
};

/* False: complained; there is nothing to close. */
bool file_map_open(const char *path, struct file_map *map);
void file_map_close(struct file_map *map);

#endif
