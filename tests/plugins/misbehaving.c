/* A retriever that looks at every row, and does what its options say wrong. */
#include "daemon/recall/kvq_retriever.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUNS_MAX = 100000 };

struct run {
    uint64_t first_id;
    const float *vectors;
    size_t count;
};

struct index {
    uint32_t dim;
    enum kvq_retriever_metric metric;
    size_t run_count;
    struct run runs[RUNS_MAX];
    char fault[32];
};

/* What tests look at, and change: found with dlsym(). */
_Atomic int misbehaving_may_return; /* from a call that blocks */
_Atomic int misbehaving_open_indexes;
_Atomic int misbehaving_loaded_rows;

static bool does(const struct index *index, const char *fault) {
    return strcmp(index->fault, fault) == 0;
}

static void block(void) {
    while (!misbehaving_may_return)
        usleep(1000);
}

static int open_index(const struct kvq_retriever_options *options, void **opened) {
    struct index *index = calloc(1, sizeof *index);
    if (index == NULL || strcmp(options->options, "fails-open") == 0) {
        free(index);
        return -1;
    }
    index->dim = options->dim;
    index->metric = options->metric;
    strncpy(index->fault, options->options, sizeof index->fault - 1);
    misbehaving_open_indexes++;
    *opened = index;
    return 0;
}

static void close_index(void *opened) {
    misbehaving_open_indexes--;
    free(opened);
}

static int add(void *opened, uint64_t first_id, const void *vectors, size_t count) {
    struct index *index = opened;
    if (does(index, "fails-add") || index->run_count == RUNS_MAX)
        return -1;
    if (does(index, "blocks-add"))
        block();
    index->runs[index->run_count++] = (struct run){first_id, vectors, count};
    return 0;
}

static int take_out(void *opened, uint64_t first_id, size_t count) {
    struct index *index = opened;
    size_t kept = 0, removed = 0;
    if (does(index, "fails-remove"))
        return -1;
    for (size_t i = 0; i < index->run_count; i++) {
        struct run run = index->runs[i];
        bool gone = run.first_id >= first_id && run.first_id - first_id < count;
        removed += gone ? run.count : 0;
        if (!gone)
            index->runs[kept++] = run;
    }
    index->run_count = kept;
    return removed == count ? 0 : -1;
}

static float score(const struct index *index, const float *query, const float *row) {
    float dot = 0, squares = 0;
    for (uint32_t i = 0; i < index->dim; i++) {
        dot += query[i] * row[i];
        squares += row[i] * row[i];
    }
    return index->metric == KVQ_RETRIEVER_COSINE ? dot / sqrtf(squares) : dot;
}

static int best_first(const void *a, const void *b) {
    float x = ((const struct kvq_retriever_hit *)a)->score;
    float y = ((const struct kvq_retriever_hit *)b)->score;
    return (x < y) - (x > y);
}

/* All wanted rows, best first. */
static struct kvq_retriever_hit *rank(const struct index *index,
                                      const struct kvq_retriever_query *query, size_t *count) {
    size_t rows = 0;
    bool all = does(index, "unwanted");
    for (size_t i = 0; i < index->run_count; i++)
        rows += index->runs[i].count;
    struct kvq_retriever_hit *hits = calloc(rows + 1, sizeof *hits);
    for (size_t i = 0; hits != NULL && i < index->run_count; i++)
        for (size_t r = 0; r < index->runs[i].count; r++) {
            uint64_t id = index->runs[i].first_id + r;
            const float *row = index->runs[i].vectors + r * index->dim;
            if (all || query->wanted(query->context, id))
                hits[(*count)++] = (struct kvq_retriever_hit){id, score(index, query->vector, row)};
        }
    if (hits != NULL)
        qsort(hits, *count, sizeof *hits, best_first);
    return hits;
}

static ptrdiff_t spoil(const struct index *index, struct kvq_retriever_hit *hits, size_t count) {
    if (does(index, "garbage-ids") && count > 0)
        hits[count / 2].id = UINT64_MAX - 1;
    if (does(index, "duplicates") && count > 1)
        hits[count - 1] = hits[0];
    if (does(index, "nan") && count > 0)
        hits[0].score = NAN;
    for (size_t i = 0; does(index, "wrong-scores") && i < count; i++)
        hits[i].score = (float)i;
    return (ptrdiff_t)count;
}

static ptrdiff_t search(void *opened, const struct kvq_retriever_query *query,
                        struct kvq_retriever_hit *hits) {
    const struct index *index = opened;
    size_t count = 0;
    if (does(index, "fails-search"))
        return -1;
    struct kvq_retriever_hit *ranked = rank(index, query, &count);
    if (ranked == NULL)
        return -1;
    size_t room = does(index, "too-many") ? query->k + 5 : query->k;
    count = count < room ? count : room;
    memcpy(hits, ranked, count * sizeof *hits);
    free(ranked);
    if (does(index, "blocks-search")) {
        block();
        (void)query->wanted(query->context, hits[0].id); /* nobody is there any more */
    }
    return does(index, "huge-count") ? PTRDIFF_MAX : spoil(index, hits, count);
}

static uint64_t memory_bytes(void *opened) {
    (void)opened;
    return sizeof(struct index);
}

/* How many rows there are: more is not needed, since all are added again. */
static int save(void *opened, const char *path) {
    const struct index *index = opened;
    size_t rows = 0;
    FILE *file = fopen(path, "w");
    for (size_t i = 0; i < index->run_count; i++)
        rows += index->runs[i].count;
    if (file == NULL)
        return -1;
    fprintf(file, "%zu", rows);
    int status = fclose(file);
    return does(index, "fails-save") ? -1 : status;
}

static int load(void *opened, const char *path) {
    int rows = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return -1;
    int count = fscanf(file, "%d", &rows);
    fclose(file);
    if (count != 1 || does(opened, "fails-load"))
        return -1;
    misbehaving_loaded_rows = rows;
    return 0;
}

const struct kvq_retriever kvq_retriever_v1 = {.version = KVQ_RETRIEVER_VERSION,
                                               .name = "misbehaving",
                                               .open = open_index,
                                               .close = close_index,
                                               .add = add,
                                               .remove = take_out,
                                               .search = search,
                                               .memory_bytes = memory_bytes,
                                               .save = save,
                                               .load = load};
