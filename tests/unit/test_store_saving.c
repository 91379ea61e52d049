/* What of a session is on disk, and for how long. */
#include "tests/unit/test_store_disk_support.h"

enum { TAIL = 40, SETTLED = 4 * PAGE };

static void flush(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    flush_session(session);
    session_unref(session);
}

static void await_coded_tail(const char *name) {
    ageing_set_tails(&store.ageing, 1, PAGE_EXACT);
    while (!info_of(name).tail_coded)
        wait_step();
}

static uint64_t reclaimed_segments(void) {
    struct disk_stats stats;
    disk_read_stats(store.disk.disk, &stats);
    return stats.reclaimed_segments;
}

/* The delete of the one before is on its way to the disk. */
static void open_another(void) {
    int status;
    while ((status = open_session("other", PAGE_EXACT)) == STORE_WAIT)
        wait_step();
    ck_assert_int_eq(status, STORE_OK);
}

/* Until the segment is gone that was written to before. */
static void have_all_rewritten(void) {
    for (int i = 0; i < 100 && reclaimed_segments() == 0; i++) {
        open_another();
        store_tokens("other", 0, SETTLED, true);
        flush("other");
        ck_assert_int_eq(delete_session("other"), STORE_OK);
    }
    ck_assert_uint_gt(reclaimed_segments(), 0);
}

START_TEST(a_coded_tail_stays_on_disk_while_the_newest_manifest_names_it) {
    ck_assert_int_eq(open_session("s", PAGE_EXACT), STORE_OK);
    store_tokens("s", 0, TAIL, false);
    await_coded_tail("s");
    flush("s");
    struct append_member *append;
    struct session_state state;
    struct append_request request = {.session = name_of("s"),
                                     .first = TAIL,
                                     .tokens = TAIL,
                                     .tail_tokens = TAIL,
                                     .runs_max = 1,
                                     .members = 1};
    ck_assert_int_eq(append_begin(&store, &request, &append, &state), STORE_OK);
    ck_assert_int_eq(put_run(append, TAIL, TAIL), STORE_OK);
    ck_assert_int_eq(commit(append), STORE_OK);
    append_end(append);
    have_all_rewritten();
    crash();
    ck_assert_uint_eq(info_of("s").state.tokens, TAIL);
    ck_assert_int_eq(fetch_all("s", 0, TAIL, 0), STORE_OK);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("saving");
    tcase_add_checked_fixture(cases, set_up_with_disk, tear_down_with_disk);
    tcase_add_test(cases, a_coded_tail_stays_on_disk_while_the_newest_manifest_names_it);
    return run_suite(cases);
}
