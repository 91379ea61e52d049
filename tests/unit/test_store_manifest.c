/* Manifests and summaries: what a session and a chunk say of themselves on disk. */
#include <stdio.h>

#include "daemon/base/bytes.h"
#include "daemon/store/manifest.h"
#include "daemon/store/record_disk.h"
#include "tests/unit/test_store_support.h"

static struct session *stored(int level, uint64_t tokens) {
    ck_assert_int_eq(open_session("a", level), STORE_OK);
    struct append_member *append = begin("a", 0, tokens, false);
    ck_assert_int_eq(put_all(append, 0, tokens), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
    return store_find(&store, name_of("a"));
}

static uint8_t *written(const struct session *session, const struct tail_piece *pieces,
                        size_t count, size_t *bytes) {
    *bytes = manifest_bytes(session, count);
    uint8_t *memory = calloc(1, *bytes);
    manifest_write(session, pieces, count, memory);
    return memory;
}

START_TEST(a_manifest_says_what_the_session_is) {
    struct session *session = stored(PAGE_EXACT, 300);
    const struct tail_piece pieces[] = {{7, 40}, {9, 4}};
    struct manifest manifest;
    size_t bytes;
    uint8_t *memory = written(session, pieces, 2, &bytes);
    ck_assert_int_eq(manifest_read(&manifest, memory, bytes), 0);
    ck_assert_uint_eq(manifest.session_id, session->id);
    ck_assert_uint_eq(manifest.version, session->version);
    ck_assert_uint_eq(manifest.tokens, 300);
    ck_assert_uint_eq(manifest.tail_tokens, 44);
    ck_assert_int_eq(manifest.policy.level, PAGE_EXACT);
    ck_assert(geometry_equal(&manifest.geometry, &geometry));
    ck_assert_uint_eq(manifest.names.session_bytes, 1);
    ck_assert_mem_eq(manifest.names.session, "a", 1);
    ck_assert_mem_eq(manifest.names.model, "model", 5);
    ck_assert_uint_eq(manifest.slice_count, 2);
    struct manifest_slice slice = manifest_slice(&manifest, 1);
    ck_assert_uint_eq(slice.chunk_id, session->slices[1].chunk->id);
    ck_assert_uint_eq(slice.start, PAGE);
    ck_assert_uint_eq(slice.tokens, PAGE);
    ck_assert_uint_eq(manifest_piece(&manifest, 1).id, 9);
    ck_assert_uint_eq(manifest_piece(&manifest, 1).rows, 4);
    free(memory);
    session_unref(session);
}
END_TEST

START_TEST(a_manifest_that_is_cut_or_longer_is_none) {
    struct session *session = stored(PAGE_EXACT, 300);
    const struct tail_piece piece = {7, 44};
    struct manifest manifest;
    size_t bytes;
    uint8_t *memory = written(session, &piece, 1, &bytes);
    for (size_t cut = 0; cut < bytes; cut++)
        ck_assert_int_eq(manifest_read(&manifest, memory, cut), -1);
    free(memory);
    session_unref(session);
}
END_TEST

START_TEST(a_manifest_says_what_the_session_lost) {
    struct session *session = stored(PAGE_EXACT, 300);
    const struct tail_piece piece = {7, 44};
    struct manifest manifest;
    size_t bytes;
    session->lost_tokens = UINT64_C(1) << 40;
    uint8_t *memory = written(session, &piece, 1, &bytes);
    ck_assert_int_eq(manifest_read(&manifest, memory, bytes), 0);
    ck_assert_uint_eq(manifest.lost_tokens, UINT64_C(1) << 40);
    free(memory);
    session_unref(session);
}
END_TEST

START_TEST(a_manifest_that_the_first_daemons_wrote_is_read) {
    static uint8_t bytes[2048];
    uint32_t ids[300];
    struct manifest manifest;
    FILE *file = fopen("tests/golden/session.manifest", "rb");
    ck_assert_ptr_nonnull(file);
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    ck_assert_int_eq(manifest_read(&manifest, bytes, count), 0);
    ck_assert_mem_eq(manifest.names.session, "a session", 9);
    ck_assert_mem_eq(manifest.names.model, "a model", 7);
    ck_assert_uint_eq(manifest.tokens, 300);
    ck_assert_uint_eq(manifest.tail_tokens, 44);
    ck_assert_uint_eq(manifest.slice_count, 2);
    ck_assert_uint_eq(manifest_piece(&manifest, 1).id, 9);
    ck_assert_int_eq(manifest.policy.floor, 4);
    ck_assert_uint_eq(manifest.policy.ttl_ms, 3600000);
    ck_assert_uint_eq(manifest.id_count, 300);
    manifest_read_ids(&manifest, NULL, ids);
    ck_assert_uint_eq(ids[0], 39383);
    ck_assert_uint_eq(manifest.lost_tokens + manifest.blocks_bytes, 0);
}
END_TEST

/* With a section behind the others that says it has so many bytes, and has 3. */
static int read_with_section(uint32_t kind, uint32_t says_bytes) {
    struct session *session = stored(PAGE_EXACT, 300);
    const struct tail_piece piece = {7, 44};
    struct manifest manifest;
    size_t bytes;
    uint8_t *memory = written(session, &piece, 1, &bytes);
    memory = realloc(memory, bytes + 11);
    bytes_put(memory + 12, bytes + 11, 4);
    bytes_put(memory + bytes, kind, 4);
    bytes_put(memory + bytes + 4, says_bytes, 4);
    memset(memory + bytes + 8, 0xff, 3);
    int status = manifest_read(&manifest, memory, bytes + 11);
    ck_assert(status < 0 || manifest.lost_tokens == 0);
    free(memory);
    session_unref(session);
    return status;
}

START_TEST(a_section_of_a_later_daemon_is_skipped) {
    ck_assert_int_eq(read_with_section(1000, 3), 0);
}
END_TEST

START_TEST(a_section_that_does_not_end_with_its_manifest_makes_it_none) {
    ck_assert_int_eq(read_with_section(1000, 4), -1);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(read_with_section(1, 3), -1);
}
END_TEST

/* The disk's checksum stands before this: whatever comes is read within its bytes. */
START_TEST(a_manifest_of_any_bytes_is_read_within_them) {
    struct session *session = stored(PAGE_EXACT, 300);
    const struct tail_piece piece = {7, 44};
    struct manifest manifest;
    size_t bytes;
    uint8_t *memory = written(session, &piece, 1, &bytes);
    uint8_t *changed = malloc(bytes);
    for (size_t at = 0; at < bytes * 8; at++) {
        memcpy(changed, memory, bytes);
        changed[at / 8] ^= (uint8_t)(1u << at % 8);
        if (manifest_read(&manifest, changed, bytes) == 0)
            ck_assert_uint_le(manifest.names.session_bytes, 255);
    }
    free(changed);
    free(memory);
    session_unref(session);
}
END_TEST

START_TEST(a_summary_says_of_an_absent_record_what_it_said_itself) {
    struct session *session = stored(PAGE_EXACT, PAGE);
    uint8_t summary[RECORD_SUMMARY_BYTES];
    struct record *record = chunk_pin(session->slices[0].chunk);
    record_write_summary(record, summary);
    struct record *absent = record_read_summary(store.pool, &store.budget, summary);
    ck_assert_ptr_nonnull(absent);
    ck_assert(record_is_absent(absent) && !record_is_absent(record));
    ck_assert_uint_eq(absent->bytes, record->bytes);
    ck_assert_uint_eq(absent->tokens, record->tokens);
    ck_assert_int_eq(absent->level, record->level);
    ck_assert(absent->loss[PAGE_K].energy == record->loss[PAGE_K].energy);
    ck_assert_uint_eq(absent->reserved_bytes, 0);
    record_unpin(absent);
    record_unpin(record);
    session_unref(session);
}
END_TEST

START_TEST(a_records_parts_are_all_of_it_without_gaps) {
    struct session *session = stored(3, PAGE);
    struct record *record = chunk_pin(session->slices[0].chunk);
    struct disk_part parts[1 + LAYERS * GEOMETRY_PARTS];
    ck_assert_uint_eq(record_parts_max(record), sizeof parts / sizeof *parts);
    size_t count = record_parts(record, parts, sizeof parts / sizeof *parts), bytes = 0;
    ck_assert_uint_eq(count, sizeof parts / sizeof *parts);
    for (size_t i = 0; i < count; i++) {
        ck_assert_ptr_eq(parts[i].memory, (uint8_t *)record_room(record) + bytes);
        bytes += parts[i].bytes;
    }
    ck_assert_uint_eq(bytes, record->bytes);
    record_unpin(record);
    session_unref(session);
}
END_TEST

START_TEST(bytes_that_are_not_the_record_are_not_taken_for_it) {
    struct session *session = stored(PAGE_EXACT, PAGE);
    struct record *record = chunk_pin(session->slices[0].chunk);
    struct record *absent = record_without_bytes(record), *copy = record_with_room(absent);
    ck_assert_ptr_nonnull(copy);
    memcpy(record_room(copy), record_room(record), record->bytes);
    ck_assert_int_eq(record_check_arrived(copy, &geometry), 0);
    ck_assert_int_eq(copy->level, record->level);
    struct geometry other = geometry;
    other.heads++;
    ck_assert_int_eq(record_check_arrived(copy, &other), -1);
    size_t header_bytes = 104;
    for (size_t at = 0; at < header_bytes; at++) {
        ((uint8_t *)record_room(copy))[at] ^= 1;
        ck_assert_int_eq(record_check_header(copy, &geometry), -1);
        ((uint8_t *)record_room(copy))[at] ^= 1;
    }
    ck_assert_int_eq(record_check_header(copy, &geometry), 0);
    record_unpin(copy);
    record_unpin(absent);
    record_unpin(record);
    session_unref(session);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("manifest");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, a_manifest_says_what_the_session_is);
    tcase_add_test(cases, a_manifest_that_is_cut_or_longer_is_none);
    tcase_add_test(cases, a_manifest_says_what_the_session_lost);
    tcase_add_test(cases, a_manifest_that_the_first_daemons_wrote_is_read);
    tcase_add_test(cases, a_section_of_a_later_daemon_is_skipped);
    tcase_add_test(cases, a_section_that_does_not_end_with_its_manifest_makes_it_none);
    tcase_add_test(cases, a_manifest_of_any_bytes_is_read_within_them);
    tcase_add_test(cases, a_summary_says_of_an_absent_record_what_it_said_itself);
    tcase_add_test(cases, a_records_parts_are_all_of_it_without_gaps);
    tcase_add_test(cases, bytes_that_are_not_the_record_are_not_taken_for_it);
    return run_suite(cases);
}
