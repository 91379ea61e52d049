/* An open chunk: a record being built page by page, seen by nobody until it is finished.
 *
 * The builder owns its extent and reservation until builder_finish() hands both to a record.
 */
#ifndef DAEMON_STORE_BUILDER_H
#define DAEMON_STORE_BUILDER_H

#include "daemon/store/record.h"

struct builder {
    struct pool *pool;
    struct budget *budget;
    struct pool_extent extent;
    uint64_t cursor_bytes, reserved_bytes;
    struct record_tally tally;
    struct record *record; /* what finish hands out, made first so that finish cannot fail */
};

/* No record of this spec is larger. */
uint64_t builder_bound_bytes(const struct record_spec *spec);

/* STORE_OK or STORE_FULL. */
int builder_init(struct builder *builder, struct pool *pool, struct budget *budget,
                 const struct record_spec *spec) __attribute__((warn_unused_result));

/* Frees all that was built; nothing happens after builder_finish() or on a zeroed builder. */
void builder_deinit(struct builder *builder);

/* Codes a page and enters it; workspace is PAGE_WORKSPACE_BYTES. STORE_OK, STORE_FULL (nothing was
 * done) or STORE_INTERNAL. */
int builder_put(struct builder *builder, uint32_t layer, const struct page_source *source,
                double inherited_error, void *workspace) __attribute__((warn_unused_result));

/* Enters a page that is as coarse as that already, or makes it so from its integers alone. The
 * same, or STORE_UNSUPPORTED (nothing was done): it can only be decoded and coded again. */
int builder_age(struct builder *builder, uint32_t layer, const struct page_bytes *page, int level,
                double inherited_error, void *workspace) __attribute__((warn_unused_result));

/* Makes K and V of a layer coarser together, in less time. The same; STORE_UNSUPPORTED also if one
 * of them is as coarse already. */
int builder_age_layer(struct builder *builder, uint32_t layer,
                      const struct page_bytes pages[GEOMETRY_PARTS], int level,
                      const double inherited_error[GEOMETRY_PARTS], void *workspace)
    __attribute__((warn_unused_result));

/* The finished record with one pin, the caller's. */
struct record *builder_finish(struct builder *builder);

#endif
