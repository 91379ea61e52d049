#include "daemon/store/batch_merge.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/store/error.h"
#include "daemon/store/session.h"

enum { STEP_BYTES = 1 << 20, STEP_PIECES = 4 };

/* --- what the session has --- */

static int copy_gone(struct batch_source *source, const struct batch_ref *ref) {
    size_t bytes = batch_ref_words(ref->rows) * sizeof *source->gone;
    source->gone = malloc(bytes);
    if (!source->gone)
        return STORE_FULL;
    memcpy(source->gone, ref->gone, bytes);
    return STORE_OK;
}

static bool has(const struct batch_source *source, uint32_t row) {
    return !(source->gone[row / 64] >> row % 64 & 1);
}

static int compare(const void *a, const void *b) {
    const struct batch_source *left = a, *right = b;
    return (left->estimate_bytes > right->estimate_bytes) -
           (left->estimate_bytes < right->estimate_bytes);
}

static bool is_mergeable(const struct batch_merge *merge, const struct batch_source *source) {
    struct batch_view view = batch_view(source->batch);
    return batch_kind_equal(&view.kind, &merge->given->kind);
}

/* Each that is no larger than what is merged already: so a row is copied as often as the session's
 * batches double, and there are few. */
static int choose(struct batch_merge *merge, const struct session *session) {
    uint64_t bytes =
        batch_bytes(&merge->given->kind, merge->given->rows, merge->given->string_bytes);
    size_t kept = 0;
    if (merge->source_count > 0)
        qsort(merge->sources, merge->source_count, sizeof *merge->sources, compare);
    for (size_t i = 0; i < merge->source_count; i++) {
        struct batch_source source = merge->sources[i];
        if (source.estimate_bytes > bytes || bytes + source.estimate_bytes > ATTACHMENT_BYTES_MAX ||
            !is_mergeable(merge, &source))
            continue;
        if (copy_gone(&source, batch_set_find(session, source.batch)) != STORE_OK)
            return STORE_FULL;
        bytes += source.estimate_bytes;
        merge->sources[i] = merge->sources[kept];
        merge->sources[kept++] = source;
    }
    merge->merged_count = kept;
    return STORE_OK;
}

int batch_merge_begin(struct batch_merge *merge, const struct session *session,
                      const struct batch_given *given, const struct batch_labels *labels) {
    size_t count = batch_set_count(session);
    *merge = (struct batch_merge){.given = given,
                                  .labels = labels,
                                  .changes = session->batch_changes,
                                  .sources = calloc(count + 1, sizeof *merge->sources)};
    if (!merge->sources)
        return STORE_FULL;
    for (const struct batch_ref *ref = session->batches; ref; ref = ref->next) {
        attachment_ref(ref->batch);
        merge->sources[merge->source_count++] =
            (struct batch_source){.batch = ref->batch,
                                  .rows = ref->rows,
                                  .live = ref->live,
                                  .estimate_bytes = ref->batch->spec.bytes * ref->live / ref->rows};
    }
    return choose(merge, session);
}

/* --- what goes into the new one --- */

/* Without those whose labels are given anew. */
static void measure(struct batch_source *source, const struct batch_labels *labels) {
    struct batch_view view = batch_view(source->batch);
    source->live = 0;
    source->string_bytes = 0;
    for (uint32_t i = 0; i < source->rows; i++) {
        if (!has(source, i))
            continue;
        if (batch_labels_have(labels, &view, i)) {
            source->gone[i / 64] |= UINT64_C(1) << i % 64;
            continue;
        }
        source->live++;
        source->string_bytes += view.row[i].label_bytes + view.row[i].metadata_bytes;
    }
}

/* Those that fit, from the smallest on: sizes were estimated. */
static void add_up(struct batch_merge *merge) {
    const struct batch_kind *kind = &merge->given->kind;
    merge->rows = merge->given->rows;
    merge->string_bytes = merge->given->string_bytes;
    for (size_t i = 0; i < merge->merged_count; i++) {
        struct batch_source *source = &merge->sources[i];
        measure(source, merge->labels);
        uint64_t strings = merge->string_bytes + source->string_bytes;
        if (batch_bytes(kind, merge->rows + source->live, strings) > ATTACHMENT_BYTES_MAX) {
            merge->merged_count = i;
            break;
        }
        merge->rows += source->live;
        merge->string_bytes = strings;
    }
    merge->next_source = 0;
}

static int provide(struct batch_merge *merge, const struct attachment_home *home) {
    const struct batch_kind *kind = &merge->given->kind;
    add_up(merge);
    uint64_t bytes = batch_bytes(kind, merge->rows, merge->string_bytes);
    struct attachment_spec spec = {
        .id = usage_next_id(home->usage, merge->rows), .bytes = bytes, .is_batch = true};
    struct attachment *batch = attachment_new(home, &spec);
    if (!batch)
        return STORE_FULL;
    if (attachment_provide(batch) != STORE_OK) {
        attachment_unref(batch);
        return STORE_FULL;
    }
    merge->batch = batch;
    batch_write_head(attachment_memory(batch), kind, merge->rows, merge->string_bytes);
    return STORE_MORE;
}

/* --- copying --- */

static void put_row(struct batch_merge *merge, const struct batch_row *row, const void *strings,
                    const void *vector) {
    size_t vector_bytes = batch_vector_bytes(&merge->given->kind);
    struct batch_view view = batch_view(merge->batch);
    uint8_t *bytes = attachment_memory(merge->batch);
    uint64_t at = BATCH_HEAD_BYTES + merge->rows * sizeof *row + merge->next_string;
    size_t string_bytes = (size_t)row->label_bytes + row->metadata_bytes;
    if (string_bytes > 0)
        memcpy(bytes + at, strings, string_bytes);
    memcpy(bytes + (view.vectors - view.bytes) + merge->next_row * vector_bytes, vector,
           vector_bytes);
    struct batch_row *to = (struct batch_row *)(bytes + BATCH_HEAD_BYTES) + merge->next_row++;
    *to = *row;
    to->strings = (uint32_t)at;
    merge->next_string += string_bytes;
}

/* False behind the last. */
static bool copy_row(struct batch_merge *merge, const struct batch_source *source) {
    struct batch_view view = batch_view(source->batch);
    while (merge->source_row < source->rows && !has(source, merge->source_row))
        merge->source_row++;
    if (merge->source_row == source->rows)
        return false;
    uint32_t row = merge->source_row++;
    put_row(merge, &view.row[row], view.bytes + view.row[row].strings, batch_vector(&view, row));
    return true;
}

static bool copy_given(struct batch_merge *merge) {
    const struct batch_given *given = merge->given;
    uint32_t i = merge->source_row;
    if (i == given->rows)
        return false;
    struct batch_entry entry = batch_entry(given, i);
    const uint8_t *strings = given->strings + merge->given_string;
    struct batch_text label = {(const char *)strings, entry.label_bytes};
    struct batch_row row = {.first = entry.first,
                            .tokens = entry.tokens,
                            .put_us = clock_wall_us(),
                            .label_hash = batch_label_hash(label),
                            .label_bytes = entry.label_bytes,
                            .metadata_bytes = entry.metadata_bytes};
    put_row(merge, &row, strings, given->vectors + i * batch_vector_bytes(&given->kind));
    merge->given_string += (uint64_t)entry.label_bytes + entry.metadata_bytes;
    merge->source_row++;
    return true;
}

static void copy_some(struct batch_merge *merge) {
    size_t row_bytes = batch_vector_bytes(&merge->given->kind) + sizeof(struct batch_row);
    for (size_t bytes = 0; bytes < STEP_BYTES && merge->next_source <= merge->merged_count;
         bytes += row_bytes) {
        bool copied = merge->next_source < merge->merged_count
                          ? copy_row(merge, &merge->sources[merge->next_source])
                          : copy_given(merge);
        if (copied)
            continue;
        merge->next_source++;
        merge->source_row = 0;
    }
}

int batch_merge_step(struct batch_merge *merge, const struct attachment_home *home) {
    if (!merge->batch)
        return provide(merge, home);
    if (merge->next_source <= merge->merged_count) {
        copy_some(merge);
        return STORE_MORE;
    }
    for (int i = 0; i < STEP_PIECES && merge->next_piece < attachment_pieces(merge->batch); i++)
        attachment_note_piece(merge->batch, merge->next_piece++);
    if (merge->next_piece < attachment_pieces(merge->batch))
        return STORE_MORE;
    attachment_seal(merge->batch);
    return STORE_OK;
}

void batch_merge_end(struct batch_merge *merge) {
    for (size_t i = 0; i < merge->source_count; i++) {
        attachment_unref(merge->sources[i].batch);
        free(merge->sources[i].gone);
    }
    free(merge->sources);
    if (merge->batch)
        attachment_unref(merge->batch);
    *merge = (struct batch_merge){0};
}
