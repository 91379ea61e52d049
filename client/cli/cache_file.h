/* A file with K and V of some tokens: .npy for both in one array, .npz for `k` and `v`. */
#ifndef CLIENT_CLI_CACHE_FILE_H
#define CLIENT_CLI_CACHE_FILE_H

#include "client/c/kvq.h"
#include "client/cli/file_map.h"
#include "client/cli/zip.h"

/* A file to read, mapped. Owns the mapping; k and v point into it. */
struct cache_input {
    struct kvq_geometry geometry; /* without rope */
    uint64_t tokens;
    struct kvq_source k, v;
    struct file_map file;
};

/* False: complained. dtype as in npy_parse(). */
bool cache_input_open(const char *path, enum kvq_dtype dtype, struct cache_input *input);
void cache_input_close(struct cache_input *input);

/* A file to write: mapped without a name, or under another one where the file system cannot do
 * that, and put in its place only when it is whole. Owns both.
 */
struct cache_output {
    const char *path;
    char *temporary; /* its other name; NULL: it has none */
    int file;        /* while it is mapped */
    uint8_t *map;
    size_t map_bytes;
    struct kvq_target k, v; /* where the values go */
    struct zip_member members[ZIP_ENTRIES_MAX];
    int member_count; /* 0: an .npy */
};

bool is_npz(const char *path);

/* geometry says layers, heads, head_dim and dtype of what is to be written. False: complained. */
bool cache_output_open(const char *path, const struct kvq_geometry *geometry, uint64_t tokens,
                       struct cache_output *output);

/* Puts the file in place. False: complained; nothing is left. */
bool cache_output_finish(struct cache_output *output);

/* Removes what was not finished. */
void cache_output_close(struct cache_output *output);

#endif
