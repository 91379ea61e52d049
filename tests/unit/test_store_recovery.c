/* What sessions are after the daemon began again. */
#include "daemon/store/evict.h"
#include "daemon/store/spill.h"
#include "tests/unit/test_store_disk_support.h"
#include "tests/unit/test_store_takeover_support.h"

static void evict_a_chunk(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    struct evict_request request = {.want_bytes = 1};
    struct evict_result result;
    ck_assert_int_eq(evict_session(&store, session, &request, &result), STORE_OK);
    session_unref(session);
}

static void store_exactly(const char *name, uint64_t tokens) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, tokens, false);
}

START_TEST(what_a_session_lost_is_known_after_a_restart) {
    store_exactly("a", 3 * PAGE + 10);
    evict_a_chunk("a");
    evict_a_chunk("a");
    restart();
    ck_assert_uint_eq(info_of("a").state.tokens, 2 * PAGE);
    ck_assert_uint_eq(info_of("a").state.lost_tokens, PAGE + 10);
    ck_assert_int_eq(fetch_all("a", 0, 2 * PAGE, 0), STORE_OK);
}
END_TEST

static void write_again(uint64_t id, uint8_t *bytes, size_t count) {
    struct disk_part part = {bytes, count};
    struct disk_job job = {.operation = DISK_WRITE,
                           .key = {.id = id, .kind = DISK_SESSION},
                           .metadata = {.tenant = "default",
                                        .tenant_bytes = 7,
                                        .model = "model",
                                        .model_bytes = 5,
                                        .session = "a",
                                        .session_bytes = 1},
                           .parts = &part,
                           .part_count = 1,
                           .durable = true};
    disk_tier_do(&store.disk, &job);
    ck_assert_int_eq(job.status, DISK_OK);
}

static size_t read_manifest(uint64_t id, uint8_t *bytes, size_t room) {
    struct disk_job job = {.operation = DISK_READ,
                           .key = {.id = id, .kind = DISK_SESSION},
                           .read_parts = 1,
                           .memory = bytes,
                           .capacity = room};
    disk_tier_do(&store.disk, &job);
    ck_assert_int_eq(job.status, DISK_OK);
    return job.bytes;
}

START_TEST(what_a_newer_version_wrote_stays_on_disk_for_it) {
    uint8_t manifest[4096];
    store_exactly("a", 3 * PAGE);
    restart();
    uint64_t id = info_of("a").id;
    size_t count = read_manifest(id, manifest, sizeof manifest);
    manifest[8]++; /* its format */
    write_again(id, manifest, count);
    crash();
    ck_assert(!has_session("a"));
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_FULL); /* or there were two */
    manifest[8]--;
    write_again(id, manifest, count);
    crash();
    ck_assert_int_eq(fetch_all("a", 0, 3 * PAGE, 0), STORE_OK);
}
END_TEST

/* Of the session's newest page. */
static void lose_chunk_on_disk(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    const struct chunk *newest = session->slices[session->slice_count - 1].chunk;
    struct disk_job job = {.operation = DISK_DELETE, .key = {.id = newest->id, .kind = DISK_CHUNK}};
    disk_tier_do(&store.disk, &job);
    ck_assert_int_eq(job.status, DISK_OK);
    session_unref(session);
}

START_TEST(what_is_not_found_any_more_counts_as_lost) {
    store_exactly("a", 3 * PAGE);
    restart();
    lose_chunk_on_disk("a");
    crash();
    ck_assert_uint_eq(info_of("a").state.tokens, 2 * PAGE);
    ck_assert_uint_eq(info_of("a").state.lost_tokens, PAGE);
    ck_assert_int_eq(fetch_all("a", 0, 2 * PAGE, 0), STORE_OK);
}
END_TEST

START_TEST(what_is_appended_after_a_loss_ends_it) {
    store_exactly("a", 3 * PAGE);
    evict_a_chunk("a");
    store_tokens("a", 2 * PAGE, 2 * PAGE + 5, false);
    restart();
    ck_assert_uint_eq(info_of("a").state.tokens, 2 * PAGE + 5);
    ck_assert_uint_eq(info_of("a").state.lost_tokens, 0);
}
END_TEST

START_TEST(what_was_deleted_stays_so_though_a_daemon_in_between_had_no_disk) {
    const char *directory = store_directory;
    store_exactly("a", 2 * PAGE);
    struct session *session = store_find(&store, name_of("a"));
    flush_session(session);
    session_unref(session);
    store_directory = NULL;
    hand_on();
    store_directory = directory;
    hand_on();
    ck_assert_int_eq(delete_session("a"), STORE_OK);
    await_disk();
    crash();
    ck_assert(!has_session("a"));
}
END_TEST

static bool is_spilled(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    struct record *record = chunk_pin(session->slices[1].chunk);
    bool spilled = record_is_absent(record);
    record_unpin(record);
    session_unref(session);
    return spilled;
}

/* The chunk that both have is as coarse as the fork lets it be once the other has let go of it,
 * which the other's manifest does not know yet. */
START_TEST(what_a_fork_let_become_coarse_is_no_more_a_session_s_that_is_exact) {
    store_exactly("a", 2 * PAGE);
    struct session *session = store_find(&store, name_of("a"));
    flush_session(session);
    session_unref(session);
    ck_assert_int_eq(fork_session("a", "fork", 0), STORE_OK);
    ck_assert_int_eq(truncate_session("a", PAGE), STORE_OK); /* which is saved before it is told */
    age_session("fork", 3);
    while (!is_spilled("fork"))
        (void)spill(&store, &store.coldness, UINT64_MAX / 2, 0);
    await_disk();
    crash();
    int status;
    uint64_t tokens = info_of("a").state.tokens;
    ck_assert_uint_ge(tokens, PAGE);
    while ((status = fetch_all("a", 0, tokens, 0)) == STORE_WAIT)
        wait_step();
    ck_assert_int_eq(status, STORE_OK);
}
END_TEST

static void heed_policy_of(struct session *session) {
    uint64_t ticket = policy_heed(&store, session);
    while (!keeper_has_done(&store.keeper, session, ticket))
        wait_step();
}

static void spill_all(const char *name) {
    for (int i = 0; i < 100 && !is_spilled(name); i++)
        (void)spill(&store, &store.coldness, UINT64_MAX / 2, 0);
    await_disk();
}

START_TEST(what_is_to_become_coarser_is_not_lost_with_a_manifest_that_does_not_know) {
    struct session_info before;
    store_exactly("a", 2 * PAGE);
    struct session *session = store_find(&store, name_of("a"));
    flush_session(session);
    ck_assert_int_eq(policy_age(session, 3, &before), STORE_OK);
    heed_policy_of(session);
    session_unref(session);
    spill_all("a");
    crash();
    ck_assert_uint_eq(info_of("a").state.tokens, 2 * PAGE);
}
END_TEST

START_TEST(what_was_to_become_coarser_does_once_that_is_saved) {
    store_exactly("a", 2 * PAGE);
    struct session *session = store_find(&store, name_of("a"));
    flush_session(session);
    session_unref(session);
    age_session("a", 3);
    spill_all("a");
    crash();
    ck_assert_uint_eq(info_of("a").state.tokens, 2 * PAGE);
    ck_assert_uint_gt(tokens_at("a", 3), 0);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("recovery");
    tcase_add_checked_fixture(cases, set_up_with_disk, tear_down_with_disk);
    tcase_add_test(cases, what_a_session_lost_is_known_after_a_restart);
    tcase_add_test(cases, what_is_not_found_any_more_counts_as_lost);
    tcase_add_test(cases, what_a_newer_version_wrote_stays_on_disk_for_it);
    tcase_add_test(cases, what_is_appended_after_a_loss_ends_it);
    tcase_add_test(cases, what_was_deleted_stays_so_though_a_daemon_in_between_had_no_disk);
    tcase_add_test(cases, what_a_fork_let_become_coarse_is_no_more_a_session_s_that_is_exact);
    tcase_add_test(cases, what_is_to_become_coarser_is_not_lost_with_a_manifest_that_does_not_know);
    tcase_add_test(cases, what_was_to_become_coarser_does_once_that_is_saved);
    return run_suite(cases);
}
