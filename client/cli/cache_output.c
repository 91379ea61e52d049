/* Writing .npy and .npz: values are received straight into the mapped file. */
#include "client/cli/cache_file.h"
#include "client/cli/command.h"
#include "client/cli/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(const struct cache_output *output, int reason) {
    complain("%s: cannot be written: %s", output->path, strerror(reason));
    return false;
}

/* -1 where the file system has no files without a name. */
static int open_unnamed(const char *path) {
    char *copy = strdup(path);
    int file = copy ? open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666) : -1;
    free(copy);
    return file;
}

static int open_temporary(struct cache_output *output) {
    if (asprintf(&output->temporary, "%s.XXXXXX", output->path) < 0) {
        output->temporary = NULL;
        return -1;
    }
    int file = mkostemp(output->temporary, O_CLOEXEC);
    mode_t mask = umask(0);
    umask(mask);
    if (file >= 0 && fchmod(file, 0666 & ~mask) == 0)
        return file;
    int reason = errno;
    if (file >= 0) {
        close(file);
        unlink(output->temporary);
    }
    free(output->temporary);
    output->temporary = NULL;
    errno = reason;
    return -1;
}

/* Reserves the space, so that a full disk is an error here and not a signal later. */
static bool map_file(struct cache_output *output) {
    int file = open_unnamed(output->path);
    if (file < 0)
        file = open_temporary(output);
    if (file < 0)
        return fail(output, errno);
    int reason = posix_fallocate(file, 0, (off_t)output->map_bytes);
    void *map = MAP_FAILED;
    if (!reason)
        map = mmap(NULL, output->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED && !reason)
        reason = errno;
    if (reason) {
        close(file);
        return fail(output, reason);
    }
    output->file = file;
    output->map = map;
    return true;
}

/* A file cannot be linked over another: it gets a name beside it first. */
static bool name_unnamed(struct cache_output *output) {
    char unnamed[32];
    snprintf(unnamed, sizeof unnamed, "/proc/self/fd/%d", output->file);
    if (asprintf(&output->temporary, "%s.%ld", output->path, (long)getpid()) < 0) {
        output->temporary = NULL;
        return fail(output, ENOMEM);
    }
    if (linkat(AT_FDCWD, unnamed, AT_FDCWD, output->temporary, AT_SYMLINK_FOLLOW) == 0)
        return true;
    int reason = errno;
    free(output->temporary);
    output->temporary = NULL;
    return fail(output, reason);
}

/* Bytes of K or V of one layer. */
static size_t layer_bytes(const struct kvq_geometry *geometry, uint64_t tokens, uint32_t head_dim) {
    return tokens * geometry->heads * head_dim * kvq_dtype_bytes(geometry->dtype);
}

static bool open_npy(const struct kvq_geometry *geometry, uint64_t tokens,
                     struct cache_output *output) {
    size_t part_bytes = layer_bytes(geometry, tokens, geometry->head_dim_k);
    output->map_bytes = NPY_HEADER_BYTES + 2 * part_bytes * geometry->layers;
    if (!map_file(output))
        return false;
    const uint64_t shape[] = {geometry->layers, 2, tokens, geometry->heads, geometry->head_dim_k};
    npy_write_header(output->map, geometry->dtype, shape, 5);
    output->k.block = output->map + NPY_HEADER_BYTES;
    output->v.block = output->map + NPY_HEADER_BYTES + part_bytes;
    output->k.layer_stride = output->v.layer_stride = (ptrdiff_t)(2 * part_bytes);
    return true;
}

static void add_member(struct cache_output *output, const char *name,
                       const struct kvq_geometry *geometry, uint64_t tokens, uint32_t head_dim) {
    uint64_t offset = 0;
    if (output->member_count > 0) {
        const struct zip_member *before = &output->members[output->member_count - 1];
        offset = before->offset + ZIP_LOCAL_BYTES + before->count;
    }
    output->members[output->member_count++] = (struct zip_member){
        .name = name,
        .offset = offset,
        .count = NPY_HEADER_BYTES + layer_bytes(geometry, tokens, head_dim) * geometry->layers,
    };
}

static size_t directory_offset(const struct cache_output *output) {
    const struct zip_member *last = &output->members[output->member_count - 1];
    return last->offset + ZIP_LOCAL_BYTES + last->count;
}

/* Where the values of a member go, its header before them. */
static void *member_values(struct cache_output *output, int member,
                           const struct kvq_geometry *geometry, uint64_t tokens,
                           uint32_t head_dim) {
    const uint64_t shape[] = {geometry->layers, tokens, geometry->heads, head_dim};
    uint8_t *header = output->map + output->members[member].offset + ZIP_LOCAL_BYTES;
    npy_write_header(header, geometry->dtype, shape, 4);
    return header + NPY_HEADER_BYTES;
}

static bool open_npz(const struct kvq_geometry *geometry, uint64_t tokens,
                     struct cache_output *output) {
    add_member(output, "k.npy", geometry, tokens, geometry->head_dim_k);
    if (geometry->head_dim_v > 0)
        add_member(output, "v.npy", geometry, tokens, geometry->head_dim_v);
    output->map_bytes = directory_offset(output) + zip_directory_bytes(output->member_count);
    if (!map_file(output))
        return false;
    output->k.block = member_values(output, 0, geometry, tokens, geometry->head_dim_k);
    if (geometry->head_dim_v > 0)
        output->v.block = member_values(output, 1, geometry, tokens, geometry->head_dim_v);
    return true;
}

/* The new file would take the place of what is there, were it a device. */
static bool may_be_replaced(const char *path) {
    struct stat status;
    if (stat(path, &status) || S_ISREG(status.st_mode))
        return true;
    complain("%s: is there and not a file; choose another name", path);
    return false;
}

bool cache_output_open(const char *path, const struct kvq_geometry *geometry, uint64_t tokens,
                       struct cache_output *output) {
    *output = (struct cache_output){.path = path};
    if (!may_be_replaced(path))
        return false;
    if (is_npz(path))
        return open_npz(geometry, tokens, output);
    if (geometry->head_dim_k == geometry->head_dim_v)
        return open_npy(geometry, tokens, output);
    complain("%s: K and V of this session differ in shape; export to a name that ends in .npz",
             path);
    return false;
}

static void finish_npz(struct cache_output *output) {
    for (int i = 0; i < output->member_count; i++) {
        struct zip_member *member = &output->members[i];
        uint8_t *header = output->map + member->offset;
        member->crc = zip_crc(header + ZIP_LOCAL_BYTES, member->count);
        zip_write_local(header, member);
    }
    size_t offset = directory_offset(output);
    zip_write_directory(output->map + offset, offset, output->members, output->member_count);
}

bool cache_output_finish(struct cache_output *output) {
    if (output->member_count > 0)
        finish_npz(output);
    if (!output->temporary && !name_unnamed(output))
        return false;
    if (rename(output->temporary, output->path))
        return fail(output, errno);
    free(output->temporary);
    output->temporary = NULL;
    return true;
}

void cache_output_close(struct cache_output *output) {
    if (output->temporary)
        unlink(output->temporary);
    free(output->temporary);
    if (output->map) {
        munmap(output->map, output->map_bytes);
        close(output->file);
    }
    *output = (struct cache_output){0};
}
