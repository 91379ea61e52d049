#include "daemon/store/recode.h"

#include <stdlib.h>
#include <time.h>

#include "daemon/base/log.h"
#include "daemon/base/private_memory.h"
#include "daemon/store/builder.h"
#include "daemon/store/error.h"

enum { UNPIN_WAIT_NS = 100000 };

int recoder_init(struct recoder *recoder) {
    char *memory = private_memory_new(RECODER_BYTES);
    recoder->workspace = memory;
    recoder->page = memory ? memory + PAGE_WORKSPACE_BYTES : NULL;
    return memory ? 0 : -1;
}

void recoder_deinit(struct recoder *recoder) {
    private_memory_free(recoder->workspace, RECODER_BYTES);
}

/* Where integers cannot be made coarser: decodes and codes again, which adds its loss to the old.
 */
static int code_again(struct recoder *recoder, const struct record_spec *spec,
                      const struct record *old, const struct page_bytes *page,
                      struct builder *builder, uint32_t layer, enum page_part part) {
    const struct geometry *geometry = spec->geometry;
    uint32_t head_dim = geometry_head_dim(geometry, part);
    struct page_strides strides = {.token = (size_t)geometry->heads * head_dim, .head = head_dim};
    struct page_target target = {.tokens = old->tokens,
                                 .dtype = geometry->dtype,
                                 .values = recoder->page,
                                 .strides = strides};
    struct page_source source = {.shape = geometry_shape(geometry, part, old->tokens),
                                 .part = part,
                                 .level = spec->level,
                                 .snr_db = spec->min_snr_db,
                                 .sink_tokens = old->sink_tokens,
                                 .values = recoder->page,
                                 .strides = strides,
                                 .layer = layer,
                                 .layers = geometry->layers};
    struct loss loss;
    if (page_decode(page->page, page->bytes, &target, recoder->workspace) != PAGE_OK ||
        record_page_loss(old, layer, part, &loss) < 0)
        return STORE_INTERNAL;
    return builder_put(builder, layer, &source, loss.error, recoder->workspace);
}

static int recode_layer(struct recoder *recoder, const struct record_spec *spec,
                        const struct record *old, struct builder *builder, uint32_t layer) {
    struct page_bytes pages[GEOMETRY_PARTS];
    double inherited_error[GEOMETRY_PARTS];
    int parts = geometry_head_dim(spec->geometry, PAGE_V) > 0 ? GEOMETRY_PARTS : 1;
    for (int part = 0; part < parts; part++)
        if (record_read_page(old, layer, (enum page_part)part, &pages[part],
                             &inherited_error[part]) < 0)
            return STORE_INTERNAL;
    int status = parts < GEOMETRY_PARTS ? STORE_UNSUPPORTED
                                        : builder_age_layer(builder, layer, pages, spec->level,
                                                            inherited_error, recoder->workspace);
    if (status != STORE_UNSUPPORTED)
        return status;
    status = STORE_OK;
    for (int part = 0; part < parts && status == STORE_OK; part++) {
        status = builder_age(builder, layer, &pages[part], spec->level, inherited_error[part],
                             recoder->workspace);
        if (status == STORE_UNSUPPORTED)
            status =
                code_again(recoder, spec, old, &pages[part], builder, layer, (enum page_part)part);
    }
    return status;
}

/* STORE_CANCELLED when it is not to go on. */
static int recode_layers(struct recoder *recoder, const struct record_spec *spec,
                         const struct record *old, struct builder *builder) {
    int status = STORE_OK;
    for (uint32_t layer = 0; layer < spec->geometry->layers && status == STORE_OK; layer++)
        status = recoder->go_on(recoder->context) ? recode_layer(recoder, spec, old, builder, layer)
                                                  : STORE_CANCELLED;
    return status;
}

/* A coarser record of the same tokens, which says the same of itself, or NULL. */
static struct record *recode(struct recoder *recoder, const struct record *old,
                             const struct recode_job *job) {
    struct builder builder;
    struct record_spec spec;
    record_read_spec(old, &spec);
    spec.geometry = job->geometry;
    spec.level = job->level;
    if (builder_init(&builder, recoder->pool, recoder->working_space, &spec) != STORE_OK) {
        log_error("the keeper has no room to bring a chunk to level %d", spec.level);
        return NULL;
    }
    int status = recode_layers(recoder, &spec, old, &builder);
    if (status == STORE_OK)
        return builder_finish(&builder);
    if (status != STORE_CANCELLED)
        log_error("the keeper could not bring a chunk to level %d: error %d", spec.level, status);
    builder_deinit(&builder);
    return NULL;
}

/* Swaps the records. The old one's bytes are held until its readers are done; then the new one
 * moves from the working space to the place in the budget that the old one had. False if
 * the chunk has another record by now, or an owner has come that wants it finer. */
static bool replace(struct recoder *recoder, struct chunk *chunk, struct record *old,
                    struct record *record) {
    uint64_t bytes = record->reserved_bytes;
    record->budget = old->budget;
    if (!chunk_replace(chunk, old, record)) {
        record->budget = recoder->working_space;
        return false;
    }
    while (atomic_load(&old->pins) > 2) /* ours and the one that was the chunk's */
        nanosleep(&(struct timespec){.tv_nsec = UNPIN_WAIT_NS}, NULL);
    old->reserved_bytes -= bytes;
    record_unpin(old);
    record_unpin(old);
    budget_release(recoder->working_space, bytes);
    return true;
}

/* Decibels that are promised are measured where true values are coded. What making a lossy page
 * coarser loses can only be estimated, so that one stays. */
static bool keeps_promise(const struct record *record) {
    struct record_spec spec;
    record_read_spec(record, &spec);
    return spec.min_snr_db > 0 && record->level > PAGE_EXACT;
}

/* Of a pinned record, which is unpinned. */
static struct recode_result recode_record(struct recoder *recoder, const struct recode_job *job,
                                          struct record *old) {
    bool stays = keeps_promise(old);
    struct record *record = stays ? NULL : recode(recoder, old, job);
    bool is_smaller = record && record->reserved_bytes < old->reserved_bytes;
    struct recode_result done = {old->reserved_bytes, is_smaller ? record->reserved_bytes : 0};
    if (is_smaller && replace(recoder, job->chunk, old, record))
        return done;
    if (record)
        record_unpin(record);
    if ((record && !is_smaller) || stays)
        atomic_store(&old->level_asked, job->level); /* it is no larger, or promised: it stays */
    record_unpin(old);
    return (struct recode_result){0};
}

struct recode_result recode_chunk(struct recoder *recoder, const struct recode_job *job) {
    struct record *old = chunk_pin(job->chunk);
    if (!record_is_absent(old))
        return recode_record(recoder, job, old);
    record_unpin(old); /* it is on disk, at the level that it had when it went there */
    return (struct recode_result){0};
}
