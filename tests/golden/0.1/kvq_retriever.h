/* kvq_retriever: an index for embeddings of one's own, in kvquantd.
 *
 * The daemon finds embeddings with an exact index of its own. A shared object that is named in its
 * configuration (`recall_plugin`) and exports
 *
 *     const struct kvq_retriever kvq_retriever_v1 = {
 *         .version = KVQ_RETRIEVER_VERSION, .name = "mine", .open = ..., .add = ..., ...};
 *
 * (in C++: extern "C") is asked instead where it is likely to be quicker. What it answers is taken
 * for a proposal: the daemon drops ids that it did not add or has removed, ids that come twice, ids
 * that nobody wanted and more of them than were asked for, and computes every score itself. A call
 * that takes longer than `recall_timeout`, or one answer after another that has faults, switches
 * the plugin off until the daemon is started again; the exact index, which knows all rows always,
 * answers from then on.
 *
 * A plugin runs inside the daemon. The daemon does not survive its crash, its writing where it must
 * not, nor its exit(); and it can read everything that the daemon holds.
 *
 * Index: what open() makes: embeddings of one model, dimension, type and metric. All sessions of
 * that model are in it, and a query says by `wanted` whose are meant.
 *
 * Threads: the daemon makes one call at a time, whatever the index, on a thread that it has for
 * that and that no request waits behind. A plugin may have threads of its own; they end with
 * close(). `wanted` is called on the thread that called search(), before that returns.
 *
 * Memory: options, ids and the query belong to the daemon and hold until the call returns, the
 * index belongs to the plugin. Vectors stay where they are, readable and unchanged, from add()
 * until remove() of them, or close(), returns: they need not be copied. They must not be written
 * to. Once a call has overrun its time, they stay readable, but may be overwritten by others.
 *
 * Errors: calls return 0, or -1 (search: a negative number) after which the index is as it was. A
 * plugin that fails is switched off.
 */
#ifndef KVQ_RETRIEVER_H
#define KVQ_RETRIEVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVQ_RETRIEVER_VERSION 1
#define KVQ_RETRIEVER_SYMBOL "kvq_retriever_v1"

enum kvq_retriever_dtype {
    KVQ_RETRIEVER_F32 = 0,
    KVQ_RETRIEVER_F16 = 1 /* IEEE 754 binary16 */
};

/* Larger is nearer with both. */
enum kvq_retriever_metric {
    KVQ_RETRIEVER_COSINE = 0,       /* of the angle; vectors come at any length but zero */
    KVQ_RETRIEVER_INNER_PRODUCT = 1 /* the dot product as it is */
};

struct kvq_retriever_options {
    size_t size;  /* of this structure: more may be added behind */
    uint32_t dim; /* 1 .. 4096 */
    enum kvq_retriever_dtype dtype;
    enum kvq_retriever_metric metric;
    const char *options; /* what stands behind the path in `recall_plugin`; "" if nothing does */
};

struct kvq_retriever_query {
    size_t size;         /* of this structure */
    const float *vector; /* [dim], finite; under cosine of length 1 */
    size_t k;            /* hits there is room for; at least 1 */
    /* Whether the row may be among them; to be asked of few rows, those that would be. False for
     * ids that were never added. */
    bool (*wanted)(void *context, uint64_t id);
    void *context;
};

struct kvq_retriever_hit {
    uint64_t id;
    float score;
};

struct kvq_retriever {
    uint32_t version; /* KVQ_RETRIEVER_VERSION */
    const char *name;

    int (*open)(const struct kvq_retriever_options *options, void **index);
    void (*close)(void *index);

    /* Rows of ids first_id, first_id + 1, ..., which were never used before, by `count` vectors
     * side by side, at least as aligned as their numbers. */
    int (*add)(void *index, uint64_t first_id, const void *vectors, size_t count);

    /* Rows that add() brought, those of several calls perhaps, but of none a part. */
    int (*remove)(void *index, uint64_t first_id, size_t count);

    /* Writes the nearest of the wanted rows to hits[k], best first, and returns how many; fewer
     * than k if there are no more, or none are found. */
    ptrdiff_t (*search)(void *index, const struct kvq_retriever_query *query,
                        struct kvq_retriever_hit *hits);

    /* Bytes that the index takes, without the daemon's vectors; asked behind every call that may
     * change it, and counted against the daemon's `memory`. What does not fit there any more
     * switches the plugin off. */
    uint64_t (*memory_bytes)(void *index);

    /* Both may be NULL: the index is then made anew at every start. save() to a file comes before
     * close() when the daemon ends in order, where it has a disk without a key and saves sessions,
     * too. load() of these bytes comes right behind open(), of an index with the same model and
     * options by the same shared object. Every row that is still there is then added again, with
     * its id and its new place: what was loaded of it need not be indexed again. What is not added
     * again is not wanted by any query. Each may take a minute. */
    int (*save)(void *index, const char *path);
    int (*load)(void *index, const char *path);
};

#ifdef __cplusplus
}
#endif

#endif
