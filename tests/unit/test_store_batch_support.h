/* Entries of a store's sessions: an entry's vector says which one it is. */
#ifndef TESTS_UNIT_TEST_STORE_BATCH_SUPPORT_H
#define TESTS_UNIT_TEST_STORE_BATCH_SUPPORT_H

#include <stdio.h>

#include "daemon/store/batches.h"
#include "tests/unit/test_store_support.h"

enum { DIM = 24 };

static const struct batch_kind kind = {
    .dim = DIM, .dtype = BATCH_F32, .metric = BATCH_INNER_PRODUCT};

struct entry {
    uint64_t first;
    uint32_t tokens;
    const char *label, *metadata; /* NULL: none */
    float mark;                   /* its vector has this in all places */
};

static inline size_t length_of(const char *text) {
    return text ? strlen(text) : 0;
}

/* As a client gives them; the caller's to free. */
static inline uint8_t *given_bytes(const struct entry *entries, uint32_t count, uint64_t *bytes) {
    uint64_t table = (uint64_t)count * BATCH_ENTRY_BYTES, strings = 0;
    for (uint32_t i = 0; i < count; i++)
        strings += length_of(entries[i].label) + length_of(entries[i].metadata);
    uint64_t vectors = (table + strings + 63) / 64 * 64, at = table;
    *bytes = vectors + (uint64_t)count * DIM * sizeof(float);
    uint8_t *given = calloc(1, *bytes);
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        uint16_t lengths[] = {(uint16_t)length_of(entry->label),
                              (uint16_t)length_of(entry->metadata)};
        uint8_t *to = given + (size_t)i * BATCH_ENTRY_BYTES;
        memcpy(to, &entry->first, 8);
        memcpy(to + 8, &entry->tokens, 4);
        memcpy(to + 12, lengths, 4);
        if (lengths[0])
            memcpy(given + at, entry->label, lengths[0]);
        if (lengths[1])
            memcpy(given + at + lengths[0], entry->metadata, lengths[1]);
        at += (uint64_t)lengths[0] + lengths[1];
        for (size_t c = 0; c < DIM; c++)
            memcpy(given + vectors + ((size_t)i * DIM + c) * sizeof(float), &entry->mark,
                   sizeof(float));
    }
    return given;
}

static char put_fault[160];
static struct batch_put_result put_result;

static inline struct batch_put *begin_put(const char *session, const uint8_t *given, uint64_t bytes,
                                          uint32_t rows) {
    struct batch_put_request request = {
        .session = name_of(session), .kind = kind, .rows = rows, .bytes = bytes};
    struct batch_put *put;
    ck_assert_int_eq(batch_put_begin(&store, &request, &put), STORE_OK);
    for (uint64_t at = 0; at < bytes; at += ATTACHMENT_PIECE_BYTES) {
        uint64_t left = bytes - at;
        size_t piece = left < ATTACHMENT_PIECE_BYTES ? left : ATTACHMENT_PIECE_BYTES;
        if (batch_put_piece(put, at, given + at, piece) != STORE_OK)
            break;
    }
    return put;
}

static inline int end_put(struct batch_put *put) {
    int status;
    while ((status = batch_put_step(put, &put_result)) == STORE_MORE)
        ;
    snprintf(put_fault, sizeof put_fault, "%s", batch_put_fault(put));
    batch_put_end(put);
    return status;
}

static inline int put_entries(const char *session, const struct entry *entries, uint32_t count) {
    uint64_t bytes;
    uint8_t *given = given_bytes(entries, count, &bytes);
    int status = end_put(begin_put(session, given, bytes, count));
    free(given);
    return status;
}

static inline int put_one(const char *session, uint64_t first, uint32_t tokens, const char *label,
                          float mark) {
    return put_entries(
        session, &(struct entry){.first = first, .tokens = tokens, .label = label, .mark = mark},
        1);
}

static inline uint64_t delete_labels(const char *name, const char *label) {
    struct session *session = store_find(&store, name_of(name));
    struct batch_text text = {label, strlen(label)};
    struct batch_delete_request request = {.labels = &text, .label_count = 1};
    struct batch_delete_result result;
    ck_assert_int_eq(batch_delete(&store, session, &request, &result), STORE_OK);
    session_unref(session);
    return result.deleted;
}

static inline uint64_t delete_range(const char *name, uint64_t first, uint64_t end) {
    struct session *session = store_find(&store, name_of(name));
    struct batch_delete_request request = {.first = first, .end = end};
    struct batch_delete_result result;
    ck_assert_int_eq(batch_delete(&store, session, &request, &result), STORE_OK);
    session_unref(session);
    return result.deleted;
}

/* The entry with this mark, of which there must be no other; false if there is none. */
static inline bool find_entry(const char *name, float mark, struct entry *found) {
    static char label[300];
    struct session *session = store_find(&store, name_of(name));
    int count = 0;
    for (struct batch_ref *ref = session->batches; ref; ref = ref->next) {
        struct batch_view view = batch_view(ref->batch);
        for (uint32_t i = 0; i < ref->rows; i++) {
            float vector[DIM];
            memcpy(vector, batch_vector(&view, i), sizeof vector);
            if (!batch_ref_has(ref, i) || vector[0] != mark)
                continue;
            struct batch_text text = batch_label(&view, i);
            ck_assert_float_eq(vector[DIM - 1], mark);
            snprintf(label, sizeof label, "%.*s", (int)text.bytes, text.text);
            *found = (struct entry){.first = view.row[i].first,
                                    .tokens = view.row[i].tokens,
                                    .label = label,
                                    .mark = mark};
            count++;
        }
    }
    session_unref(session);
    ck_assert_int_le(count, 1);
    return count == 1;
}

static inline bool has_entry(const char *name, float mark) {
    struct entry entry;
    return find_entry(name, mark, &entry);
}

static inline uint64_t entries_of(const char *name) {
    return info_of(name).batches.entries;
}

#endif
