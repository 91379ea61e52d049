/* Reading .npy and .npz: the file is mapped and its values are sent from there. */
#include "client/cli/cache_file.h"
#include "client/cli/command.h"
#include "client/cli/npy.h"

#include <stdio.h>
#include <string.h>

static bool narrow(uint64_t dimension, uint32_t *out) {
    *out = (uint32_t)dimension;
    return dimension >= 1 && dimension <= UINT32_MAX;
}

/* Layers and heads of k; head_dim_k. */
static bool set_geometry(const char *name, const struct npy_array *k, uint64_t heads,
                         uint64_t head_dim, struct cache_input *input) {
    struct kvq_geometry *geometry = &input->geometry;
    geometry->dtype = k->dtype;
    if (narrow(k->shape[0], &geometry->layers) && narrow(heads, &geometry->heads) &&
        narrow(head_dim, &geometry->head_dim_k) && input->tokens > 0)
        return true;
    complain("%s: no layers, tokens, heads or values in it", name);
    return false;
}

/* [layers, 2, tokens, heads, head_dim]: K and V of a layer follow each other. */
static bool take_npy(const char *path, enum kvq_dtype dtype, struct cache_input *input) {
    struct npy_array array;
    if (!npy_parse(path, input->file.bytes, input->file.count, dtype, &array))
        return false;
    if (array.rank != 5 || array.shape[1] != 2) {
        complain("%s: shape is not [layers, 2, tokens, heads, head_dim]; K and V of different "
                 "shapes go into an .npz with k and v",
                 path);
        return false;
    }
    input->tokens = array.shape[2];
    if (!set_geometry(path, &array, array.shape[3], array.shape[4], input))
        return false;
    input->geometry.head_dim_v = input->geometry.head_dim_k;
    size_t part_bytes =
        array.shape[2] * array.shape[3] * array.shape[4] * kvq_dtype_bytes(array.dtype);
    input->k.block = array.values;
    input->v.block = array.values + part_bytes;
    input->k.layer_stride = input->v.layer_stride = (ptrdiff_t)(2 * part_bytes);
    return true;
}

/* EXIT_MISS if there is no such array in the file. */
static enum exit_status take_member(const char *path, const char *part, enum kvq_dtype dtype,
                                    const struct cache_input *input, struct npy_array *array) {
    char file[8], name[512];
    struct zip_entry entry;
    snprintf(file, sizeof file, "%s.npy", part);
    snprintf(name, sizeof name, "%s: %s", path, part);
    enum zip_result result = zip_find(input->file.bytes, input->file.count, file, &entry);
    if (result == ZIP_ABSENT)
        return EXIT_MISS;
    if (result == ZIP_COMPRESSED)
        complain("%s: compressed; save it with numpy.savez instead of savez_compressed", name);
    if (result == ZIP_DAMAGED)
        complain("%s: not an .npz file, or truncated or damaged", path);
    if (result != ZIP_FOUND || !npy_parse(name, entry.bytes, entry.count, dtype, array))
        return EXIT_FAILED;
    if (array->rank == 4)
        return EXIT_DONE;
    complain("%s: shape is not [layers, tokens, heads, head_dim]", name);
    return EXIT_FAILED;
}

/* Of an array [layers, tokens, heads, head_dim]. */
static struct kvq_source source_of(const struct npy_array *array) {
    uint64_t layer_values = array->shape[1] * array->shape[2] * array->shape[3];
    return (struct kvq_source){
        .block = array->values,
        .layer_stride = (ptrdiff_t)(layer_values * kvq_dtype_bytes(array->dtype)),
    };
}

/* k and v as [layers, tokens, heads, head_dim]; v may be absent, or of another head_dim. */
static bool take_npz(const char *path, enum kvq_dtype dtype, struct cache_input *input) {
    struct npy_array k, v;
    enum exit_status found = take_member(path, "k", dtype, input, &k);
    if (found == EXIT_MISS)
        complain("%s: no array k in it", path);
    if (found != EXIT_DONE)
        return false;
    input->tokens = k.shape[1];
    if (!set_geometry(path, &k, k.shape[2], k.shape[3], input))
        return false;
    input->k = source_of(&k);
    found = take_member(path, "v", dtype, input, &v);
    if (found != EXIT_DONE)
        return found == EXIT_MISS;
    if (v.dtype != k.dtype || memcmp(v.shape, k.shape, 3 * sizeof k.shape[0]) != 0 ||
        !narrow(v.shape[3], &input->geometry.head_dim_v)) {
        complain("%s: k and v differ in more than head_dim", path);
        return false;
    }
    input->v = source_of(&v);
    return true;
}

bool is_npz(const char *path) {
    size_t length = strlen(path);
    return length >= 4 && strcmp(path + length - 4, ".npz") == 0;
}

bool cache_input_open(const char *path, enum kvq_dtype dtype, struct cache_input *input) {
    *input = (struct cache_input){0};
    return file_map_open(path, &input->file) &&
           (is_npz(path) ? take_npz(path, dtype, input) : take_npy(path, dtype, input));
}

void cache_input_close(struct cache_input *input) {
    file_map_close(&input->file);
}
