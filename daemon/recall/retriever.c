#include "daemon/recall/retriever_batches.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/array.h"

static void on_dropped(struct plugin_rows *rows) {
    retriever_unref((void *)((char *)rows - offsetof(struct retriever_batch, given)));
}

struct retriever *retriever_new(const struct retriever_options *options) {
    struct retriever *retriever = calloc(1, sizeof *retriever);
    if (!retriever)
        return NULL;
    retriever->options = *options;
    pthread_mutex_init(&retriever->lock, NULL);
    if (options->plugin)
        retriever->plugin_index = plugin_index_new(
            options->plugin, &(struct plugin_index_options){.format = options->format,
                                                            .name = options->name,
                                                            .name_bytes = options->name_bytes,
                                                            .dropped = on_dropped});
    return retriever;
}

void retriever_free(struct retriever *retriever) {
    if (retriever->plugin_index) /* with all rows, as it is to be saved */
        plugin_index_free(retriever->plugin_index);
    retriever->plugin_index = NULL;
    while (retriever->count > 0)
        retriever_remove(retriever, retriever->batches[retriever->count - 1]->rows.first_id);
    pthread_mutex_destroy(&retriever->lock);
    free(retriever->batches);
    free(retriever);
}

static bool keeps_lengths(const struct vectors_format *format) {
    return format->metric == KVQ_RETRIEVER_COSINE;
}

size_t retriever_batch_bytes(const struct vectors_format *format, size_t count) {
    return sizeof(struct retriever_batch) + sizeof(struct retriever_batch *) +
           (keeps_lengths(format) ? count * sizeof(float) : 0);
}

static struct retriever_batch *batch_new(struct retriever *retriever, void *name, uint64_t first_id,
                                         const void *vectors, size_t count) {
    const struct vectors_format *format = &retriever->options.format;
    struct retriever_batch *batch = malloc(retriever_batch_bytes(format, count));
    if (!batch)
        return NULL;
    *batch = (struct retriever_batch){
        .retriever = retriever,
        .batch = name,
        .rows = {first_id, vectors, count, NULL},
        .given = {.first_id = first_id, .vectors = vectors, .count = count},
        .references = retriever->plugin_index ? 2 : 1,
    };
    if (keeps_lengths(format)) {
        vectors_inverse_lengths(format, vectors, count, batch->inverse_lengths);
        batch->rows.inverse_lengths = batch->inverse_lengths;
    }
    return batch;
}

/* The place of the first batch whose rows do not all have lower ids. */
static size_t place(struct retriever_batch *const *batches, size_t count, uint64_t id) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct flat_rows *rows = &batches[middle]->rows;
        if (rows->first_id + rows->count <= id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int insert(struct retriever *retriever, struct retriever_batch *batch) {
    size_t at = place(retriever->batches, retriever->count, batch->rows.first_id);
    struct retriever_batch **batches =
        array_grow(retriever->batches, retriever->count, &retriever->capacity, sizeof(void *));
    if (!batches)
        return -1;
    memmove(&batches[at + 1], &batches[at], (retriever->count - at) * sizeof(void *));
    batches[at] = batch;
    retriever->batches = batches;
    retriever->count++;
    retriever->usage.rows += batch->rows.count;
    retriever->usage.bytes += retriever_batch_bytes(&retriever->options.format, batch->rows.count);
    return 0;
}

int retriever_add(struct retriever *retriever, void *batch, uint64_t first_id, const void *vectors,
                  size_t count) {
    struct retriever_batch *added = batch_new(retriever, batch, first_id, vectors, count);
    if (!added)
        return -1;
    pthread_mutex_lock(&retriever->lock);
    int status = insert(retriever, added);
    pthread_mutex_unlock(&retriever->lock);
    if (status < 0)
        free(added);
    else if (retriever->plugin_index && !plugin_index_add(retriever->plugin_index, &added->given))
        retriever_unref(added);
    return status;
}

static struct retriever_batch *take_out(struct retriever *retriever, uint64_t first_id) {
    size_t at = place(retriever->batches, retriever->count, first_id);
    struct retriever_batch *batch = at < retriever->count ? retriever->batches[at] : NULL;
    if (!batch || batch->rows.first_id != first_id)
        return NULL;
    retriever->count--;
    memmove(&retriever->batches[at], &retriever->batches[at + 1],
            (retriever->count - at) * sizeof(void *));
    retriever->usage.rows -= batch->rows.count;
    return batch;
}

void retriever_remove(struct retriever *retriever, uint64_t first_id) {
    pthread_mutex_lock(&retriever->lock);
    struct retriever_batch *batch = take_out(retriever, first_id);
    pthread_mutex_unlock(&retriever->lock);
    if (!batch)
        return;
    if (retriever->plugin_index)
        plugin_index_remove(retriever->plugin_index, &batch->given);
    retriever_unref(batch);
}

void retriever_unref(struct retriever_batch *batch) {
    struct retriever *retriever = batch->retriever;
    pthread_mutex_lock(&retriever->lock);
    bool last = --batch->references == 0;
    if (last)
        retriever->usage.bytes -=
            retriever_batch_bytes(&retriever->options.format, batch->rows.count);
    pthread_mutex_unlock(&retriever->lock);
    if (!last)
        return;
    retriever->options.released(retriever->options.context, batch->batch);
    free(batch);
}

struct retriever_usage retriever_usage(struct retriever *retriever) {
    pthread_mutex_lock(&retriever->lock);
    struct retriever_usage usage = retriever->usage;
    pthread_mutex_unlock(&retriever->lock);
    if (retriever->plugin_index) {
        struct plugin_index_usage plugin = plugin_index_usage(retriever->plugin_index);
        usage.plugin_rows = plugin.rows;
        usage.plugin_bytes = plugin.bytes;
    }
    return usage;
}
