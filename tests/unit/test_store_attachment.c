/* Attachments: exact, small where they can be, and there as long as their session is. */
#include <stdio.h>

#include "daemon/store/attachments.h"
#include "daemon/store/evict.h"
#include "daemon/store/manifest.h"
#include "tests/unit/test_store_support.h"

enum { LONG_BYTES = 2 * ATTACHMENT_PIECE_BYTES + 1000, PIECE = ATTACHMENT_PIECE_BYTES };

static uint8_t random_bytes[LONG_BYTES], text[LONG_BYTES], read_back[LONG_BYTES + PIECE];

static void set_up_attachments(void) {
    set_up();
    for (size_t i = 0; i < LONG_BYTES; i++) {
        random_bytes[i] = (uint8_t)(rand() >> 8);
        text[i] = (uint8_t) "the same words again and "[i % 25];
    }
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 2 * PAGE, false);
}

static struct attachment_key key_of(const char *session, const char *name) {
    return (struct attachment_key){.session = name_of(session), .name = name_of(name)};
}

static int put_pieces(struct attachment_put *put, const uint8_t *bytes, size_t count) {
    int status = STORE_OK;
    for (size_t at = 0; at < count && status == STORE_OK; at += PIECE)
        status = attachment_put_piece(put, at, bytes + at,
                                      count - at < PIECE ? count - at : (size_t)PIECE, workspace);
    return status;
}

static int attach(const char *session, const char *name, const void *bytes, size_t count) {
    struct attachment_put *put;
    struct attachment_result result;
    struct attachment_key key = key_of(session, name);
    int status = attachment_put_begin(&store, &key, count, &put);
    if (status != STORE_OK)
        return status;
    status = put_pieces(put, bytes, count);
    if (status == STORE_OK)
        status = attachment_put_commit(put, &result);
    attachment_put_end(put);
    return status;
}

/* STORE_OK with how many bytes there are in read_back. */
static int get(const char *session, const char *name, size_t *count) {
    struct attachment_get got;
    struct attachment_key key = key_of(session, name);
    int status = attachment_get_begin(&store, &key, &got);
    *count = 0;
    while (status == STORE_OK || status == STORE_MORE) {
        size_t bytes;
        status = attachment_get_next(&store, &got, read_back + *count, &bytes, workspace);
        *count += bytes;
        if (status == STORE_OK)
            break;
    }
    attachment_get_end(&got);
    return status;
}

static void check(const char *session, const char *name, const void *bytes, size_t count) {
    size_t there;
    ck_assert_int_eq(get(session, name, &there), STORE_OK);
    ck_assert_uint_eq(there, count);
    if (count > 0)
        ck_assert_mem_eq(read_back, bytes, count);
}

static int status_of_get(const char *session, const char *name) {
    size_t count;
    return get(session, name, &count);
}

static int detach(const char *name, const char *attachment) {
    struct attachment_result result;
    struct attachment_key key = key_of(name, attachment);
    struct session *session = store_find(&store, key.session);
    int status = attachment_delete(&store, session, &key, &result);
    session_unref(session);
    return status;
}

static uint8_t *manifest_of(const struct session *session, size_t *bytes) {
    *bytes = manifest_bytes(session, 0);
    uint8_t *memory = calloc(1, *bytes);
    manifest_write(session, NULL, 0, memory);
    return memory;
}

static struct attachment *attachment_of(const char *name, const char *attachment) {
    struct session *session = store_find(&store, name_of(name));
    struct attachment *found =
        attachment_set_find(session->attachments, attachment, strlen(attachment));
    session_unref(session);
    return found;
}

static const size_t lengths[] = {0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, LONG_BYTES};

START_TEST(what_was_put_is_got_to_the_byte) {
    size_t count = lengths[_i];
    ck_assert_int_eq(attach("a", "random", random_bytes, count), STORE_OK);
    ck_assert_int_eq(attach("a", "text", text, count), STORE_OK);
    check("a", "random", random_bytes, count);
    check("a", "text", text, count);
}
END_TEST

START_TEST(only_what_gets_smaller_is_compressed) {
    ck_assert_int_eq(attach("a", "random", random_bytes, LONG_BYTES), STORE_OK);
    ck_assert_int_eq(attach("a", "text", text, LONG_BYTES), STORE_OK);
    ck_assert_uint_lt(attachment_of("a", "text")->spec.record_bytes, LONG_BYTES / 100);
    ck_assert_uint_gt(attachment_of("a", "random")->spec.record_bytes, LONG_BYTES);
    ck_assert_uint_lt(attachment_of("a", "random")->spec.record_bytes, LONG_BYTES + 300);
}
END_TEST

START_TEST(one_of_the_same_name_is_replaced) {
    ck_assert_int_eq(attach("a", "x", text, 100), STORE_OK);
    ck_assert_int_eq(attach("a", "x", random_bytes, LONG_BYTES), STORE_OK);
    check("a", "x", random_bytes, LONG_BYTES);
    ck_assert_uint_eq(info_of("a").attachments.count, 1);
    ck_assert_uint_eq(atomic_load(&store.usage.attachments.count), 1);
}
END_TEST

START_TEST(each_put_and_delete_raises_the_version) {
    uint64_t before = info_of("a").state.version;
    ck_assert_int_eq(attach("a", "x", text, 100), STORE_OK);
    uint64_t put = info_of("a").state.version;
    ck_assert_int_eq(detach("a", "x"), STORE_OK);
    ck_assert_uint_gt(put, before);
    ck_assert_uint_gt(info_of("a").state.version, put);
}
END_TEST

START_TEST(what_is_not_there_is_a_miss) {
    ck_assert_int_eq(status_of_get("a", "x"), STORE_MISS);
    ck_assert_int_eq(status_of_get("b", "x"), STORE_MISS);
    ck_assert_int_eq(detach("a", "x"), STORE_MISS);
    ck_assert_int_eq(attach("b", "x", text, 100), STORE_MISS);
}
END_TEST

START_TEST(another_version_is_refused_at_begin_and_at_commit) {
    struct attachment_put *put;
    struct attachment_result result;
    struct attachment_key key = key_of("a", "x");
    key.if_version = info_of("a").state.version + 1;
    ck_assert_int_eq(attachment_put_begin(&store, &key, 100, &put), STORE_VERSION_CHANGED);
    key.if_version--;
    ck_assert_int_eq(attachment_put_begin(&store, &key, 100, &put), STORE_OK);
    ck_assert_int_eq(put_pieces(put, text, 100), STORE_OK);
    store_tokens("a", 2 * PAGE, 2 * PAGE + 1, false);
    ck_assert_int_eq(attachment_put_commit(put, &result), STORE_VERSION_CHANGED);
    attachment_put_end(put);
    ck_assert_int_eq(status_of_get("a", "x"), STORE_MISS);
}
END_TEST

START_TEST(a_put_that_is_not_committed_leaves_nothing) {
    struct attachment_put *put;
    struct attachment_result result;
    struct attachment_key key = key_of("a", "x");
    uint64_t used = store_used_bytes(&store);
    ck_assert_int_eq(attachment_put_begin(&store, &key, LONG_BYTES, &put), STORE_OK);
    ck_assert_int_eq(attachment_put_commit(put, &result), STORE_INCOMPLETE);
    ck_assert_int_eq(attachment_put_piece(put, 0, text, PIECE, workspace), STORE_OK);
    ck_assert_int_eq(attachment_put_piece(put, 0, text, PIECE, workspace), STORE_INVALID);
    ck_assert_int_eq(attachment_put_piece(put, PIECE, text, 1, workspace), STORE_INVALID);
    ck_assert_int_eq(attachment_put_piece(put, 2 * PIECE, text, 1000, workspace), STORE_INVALID);
    attachment_put_end(put);
    ck_assert_int_eq(status_of_get("a", "x"), STORE_MISS);
    ck_assert_uint_eq(store_used_bytes(&store), used);
}
END_TEST

START_TEST(a_session_has_so_many_and_no_more) {
    char name[8];
    for (int i = 0; i < ATTACHMENTS_MAX; i++) {
        snprintf(name, sizeof name, "%d", i);
        ck_assert_int_eq(attach("a", name, name, strlen(name)), STORE_OK);
    }
    ck_assert_int_eq(attach("a", "one more", text, 1), STORE_UNSUPPORTED);
    ck_assert_int_eq(attach("a", "7", text, 50), STORE_OK);
    check("a", "7", text, 50);
    for (int i = 8; i < ATTACHMENTS_MAX; i++) {
        snprintf(name, sizeof name, "%d", i);
        check("a", name, name, strlen(name));
    }
}
END_TEST

START_TEST(all_of_it_is_given_back) {
    uint64_t used = store_used_bytes(&store);
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(attach("b", "x", random_bytes, LONG_BYTES), STORE_OK);
    ck_assert_int_eq(attach("b", "y", text, 10), STORE_OK);
    ck_assert_uint_gt(store_used_bytes(&store), used + LONG_BYTES);
    ck_assert_int_eq(detach("b", "y"), STORE_OK);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    ck_assert_uint_eq(store_used_bytes(&store), used);
    ck_assert_uint_eq(atomic_load(&store.usage.attachments.bytes), 0);
    ck_assert_uint_eq(atomic_load(&store.usage.attachments.full_bytes), 0);
    ck_assert_uint_eq(atomic_load(&store.usage.attachments.given_bytes), 0);
}
END_TEST

START_TEST(a_session_counts_what_they_take_and_what_of_it_is_its_own) {
    struct session_info before = info_of("a");
    ck_assert_int_eq(attach("a", "x", random_bytes, LONG_BYTES), STORE_OK);
    struct session_info info = info_of("a");
    ck_assert_uint_eq(info.attachments.given_bytes, LONG_BYTES);
    ck_assert_uint_ge(info.attachments.memory_bytes, LONG_BYTES);
    uint64_t more = info.attachments.memory_bytes + sizeof(struct attachment_set);
    ck_assert_uint_eq(info.stored_bytes - before.stored_bytes, more);
    ck_assert_uint_eq(info.unique_bytes - before.unique_bytes, more);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_uint_lt(info_of("a").unique_bytes, LONG_BYTES);
    ck_assert_uint_gt(info_of("b").stored_bytes, LONG_BYTES);
    struct store_totals totals;
    info_totals(&store, &totals);
    ck_assert_uint_eq(totals.stored_bytes, info_of("a").stored_bytes + info_of("b").stored_bytes);
}
END_TEST

START_TEST(a_fork_has_them_without_a_copy_and_goes_its_own_way) {
    ck_assert_int_eq(attach("a", "x", random_bytes, LONG_BYTES), STORE_OK);
    ck_assert_int_eq(attach("a", "y", text, 100), STORE_OK);
    uint64_t used = store_used_bytes(&store);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_uint_lt(store_used_bytes(&store) - used, 4096);
    ck_assert_int_eq(detach("a", "x"), STORE_OK);
    ck_assert_int_eq(attach("b", "y", text, 7), STORE_OK);
    check("b", "x", random_bytes, LONG_BYTES);
    check("b", "y", text, 7);
    check("a", "y", text, 100);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    check("b", "x", random_bytes, LONG_BYTES);
}
END_TEST

START_TEST(a_fork_of_fewer_tokens_has_what_a_session_so_long_had) {
    ck_assert_int_eq(attach("a", "early", text, 100), STORE_OK);
    store_tokens("a", 2 * PAGE, 3 * PAGE, false);
    ck_assert_int_eq(attach("a", "late", text, 200), STORE_OK);
    ck_assert_int_eq(fork_session("a", "b", 2 * PAGE), STORE_OK);
    ck_assert_int_eq(fork_session("a", "c", PAGE), STORE_OK);
    check("b", "early", text, 100);
    ck_assert_int_eq(status_of_get("b", "late"), STORE_MISS);
    ck_assert_uint_eq(info_of("c").attachments.count, 0);
}
END_TEST

START_TEST(a_truncation_to_nothing_takes_them_along_and_any_other_leaves_them) {
    ck_assert_int_eq(attach("a", "x", text, 100), STORE_OK);
    ck_assert_int_eq(truncate_session("a", 1), STORE_OK);
    check("a", "x", text, 100);
    ck_assert_int_eq(truncate_session("a", 0), STORE_OK);
    ck_assert_int_eq(status_of_get("a", "x"), STORE_MISS);
    ck_assert_uint_eq(atomic_load(&store.usage.attachments.count), 0);
    ck_assert_int_eq(attach("a", "x", text, 50), STORE_OK);
    check("a", "x", text, 50);
}
END_TEST

START_TEST(a_truncation_of_a_session_without_tokens_takes_them_along) {
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(attach("b", "x", text, 100), STORE_OK);
    uint64_t version = info_of("b").state.version;
    ck_assert_int_eq(truncate_session("b", 0), STORE_OK);
    ck_assert_int_eq(status_of_get("b", "x"), STORE_MISS);
    ck_assert_uint_gt(info_of("b").state.version, version);
}
END_TEST

static int evict(const char *name, uint64_t want_bytes, struct evict_result *result) {
    struct session *session = store_find(&store, name_of(name));
    int status =
        evict_session(&store, session, &(struct evict_request){.want_bytes = want_bytes}, result);
    session_unref(session);
    return status;
}

START_TEST(an_eviction_leaves_them_until_the_last_token_goes) {
    struct evict_result result;
    ck_assert_int_eq(attach("a", "x", random_bytes, LONG_BYTES), STORE_OK);
    ck_assert_int_eq(evict("a", 1, &result), STORE_OK);
    check("a", "x", random_bytes, LONG_BYTES);
    ck_assert_int_eq(evict("a", UINT64_MAX, &result), STORE_OK);
    ck_assert(result.deleted);
    ck_assert_uint_gt(result.bytes, LONG_BYTES);
    ck_assert_int_eq(status_of_get("a", "x"), STORE_MISS);
}
END_TEST

START_TEST(a_session_of_attachments_alone_can_be_evicted) {
    struct evict_result result;
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(evict("b", 1, &result), STORE_WAIT);
    ck_assert_int_eq(attach("b", "x", text, 100), STORE_OK);
    ck_assert_int_eq(evict("b", 1, &result), STORE_OK);
    ck_assert_int_eq(status_of_get("b", "x"), STORE_MISS);
}
END_TEST

START_TEST(attachments_that_could_go_to_disk_are_not_evicted) {
    struct evict_request request = {.want_bytes = UINT64_MAX, .keeps_spillable = true};
    struct evict_result result;
    ck_assert_int_eq(open_session("b", PAGE_EXACT), STORE_OK);
    ck_assert_int_eq(attach("b", "x", text, 100), STORE_OK);
    struct session *session = store_find(&store, name_of("b"));
    ck_assert_int_eq(evict_session(&store, session, &request, &result), STORE_UNSUPPORTED);
    session_unref(session);
    check("b", "x", text, 100);
}
END_TEST

START_TEST(a_get_under_way_ends_when_the_attachment_goes) {
    struct attachment_get got;
    struct attachment_key key = key_of("a", "x");
    size_t bytes;
    ck_assert_int_eq(attach("a", "x", random_bytes, LONG_BYTES), STORE_OK);
    ck_assert_int_eq(attachment_get_begin(&store, &key, &got), STORE_OK);
    ck_assert_int_eq(attachment_get_next(&store, &got, read_back, &bytes, workspace), STORE_MORE);
    if (_i == 0)
        ck_assert_int_eq(detach("a", "x"), STORE_OK);
    else if (_i == 1)
        ck_assert_int_eq(attach("a", "x", random_bytes, LONG_BYTES), STORE_OK);
    else
        ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(attachment_get_next(&store, &got, read_back, &bytes, workspace), STORE_MISS);
    attachment_get_end(&got);
}
END_TEST

/* A bit of the record at a time; every one is found, or is not part of what was put. */
START_TEST(what_is_damaged_in_memory_is_a_miss_and_counted) {
    const uint8_t *bytes = _i == 0 ? text : random_bytes;
    ck_assert_int_eq(attach("a", "x", bytes, 3000), STORE_OK);
    struct attachment *attachment = attachment_of("a", "x");
    const uint8_t *header, *piece;
    size_t header_bytes, piece_bytes;
    ck_assert(attachment_find_part(attachment, 0, &header, &header_bytes));
    ck_assert(attachment_find_part(attachment, 1, &piece, &piece_bytes));
    uint8_t *record = (uint8_t *)header;
    uint64_t damaged = 0, first = (uint64_t)(piece - record) - 16;
    for (uint64_t at = first * 8; at < attachment->spec.record_bytes * 8; at += 5) {
        record[at / 8] ^= (uint8_t)(1u << at % 8);
        ck_assert_int_eq(status_of_get("a", "x"), STORE_MISS);
        ck_assert_uint_eq(atomic_load(&store.usage.attachments_damaged), ++damaged);
        record[at / 8] ^= (uint8_t)(1u << at % 8);
    }
    check("a", "x", bytes, 3000);
}
END_TEST

START_TEST(a_record_with_one_bit_changed_is_not_loaded) {
    ck_assert_int_eq(attach("a", "x", text, LONG_BYTES), STORE_OK);
    struct attachment *attachment = attachment_of("a", "x");
    const uint8_t *header;
    size_t header_bytes;
    ck_assert(attachment_find_part(attachment, 0, &header, &header_bytes));
    for (size_t at = 0; at <= header_bytes * 8; at++) {
        struct attachment_home home = attachment->home;
        struct attachment *copy = attachment_new(&home, &attachment->spec);
        struct pool_extent room;
        ck_assert_int_eq(attachment_begin_load(copy, &room), STORE_MORE);
        uint8_t *memory = pool_memory(home.pool, &room);
        memcpy(memory, header, attachment->spec.record_bytes);
        if (at < header_bytes * 8)
            memory[at / 8] ^= (uint8_t)(1u << at % 8);
        ck_assert(attachment_end_load(copy, &room, ATTACHMENT_READ) == (at == header_bytes * 8));
        attachment_unref(copy);
    }
}
END_TEST

START_TEST(a_manifest_names_them) {
    struct manifest manifest;
    struct attachment_spec spec;
    size_t bytes, at = 0;
    ck_assert_int_eq(attach("a", "y", text, LONG_BYTES), STORE_OK);
    ck_assert_int_eq(attach("a", "x", NULL, 0), STORE_OK);
    struct session *session = store_find(&store, name_of("a"));
    uint8_t *memory = manifest_of(session, &bytes);
    ck_assert_int_eq(manifest_read(&manifest, memory, bytes), 0);
    ck_assert(manifest_next_attachment(&manifest, &at, &spec));
    ck_assert_mem_eq(spec.name, "x", 1);
    ck_assert_uint_eq(spec.bytes, 0);
    ck_assert(manifest_next_attachment(&manifest, &at, &spec));
    ck_assert_uint_eq(spec.name_bytes, 1);
    ck_assert_uint_eq(spec.id, attachment_of("a", "y")->spec.id);
    ck_assert_uint_eq(spec.bytes, LONG_BYTES);
    ck_assert_uint_eq(spec.record_bytes, attachment_of("a", "y")->spec.record_bytes);
    ck_assert_uint_eq(spec.tokens, 2 * PAGE);
    ck_assert(!manifest_next_attachment(&manifest, &at, &spec));
    free(memory);
    session_unref(session);
}
END_TEST

/* The disk's checksum stands before this: whatever comes is read within its bytes. */
START_TEST(their_list_of_any_bytes_is_read_within_them) {
    struct manifest manifest;
    size_t bytes, list_bytes = 2 * 33 + strlen("x") + strlen("a longer name");
    ck_assert_int_eq(attach("a", "x", text, 10), STORE_OK);
    ck_assert_int_eq(attach("a", "a longer name", text, 1000), STORE_OK);
    struct session *session = store_find(&store, name_of("a"));
    free(manifest_of(session, &bytes));
    for (size_t at = (bytes - list_bytes - 8) * 8; at < bytes * 8; at++) {
        struct attachment_spec spec;
        uint8_t *memory = manifest_of(session, &bytes);
        memory[at / 8] ^= (uint8_t)(1u << at % 8);
        bool is_read = manifest_read(&manifest, memory, bytes) == 0;
        for (size_t next = 0; is_read && manifest_next_attachment(&manifest, &next, &spec);)
            ck_assert((const uint8_t *)spec.name + spec.name_bytes <= memory + bytes);
        free(memory);
    }
    session_unref(session);
}
END_TEST

START_TEST(what_the_device_did_not_give_is_a_miss_for_a_while) {
    ck_assert_int_eq(attach("a", "x", text, 100), STORE_OK);
    struct attachment *copy =
        attachment_new(&attachment_of("a", "x")->home, &attachment_of("a", "x")->spec);
    struct pool_extent room;
    ck_assert_int_eq(attachment_begin_load(copy, &room), STORE_MORE);
    ck_assert_int_eq(attachment_begin_load(copy, &room), STORE_WAIT);
    ck_assert(!attachment_end_load(copy, &room, ATTACHMENT_DEVICE_FAILED));
    ck_assert_int_eq(attachment_begin_load(copy, &room), STORE_MISS);
    copy->lost_until_ns = 0;
    ck_assert_int_eq(attachment_begin_load(copy, &room), STORE_MORE);
    ck_assert(!attachment_end_load(copy, &room, ATTACHMENT_NOT_READ));
    ck_assert_uint_eq(copy->lost_until_ns, UINT64_MAX);
    ck_assert_int_eq(attachment_begin_load(copy, &room), STORE_MISS);
    attachment_unref(copy);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("attachment");
    tcase_add_checked_fixture(cases, set_up_attachments, tear_down);
    tcase_add_loop_test(cases, what_was_put_is_got_to_the_byte, 0,
                        sizeof lengths / sizeof *lengths);
    tcase_add_test(cases, only_what_gets_smaller_is_compressed);
    tcase_add_test(cases, one_of_the_same_name_is_replaced);
    tcase_add_test(cases, each_put_and_delete_raises_the_version);
    tcase_add_test(cases, what_is_not_there_is_a_miss);
    tcase_add_test(cases, another_version_is_refused_at_begin_and_at_commit);
    tcase_add_test(cases, a_put_that_is_not_committed_leaves_nothing);
    tcase_add_test(cases, a_session_has_so_many_and_no_more);
    tcase_add_test(cases, all_of_it_is_given_back);
    tcase_add_test(cases, a_session_counts_what_they_take_and_what_of_it_is_its_own);
    tcase_add_test(cases, a_fork_has_them_without_a_copy_and_goes_its_own_way);
    tcase_add_test(cases, a_fork_of_fewer_tokens_has_what_a_session_so_long_had);
    tcase_add_test(cases, a_truncation_to_nothing_takes_them_along_and_any_other_leaves_them);
    tcase_add_test(cases, a_truncation_of_a_session_without_tokens_takes_them_along);
    tcase_add_test(cases, an_eviction_leaves_them_until_the_last_token_goes);
    tcase_add_test(cases, a_session_of_attachments_alone_can_be_evicted);
    tcase_add_test(cases, attachments_that_could_go_to_disk_are_not_evicted);
    tcase_add_loop_test(cases, a_get_under_way_ends_when_the_attachment_goes, 0, 3);
    tcase_add_loop_test(cases, what_is_damaged_in_memory_is_a_miss_and_counted, 0, 2);
    tcase_add_test(cases, a_record_with_one_bit_changed_is_not_loaded);
    tcase_add_test(cases, what_the_device_did_not_give_is_a_miss_for_a_while);
    tcase_add_test(cases, a_manifest_names_them);
    tcase_add_test(cases, their_list_of_any_bytes_is_read_within_them);
    return run_suite(cases);
}
