/* Entries across the daemon's end: from disk, and out of a pool that is taken over. */
#include "daemon/store/spill.h"
#include "tests/unit/test_store_batch_support.h"
#include "tests/unit/test_store_disk_support.h"
#include "tests/unit/test_store_takeover_support.h"

enum { TOKENS = 2 * PAGE + 40, MANY = 30000 };

static void set_up_entries(void) {
    set_up_with_disk();
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, TOKENS, false);
}

enum end { RESTART, HAND_ON, HAND_ON_AND_RESTART, ENDS };

static void end_and_begin(int how) {
    if (how == RESTART) {
        restart();
        return;
    }
    hand_on();
    if (how == HAND_ON_AND_RESTART)
        restart();
}

static void put_many(const char *name) {
    struct entry *many = calloc(MANY, sizeof *many);
    for (int i = 0; i < MANY; i++)
        many[i] = (struct entry){.first = (uint64_t)i % TOKENS, .tokens = 1, .mark = 1 + (float)i};
    ck_assert_int_eq(put_entries(name, many, MANY), STORE_OK);
    free(many);
}

START_TEST(entries_come_back_and_those_that_were_gone_do_not) {
    const struct entry entries[] = {
        {0, 10, "x", "about x", -1}, {10, 10, "y", 0, -2}, {20, 10, "z", 0, -3}};
    struct entry entry;
    ck_assert_int_eq(put_entries("a", entries, 3), STORE_OK);
    put_many("a");
    ck_assert_uint_eq(delete_labels("a", "y"), 1);
    ck_assert_int_eq(put_one("a", 5, 1, "z", -4), STORE_OK);
    uint64_t there = entries_of("a"), last_id = put_result.first_id;
    end_and_begin(_i);
    ck_assert_uint_eq(entries_of("a"), there);
    ck_assert(find_entry("a", -1, &entry));
    ck_assert_str_eq(entry.label, "x");
    ck_assert_uint_eq(entry.tokens, 10);
    ck_assert(!has_entry("a", -2) && !has_entry("a", -3) && has_entry("a", -4));
    ck_assert(find_entry("a", MANY, &entry));
    ck_assert_uint_eq(entry.first, (MANY - 1) % TOKENS);
    ck_assert_int_eq(put_one("a", 0, 1, NULL, -5), STORE_OK);
    ck_assert_uint_gt(put_result.first_id, last_id);
}
END_TEST

START_TEST(forks_share_a_batch_afterwards_as_before) {
    const struct entry entries[] = {{0, 10, NULL, 0, 1}, {TOKENS - 10, 10, NULL, 0, 2}};
    ck_assert_int_eq(put_entries("a", entries, 2), STORE_OK);
    ck_assert_int_eq(fork_session("a", "b", PAGE), STORE_OK);
    end_and_begin(_i);
    ck_assert(has_entry("a", 1) && has_entry("a", 2) && has_entry("b", 1) && !has_entry("b", 2));
    ck_assert_uint_eq(atomic_load(&store.usage.batches.count), 1);
    ck_assert_uint_eq(atomic_load(&store.usage.entries), 3);
}
END_TEST

static enum disk_status status_of_batch(uint64_t id) {
    static uint8_t bytes[1 << 16];
    struct disk_job job = {.operation = DISK_READ,
                           .key = {.id = id, .kind = DISK_ATTACHMENT},
                           .read_parts = 1,
                           .memory = bytes,
                           .capacity = sizeof bytes};
    disk_tier_do(&store.disk, &job);
    return job.status;
}

/* A small batch goes into the next: the manifest on disk still names it. */
START_TEST(what_is_replaced_stays_on_disk_until_a_manifest_without_it_is_there) {
    struct session *session = store_find(&store, name_of("a"));
    ck_assert_int_eq(put_one("a", 0, 10, NULL, 1), STORE_OK);
    uint64_t id = put_result.first_id;
    flush_session(session);
    keeper_stop(&store.keeper); /* which would save it again */
    ck_assert_int_eq(put_one("a", 10, 10, NULL, 2), STORE_OK);
    ck_assert_int_eq(status_of_batch(id), DISK_OK);
    flush_session(session);
    ck_assert_int_eq(status_of_batch(id), DISK_MISS);
    session_unref(session);
}
END_TEST

START_TEST(what_was_truncated_does_not_come_back) {
    ck_assert_int_eq(put_one("a", TOKENS - 10, 10, NULL, 1), STORE_OK);
    ck_assert_int_eq(put_one("a", 0, 10, NULL, 2), STORE_OK);
    struct session *session = store_find(&store, name_of("a"));
    flush_session(session);
    ck_assert_int_eq(truncate_session("a", PAGE), STORE_OK);
    save_if_owed(session);
    session_unref(session);
    crash();
    ck_assert(!has_entry("a", 1) && has_entry("a", 2));
}
END_TEST

START_TEST(a_delete_and_a_replacement_are_owed_to_the_disk) {
    ck_assert_int_eq(put_one("a", 0, 10, "x", 1), STORE_OK);
    struct session *session = store_find(&store, name_of("a"));
    flush_session(session);
    if (_i == 0)
        ck_assert_uint_eq(delete_labels("a", "x"), 1);
    else
        ck_assert_int_eq(put_one("a", 0, 10, "x", 2), STORE_OK);
    save_if_owed(session);
    session_unref(session);
    crash();
    ck_assert(!has_entry("a", 1));
    ck_assert(has_entry("a", 2) == (_i == 1));
}
END_TEST

START_TEST(nothing_of_a_deleted_session_stays_on_disk) {
    put_many("a");
    struct session *session = store_find(&store, name_of("a"));
    flush_session(session);
    session_unref(session);
    await_disk();
    struct disk_stats stats;
    disk_read_stats(store.disk.disk, &stats);
    uint64_t values = stats.live_bytes;
    ck_assert_uint_gt(values, MANY * DIM * sizeof(float));
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    await_disk();
    disk_read_stats(store.disk.disk, &stats);
    ck_assert_uint_le(stats.live_bytes, 4096);
}
END_TEST

START_TEST(they_stay_in_memory_when_their_session_goes_to_disk) {
    ck_assert_int_eq(put_one("a", 0, 10, "x", 1), STORE_OK);
    leave_idle("a");
    take_over_from_keeper();
    ck_assert(spill(&store, &store.coldness, 1, 0));
    await_disk();
    ck_assert_uint_gt(atomic_load(&store.disk.counts.spilled_bytes), 0);
    while (spill(&store, &store.coldness, UINT64_MAX / 2, 0))
        await_disk();
    ck_assert(has_entry("a", 1));
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("batches across ends");
    tcase_add_checked_fixture(cases, set_up_entries, tear_down_with_disk);
    tcase_add_loop_test(cases, entries_come_back_and_those_that_were_gone_do_not, 0, ENDS);
    tcase_add_loop_test(cases, forks_share_a_batch_afterwards_as_before, 0, ENDS);
    tcase_add_test(cases, what_is_replaced_stays_on_disk_until_a_manifest_without_it_is_there);
    tcase_add_test(cases, what_was_truncated_does_not_come_back);
    tcase_add_loop_test(cases, a_delete_and_a_replacement_are_owed_to_the_disk, 0, 2);
    tcase_add_test(cases, nothing_of_a_deleted_session_stays_on_disk);
    tcase_add_test(cases, they_stay_in_memory_when_their_session_goes_to_disk);
    return run_suite(cases);
}
