/* Entries: embeddings of a session's tokens, there as long as these are. */
#include <math.h>

#include "daemon/store/evict.h"
#include "daemon/store/manifest.h"
#include "tests/unit/test_store_batch_support.h"

enum { TOKENS = 3 * PAGE + 40, PUT_STEPS = 7 /* of a small one, with the last */ };

/* What who searches was told that there is. */
static struct heard {
    struct session *session;
    struct attachment *batch;
} heard[4096];
static size_t heard_count;

static void on_batch(void *context, struct session *session, struct attachment *batch,
                     bool is_there) {
    size_t i = 0;
    ck_assert_ptr_eq(context, heard);
    while (i < heard_count && (heard[i].session != session || heard[i].batch != batch))
        i++;
    ck_assert(is_there == (i == heard_count));
    if (is_there)
        heard[heard_count++] = (struct heard){session, batch};
    else
        heard[i] = heard[--heard_count];
}

static void set_up_entries(void) {
    set_up();
    heard_count = 0;
    store.batch_listener = (struct store_batch_listener){on_batch, heard};
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, TOKENS, false);
}

/* Whoever searches knows the batches of all sessions, and no others. */
static void check_heard(size_t names, const char *const *name) {
    size_t count = 0;
    for (size_t i = 0; i < names; i++) {
        struct session *session = store_find(&store, name_of(name[i]));
        for (struct batch_ref *ref = session->batches; ref; ref = ref->next, count++) {
            size_t at = 0;
            while (at < heard_count &&
                   (heard[at].session != session || heard[at].batch != ref->batch))
                at++;
            ck_assert_uint_lt(at, heard_count);
        }
        session_unref(session);
    }
    ck_assert_uint_eq(count, heard_count);
}

static void check_heard_of(const char *name) {
    check_heard(1, &name);
}

START_TEST(what_was_put_is_there_as_it_was_given) {
    const struct entry entries[] = {{10, 20, "first", "some metadata", 1},
                                    {0, TOKENS, NULL, NULL, 2},
                                    {TOKENS - 1, 1, "third", NULL, 3}};
    struct entry got_entry;
    uint64_t version = info_of("a").state.version;
    ck_assert_int_eq(put_entries("a", entries, 3), STORE_OK);
    ck_assert_uint_eq(entries_of("a"), 3);
    ck_assert_uint_eq(info_of("a").state.version, version);
    ck_assert(find_entry("a", 1, &got_entry));
    ck_assert_uint_eq(got_entry.first, 10);
    ck_assert_uint_eq(got_entry.tokens, 20);
    ck_assert_str_eq(got_entry.label, "first");
    struct session *session = store_find(&store, name_of("a"));
    struct batch_view view = batch_view(session->batches->batch);
    ck_assert_uint_eq((uintptr_t)view.vectors % 64, 0);
    ck_assert_mem_eq(batch_metadata(&view, 0).text, "some metadata", 13);
    ck_assert_uint_eq(batch_metadata(&view, 1).bytes, 0);
    ck_assert_uint_eq(view.first_id, put_result.first_id);
    session_unref(session);
    check_heard_of("a");
}
END_TEST

START_TEST(numbers_are_never_given_again) {
    ck_assert_int_eq(put_entries("a", (struct entry[]){{0, 1, 0, 0, 1}, {1, 1, 0, 0, 2}}, 2),
                     STORE_OK);
    uint64_t first = put_result.first_id;
    ck_assert_int_eq(put_one("a", 0, 1, NULL, 3), STORE_OK);
    ck_assert_uint_ge(put_result.first_id, first + 2);
    first = put_result.first_id;
    delete_range("a", 0, TOKENS);
    ck_assert_int_eq(put_one("a", 0, 1, NULL, 3), STORE_OK);
    ck_assert_uint_gt(put_result.first_id, first);
}
END_TEST

START_TEST(a_range_that_is_not_there_is_a_miss_that_names_it) {
    ck_assert_int_eq(put_one("a", TOKENS - 1, 2, NULL, 1), STORE_MISS);
    ck_assert_ptr_nonnull(strstr(put_fault, "entry 0 is of tokens 423 to 425"));
    ck_assert_int_eq(put_one("a", UINT64_MAX, 1, NULL, 1), STORE_INVALID);
    ck_assert_int_eq(put_one("a", 5, 0, NULL, 1), STORE_INVALID);
    ck_assert_uint_eq(entries_of("a"), 0);
}
END_TEST

static const float not_numbers[] = {NAN, INFINITY, -INFINITY, 1e38f};

START_TEST(a_vector_that_is_not_finite_is_refused) {
    ck_assert_int_eq(put_one("a", 0, 1, NULL, not_numbers[_i]), STORE_INVALID);
    ck_assert_ptr_nonnull(strstr(put_fault, "the vector of entry 0"));
    ck_assert_uint_eq(entries_of("a"), 0);
}
END_TEST

START_TEST(only_by_direction_is_a_zero_vector_refused) {
    float zero[BATCH_DIM_MAX] = {0}, small[BATCH_DIM_MAX] = {[7] = 1e-30f};
    uint16_t halves[BATCH_DIM_MAX] = {0}, nan[BATCH_DIM_MAX] = {[9] = 0x7e00};
    struct batch_kind cosine = {.dim = 17, .dtype = BATCH_F32, .metric = BATCH_COSINE};
    struct batch_kind product = {.dim = 17, .dtype = BATCH_F32, .metric = BATCH_INNER_PRODUCT};
    ck_assert_ptr_nonnull(batch_vector_fault(&cosine, (uint8_t *)zero));
    ck_assert_ptr_nonnull(batch_vector_fault(&cosine, (uint8_t *)small));
    ck_assert_ptr_null(batch_vector_fault(&product, (uint8_t *)zero));
    cosine.dtype = product.dtype = BATCH_F16;
    ck_assert_ptr_nonnull(batch_vector_fault(&cosine, (uint8_t *)halves));
    ck_assert_ptr_null(batch_vector_fault(&product, (uint8_t *)halves));
    ck_assert_ptr_nonnull(batch_vector_fault(&product, (uint8_t *)nan));
    halves[16] = 1;
    ck_assert_ptr_null(batch_vector_fault(&cosine, (uint8_t *)halves));
}
END_TEST

START_TEST(what_is_not_what_it_says_is_refused) {
    const struct entry entries[] = {{0, 1, "x", NULL, 1}, {1, 1, "y", NULL, 2}};
    uint64_t bytes;
    uint8_t *given = given_bytes(entries, 2, &bytes);
    ck_assert_int_eq(end_put(begin_put("a", given, bytes, 3)), STORE_INVALID);
    ck_assert_int_eq(end_put(begin_put("a", given, bytes, 0)), STORE_INVALID);
    ck_assert_int_eq(end_put(begin_put("a", given, bytes, UINT32_MAX)), STORE_INVALID);
    ck_assert_int_eq(end_put(begin_put("a", given, bytes - 4, 2)), STORE_INVALID);
    given[12]++;                                                          /* its label's length */
    ck_assert_int_eq(end_put(begin_put("a", given, bytes, 2)), STORE_OK); /* into the zeros */
    memset(given + 12, 0xff, 2);
    ck_assert_int_eq(end_put(begin_put("a", given, bytes, 2)), STORE_INVALID);
    free(given);
    const struct entry twice[] = {{0, 1, "x", NULL, 1}, {1, 1, "x", NULL, 2}};
    ck_assert_int_eq(put_entries("a", twice, 2), STORE_INVALID);
    struct batch_put_request request = {.session = name_of("nobody"), .kind = kind, .rows = 1};
    struct batch_put *put;
    ck_assert_int_eq(batch_put_begin(&store, &request, &put), STORE_MISS);
    request = (struct batch_put_request){.session = name_of("a"), .if_version = 1, .kind = kind};
    ck_assert_int_eq(batch_put_begin(&store, &request, &put), STORE_VERSION_CHANGED);
}
END_TEST

START_TEST(a_put_that_did_not_end_leaves_nothing) {
    uint64_t bytes, used = store_used_bytes(&store);
    uint8_t *given = given_bytes(&(struct entry){0, 1, NULL, NULL, 1}, 1, &bytes);
    struct batch_put *put = begin_put("a", given, bytes, 1);
    while (_i-- > 0 && batch_put_step(put, &put_result) == STORE_MORE)
        ;
    batch_put_end(put);
    free(given);
    ck_assert_uint_eq(entries_of("a"), 0);
    ck_assert_uint_eq(store_used_bytes(&store), used);
    ck_assert_uint_eq(heard_count, 0);
}
END_TEST

START_TEST(an_entry_of_the_same_label_is_replaced_and_one_without_never) {
    const struct entry more[] = {{0, 1, "x", NULL, 10}, {1, 1, "y", NULL, 11}};
    ck_assert_int_eq(put_one("a", 0, 5, "x", 1), STORE_OK);
    ck_assert_int_eq(put_one("a", 0, 5, NULL, 2), STORE_OK);
    ck_assert_int_eq(put_one("a", 0, 5, NULL, 3), STORE_OK);
    ck_assert_uint_eq(put_result.replaced, 0);
    ck_assert_int_eq(put_one("a", 5, 5, "x", 4), STORE_OK);
    ck_assert_uint_eq(put_result.replaced, 1);
    ck_assert(!has_entry("a", 1) && has_entry("a", 2) && has_entry("a", 3) && has_entry("a", 4));
    ck_assert_int_eq(put_entries("a", more, 2), STORE_OK);
    ck_assert_uint_eq(put_result.replaced, 1);
    ck_assert(!has_entry("a", 4) && has_entry("a", 10) && has_entry("a", 11));
    ck_assert_uint_eq(entries_of("a"), 4);
    check_heard_of("a");
}
END_TEST

/* One batch is too large to become one with those behind it. */
START_TEST(a_label_is_replaced_in_a_batch_that_stays) {
    enum { MANY = 1000 };
    struct entry *many = calloc(MANY, sizeof *many);
    static char labels[MANY][8];
    for (int i = 0; i < MANY; i++) {
        snprintf(labels[i], sizeof labels[i], "n%d", i);
        many[i] = (struct entry){.first = 0, .tokens = 1, .label = labels[i], .mark = (float)i + 1};
    }
    ck_assert_int_eq(put_entries("a", many, MANY), STORE_OK);
    ck_assert_int_eq(put_one("a", 0, 1, "n500", -1), STORE_OK);
    ck_assert_uint_eq(put_result.replaced, 1);
    ck_assert_uint_eq(info_of("a").batches.batches, 2);
    ck_assert(!has_entry("a", 501) && has_entry("a", 500) && has_entry("a", -1));
    ck_assert_int_eq(put_entries("a", many, MANY), STORE_OK);
    ck_assert_uint_eq(put_result.replaced, MANY);
    ck_assert_uint_eq(entries_of("a"), MANY);
    ck_assert_uint_eq(info_of("a").batches.batches, 1);
    free(many);
    check_heard_of("a");
}
END_TEST

START_TEST(a_thousand_puts_make_a_dozen_batches) {
    char label[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(label, sizeof label, "n%d", i);
        ck_assert_int_eq(put_one("a", (uint64_t)i % TOKENS, 1, i % 3 ? label : NULL, (float)i + 1),
                         STORE_OK);
    }
    ck_assert_uint_eq(entries_of("a"), 1000);
    ck_assert_uint_le(info_of("a").batches.batches, 12);
    for (int i = 0; i < 1000; i++) {
        struct entry entry;
        ck_assert(find_entry("a", (float)i + 1, &entry));
        ck_assert_uint_eq(entry.first, (uint64_t)i % TOKENS);
        snprintf(label, sizeof label, "n%d", i);
        ck_assert_str_eq(entry.label, i % 3 ? label : "");
    }
    ck_assert_uint_lt(info_of("a").batches.memory_bytes, 1000 * (DIM * 4 + 60) + 12 * 8192);
    check_heard_of("a");
}
END_TEST

START_TEST(entries_are_deleted_by_label_or_by_tokens) {
    const struct entry entries[] = {
        {0, 10, "x", 0, 1}, {10, 10, "y", 0, 2}, {20, 10, NULL, 0, 3}, {5, 20, "z", 0, 4}};
    ck_assert_int_eq(put_entries("a", entries, 4), STORE_OK);
    ck_assert_uint_eq(delete_labels("a", "nothing"), 0);
    ck_assert_uint_eq(delete_labels("a", "y"), 1);
    ck_assert_uint_eq(delete_labels("a", "y"), 0);
    ck_assert(!has_entry("a", 2));
    ck_assert_uint_eq(delete_range("a", 9, 10), 2);
    ck_assert(!has_entry("a", 1) && has_entry("a", 3) && !has_entry("a", 4));
    ck_assert_uint_eq(delete_range("a", 0, UINT64_MAX), 1);
    ck_assert_uint_eq(entries_of("a"), 0);
    ck_assert_uint_eq(heard_count, 0);
    ck_assert_uint_eq(atomic_load(&store.usage.batches.count), 0);
}
END_TEST

START_TEST(entries_go_with_their_tokens_and_do_not_come_back_with_others) {
    const struct entry entries[] = {
        {0, 10, NULL, 0, 1}, {PAGE, 10, NULL, 0, 2}, {TOKENS - 10, 10, NULL, 0, 3}};
    ck_assert_int_eq(put_entries("a", entries, 3), STORE_OK);
    ck_assert_int_eq(truncate_session("a", PAGE), STORE_OK);
    store_tokens("a", PAGE, TOKENS, false);
    ck_assert(has_entry("a", 1) && !has_entry("a", 2) && !has_entry("a", 3));
    ck_assert_uint_eq(entries_of("a"), 1);
    check_heard_of("a");
    ck_assert_int_eq(truncate_session("a", 0), STORE_OK);
    ck_assert_uint_eq(entries_of("a"), 0);
    ck_assert_uint_eq(heard_count, 0);
    ck_assert_uint_eq(atomic_load(&store.usage.entries), 0);
}
END_TEST

START_TEST(a_fork_has_those_within_its_tokens_without_a_copy_and_goes_its_own_way) {
    const struct entry entries[] = {
        {0, 10, "x", 0, 1}, {PAGE, 10, "y", 0, 2}, {TOKENS - 10, 10, NULL, 0, 3}};
    const char *const names[] = {"a", "b", "c"};
    ck_assert_int_eq(put_entries("a", entries, 3), STORE_OK);
    uint64_t batch_bytes_before = atomic_load(&store.usage.batches.bytes);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_int_eq(fork_session("a", "c", PAGE), STORE_OK);
    ck_assert_uint_eq(atomic_load(&store.usage.batches.bytes), batch_bytes_before);
    ck_assert_uint_eq(atomic_load(&store.usage.entries), 3 + 3 + 1);
    ck_assert_uint_eq(delete_labels("a", "x"), 1);
    ck_assert(!has_entry("a", 1) && has_entry("b", 1) && has_entry("c", 1));
    ck_assert(has_entry("b", 3) && !has_entry("c", 2));
    check_heard(3, names);
    ck_assert_int_eq(put_one("b", 0, 10, "x", 4), STORE_OK);
    ck_assert(!has_entry("b", 1) && has_entry("c", 1) && has_entry("b", 2) && has_entry("a", 2));
    check_heard(3, names);
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    ck_assert_int_eq(delete_session("b"), STORE_OK);
    ck_assert(has_entry("c", 1));
    check_heard_of("c");
}
END_TEST

START_TEST(an_eviction_takes_those_of_the_tokens_that_it_takes) {
    const struct entry entries[] = {{0, 10, NULL, 0, 1}, {TOKENS - 10, 10, NULL, 0, 3}};
    struct evict_result result;
    ck_assert_int_eq(put_entries("a", entries, 2), STORE_OK);
    struct session *session = store_find(&store, name_of("a"));
    ck_assert_int_eq(
        evict_session(&store, session, &(struct evict_request){.want_bytes = 1}, &result),
        STORE_OK);
    ck_assert(has_entry("a", 1) && !has_entry("a", 3));
    ck_assert_int_eq(
        evict_session(&store, session, &(struct evict_request){.want_bytes = UINT64_MAX}, &result),
        STORE_OK);
    ck_assert(result.deleted);
    session_unref(session);
    ck_assert_uint_eq(heard_count, 0);
    ck_assert_uint_eq(atomic_load(&store.usage.batches.bytes), 0);
}
END_TEST

START_TEST(a_session_is_not_evicted_while_entries_are_put) {
    uint64_t bytes;
    uint8_t *given = given_bytes(&(struct entry){0, 1, NULL, NULL, 1}, 1, &bytes);
    struct batch_put *put = begin_put("a", given, bytes, 1);
    struct session *session = store_find(&store, name_of("a"));
    struct evict_request request = {.want_bytes = UINT64_MAX};
    struct evict_result result;
    ck_assert_int_eq(evict_session(&store, session, &request, &result), STORE_WAIT);
    ck_assert_int_eq(end_put(put), STORE_OK);
    ck_assert_int_eq(evict_session(&store, session, &request, &result), STORE_OK);
    session_unref(session);
    free(given);
}
END_TEST

START_TEST(what_changes_while_entries_are_put_is_heeded) {
    uint64_t bytes;
    uint8_t *given = given_bytes(&(struct entry){0, 1, "x", NULL, 9}, 1, &bytes);
    ck_assert_int_eq(put_one("a", 0, 1, "y", 1), STORE_OK);
    struct batch_put *put = begin_put("a", given, bytes, 1);
    for (int i = 0; i < _i % PUT_STEPS; i++)
        ck_assert_int_eq(batch_put_step(put, &put_result), STORE_MORE);
    if (_i < PUT_STEPS)
        ck_assert_uint_eq(delete_labels("a", "y"), 1);
    else if (_i < 2 * PUT_STEPS)
        ck_assert_int_eq(put_one("a", 0, 1, "x", 2), STORE_OK);
    else
        ck_assert_int_eq(truncate_session("a", 0), STORE_OK);
    ck_assert_int_eq(end_put(put), _i < 2 * PUT_STEPS ? STORE_OK : STORE_MISS);
    ck_assert_uint_eq(entries_of("a"), _i < PUT_STEPS ? 1 : _i < 2 * PUT_STEPS ? 2 : 0);
    free(given);
}
END_TEST

START_TEST(all_of_it_is_given_back) {
    uint64_t used = store_used_bytes(&store);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(put_one("a", 0, 1, NULL, (float)i + 1), STORE_OK);
    ck_assert_uint_gt(store_used_bytes(&store), used + 100 * DIM * 4);
    delete_range("a", 0, TOKENS);
    ck_assert_uint_eq(store_used_bytes(&store), used);
}
END_TEST

START_TEST(a_session_counts_what_they_take) {
    struct session_info before = info_of("a");
    struct store_totals totals;
    ck_assert_int_eq(put_one("a", 0, 1, NULL, 1), STORE_OK);
    struct session_info info = info_of("a");
    ck_assert_uint_ge(info.stored_bytes - before.stored_bytes, info.batches.memory_bytes);
    ck_assert_uint_ge(info.unique_bytes - before.unique_bytes, info.batches.memory_bytes);
    ck_assert_int_eq(fork_session("a", "b", 0), STORE_OK);
    ck_assert_uint_lt(info_of("a").unique_bytes, info.unique_bytes);
    info_totals(&store, &totals);
    ck_assert_uint_eq(totals.stored_bytes, info_of("a").stored_bytes + info_of("b").stored_bytes);
}
END_TEST

START_TEST(at_the_memory_limit_nothing_is_lost) {
    enum { MANY = 40000 };
    struct entry *many = calloc(MANY, sizeof *many);
    uint64_t bytes, put = 0;
    for (int i = 0; i < MANY; i++)
        many[i] = (struct entry){.tokens = 1, .mark = 1 + (float)i};
    pin_session("a");
    take_over_from_keeper();
    uint8_t *given = given_bytes(many, MANY, &bytes);
    while (end_put(begin_put("a", given, bytes, MANY)) == STORE_OK)
        put += MANY;
    ck_assert_uint_eq(entries_of("a"), put);
    ck_assert_uint_gt(put, 5 * MANY);
    ck_assert_uint_le(store_used_bytes(&store), LIMIT_BYTES);
    ck_assert_int_eq(fetch_all("a", 0, TOKENS, 0), STORE_OK);
    delete_range("a", 0, TOKENS);
    ck_assert_int_eq(put_one("a", 0, 1, NULL, 1), STORE_OK);
    free(given);
    free(many);
}
END_TEST

START_TEST(their_list_in_a_manifest_of_any_bytes_is_read_within_them) {
    struct manifest manifest;
    ck_assert_int_eq(put_one("a", 0, 1, "x", 1), STORE_OK);
    struct session *session = store_find(&store, name_of("a"));
    size_t bytes = manifest_bytes(session, 0), list_bytes = 32 + 8;
    uint8_t *memory = calloc(1, bytes);
    for (size_t at = (bytes - list_bytes - 8) * 8; at < bytes * 8; at++) {
        struct manifest_batch batch;
        manifest_write(session, NULL, 0, memory);
        memory[at / 8] ^= (uint8_t)(1u << at % 8);
        bool is_read = manifest_read(&manifest, memory, bytes) == 0;
        for (size_t next = 0; is_read && manifest_next_batch(&manifest, &next, &batch);)
            ck_assert(batch.gone + batch_ref_words(batch.rows) * 8 <= memory + bytes);
    }
    free(memory);
    session_unref(session);
}
END_TEST

/* What the pool's file or a disk has of it is looked at before anybody searches it. */
START_TEST(a_batch_with_one_bit_changed_is_none) {
    ck_assert_int_eq(put_one("a", 0, 1, "x", 1), STORE_OK);
    struct session *session = store_find(&store, name_of("a"));
    struct attachment *batch = session->batches->batch;
    uint8_t *memory = attachment_memory(batch);
    ck_assert(batch_is_whole(batch, 1));
    ck_assert(!batch_is_whole(batch, 2));
    for (size_t at = 0; at < batch->spec.bytes * 8; at++) {
        memory[at / 8] ^= (uint8_t)(1u << at % 8);
        ck_assert(!batch_is_whole(batch, 1));
        memory[at / 8] ^= (uint8_t)(1u << at % 8);
    }
    session_unref(session);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("batch");
    tcase_add_checked_fixture(cases, set_up_entries, tear_down);
    tcase_add_test(cases, what_was_put_is_there_as_it_was_given);
    tcase_add_test(cases, numbers_are_never_given_again);
    tcase_add_test(cases, a_range_that_is_not_there_is_a_miss_that_names_it);
    tcase_add_loop_test(cases, a_vector_that_is_not_finite_is_refused, 0,
                        sizeof not_numbers / sizeof *not_numbers);
    tcase_add_test(cases, only_by_direction_is_a_zero_vector_refused);
    tcase_add_test(cases, what_is_not_what_it_says_is_refused);
    tcase_add_loop_test(cases, a_put_that_did_not_end_leaves_nothing, 0, PUT_STEPS);
    tcase_add_test(cases, an_entry_of_the_same_label_is_replaced_and_one_without_never);
    tcase_add_test(cases, a_label_is_replaced_in_a_batch_that_stays);
    tcase_add_test(cases, a_thousand_puts_make_a_dozen_batches);
    tcase_add_test(cases, entries_are_deleted_by_label_or_by_tokens);
    tcase_add_test(cases, entries_go_with_their_tokens_and_do_not_come_back_with_others);
    tcase_add_test(cases, a_fork_has_those_within_its_tokens_without_a_copy_and_goes_its_own_way);
    tcase_add_test(cases, an_eviction_takes_those_of_the_tokens_that_it_takes);
    tcase_add_test(cases, a_session_is_not_evicted_while_entries_are_put);
    tcase_add_loop_test(cases, what_changes_while_entries_are_put_is_heeded, 0, 3 * PUT_STEPS);
    tcase_add_test(cases, all_of_it_is_given_back);
    tcase_add_test(cases, a_session_counts_what_they_take);
    tcase_add_test(cases, at_the_memory_limit_nothing_is_lost);
    tcase_add_test(cases, their_list_in_a_manifest_of_any_bytes_is_read_within_them);
    tcase_add_test(cases, a_batch_with_one_bit_changed_is_none);
    return run_suite(cases);
}
