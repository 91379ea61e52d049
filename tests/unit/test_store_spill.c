/* Who loses tokens where there is a disk, which is full. */
#include "daemon/store/pressure.h"
#include "daemon/store/spill.h"
#include "tests/unit/test_store_disk_support.h"

enum { TAIL = 100 };

/* So full that a session's bytes are what is wanted of it. */
static void set_up_with_small_disk(void) {
    store_disk_bytes = 8 << 20;
    set_up_with_disk();
}

static void store_on_disk(const char *name) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, PAGE, false);
    while (atomic_load(&store.disk.counts.spilled_chunks) == 0)
        (void)spill(&store, &store.coldness, 1, 0);
    leave_idle(name);
}

static void store_in_memory(const char *name) {
    store_tokens(name, 0, PAGE, false);
    leave_idle(name);
}

static void await_loss_of(const char *name) {
    while (has_session(name))
        wait_step();
}

START_TEST(what_is_on_disk_stays_as_cold_as_it_was) {
    store_on_disk("cold");
    ck_assert_int_eq(open_session("warm", PAGE_EXACT), STORE_OK);
    store_in_memory("warm");
    atomic_fetch_add(&store.disk.counts.broken_writes, 1); /* it takes no more */
    take_over_from_keeper();
    ck_assert(pressure_evict(&store.pressure));
    ck_assert(!has_session("warm"));
    struct session *cold = store_find(&store, name_of("cold"));
    ck_assert_ptr_nonnull(cold);
    ck_assert_int_eq(cold->coldness[COLDNESS_OF_ALL].place, COLDNESS_SMALL);
    session_unref(cold);
}
END_TEST

START_TEST(a_disk_too_full_to_spill_costs_the_coldest_even_if_that_is_in_memory) {
    ck_assert_int_eq(open_session("cold", PAGE_EXACT), STORE_OK);
    store_on_disk("warm");
    store_in_memory("cold");
    disk_tier_tell_shortage(&store.disk, DISK_SHORT_FOR_SPILLING);
    await_loss_of("cold");
    ck_assert(has_session("warm"));
}
END_TEST

START_TEST(a_disk_too_full_to_save_costs_nothing_that_is_not_there) {
    ck_assert_int_eq(open_session("cold", PAGE_EXACT), STORE_OK);
    store_on_disk("warm");
    store_in_memory("cold");
    disk_tier_tell_shortage(&store.disk, DISK_SHORT_FOR_SAVING);
    await_loss_of("warm");
    ck_assert(has_session("cold"));
}
END_TEST

START_TEST(a_full_disk_where_room_was_made_takes_more) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_in_memory("a");
    disk_tier_tell_failure(&store.disk, DISK_FULL, false);
    atomic_store(&store.disk.shortage, DISK_NOT_SHORT); /* as if seen to */
    take_over_from_keeper();
    ck_assert(!pressure_evict(&store.pressure));
    atomic_store(&store.disk.unrelieved, true);
    ck_assert(pressure_evict(&store.pressure));
}
END_TEST

static void set_recovering(bool recovering) {
    pthread_mutex_lock(&store.disk.lock);
    store.disk.recovering = recovering;
    pthread_mutex_unlock(&store.disk.lock);
}

/* What a pool had may be above the limit by then, and on disk as it is. */
START_TEST(while_what_is_on_disk_is_looked_for_nothing_that_is_coded_goes) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_in_memory("a");
    take_over_from_keeper();
    set_recovering(true);
    bool evicted = pressure_evict(&store.pressure);
    set_recovering(false);
    ck_assert(!evicted);
    ck_assert_uint_eq(info_of("a").state.tokens, PAGE);
}
END_TEST

static void store_with_tail(const char *name) {
    ck_assert_int_eq(open_session(name, PAGE_EXACT), STORE_OK);
    store_tokens(name, 0, PAGE + TAIL, false);
    leave_idle(name);
}

static bool is_spilled(const char *name) {
    struct session *session = store_find(&store, name_of(name));
    ck_assert_ptr_nonnull(session);
    bool spilled = session->coded_tail.chunk != NULL;
    if (spilled) {
        struct record *record = chunk_pin(session->coded_tail.chunk);
        spilled = record_is_absent(record);
        record_unpin(record);
    }
    session_unref(session);
    return spilled;
}

START_TEST(a_raw_tail_goes_to_disk_and_comes_back_exactly) {
    store_with_tail("a");
    take_over_from_keeper();
    while (!is_spilled("a"))
        (void)pressure_spill(&store.pressure);
    ck_assert(!pressure_evict(&store.pressure));
    int status;
    while ((status = fetch_all("a", 0, PAGE + TAIL, 0)) == STORE_WAIT)
        wait_step();
    ck_assert_int_eq(status, STORE_OK);
    ck_assert_uint_eq(info_of("a").state.tail_tokens, TAIL);
}
END_TEST

START_TEST(for_a_disk_a_tail_is_coded_that_takes_no_less_then) {
    ck_assert_int_eq(open_session("a", PAGE_EXACT), STORE_OK);
    store_tokens("a", 0, 1, false);
    leave_idle("a");
    take_over_from_keeper();
    while (!is_spilled("a"))
        (void)pressure_spill(&store.pressure);
}
END_TEST

START_TEST(a_raw_tail_that_a_disk_would_take_is_not_evicted) {
    store_with_tail("a");
    take_over_from_keeper();
    ck_assert(!pressure_evict(&store.pressure));
    ck_assert_uint_eq(info_of("a").state.tokens, PAGE + TAIL);
}
END_TEST

int main(void) {
    TCase *cases = tcase_create("spill");
    tcase_add_checked_fixture(cases, set_up_with_small_disk, tear_down_with_disk);
    tcase_add_test(cases, what_is_on_disk_stays_as_cold_as_it_was);
    tcase_add_test(cases, a_disk_too_full_to_spill_costs_the_coldest_even_if_that_is_in_memory);
    tcase_add_test(cases, a_disk_too_full_to_save_costs_nothing_that_is_not_there);
    tcase_add_test(cases, a_full_disk_where_room_was_made_takes_more);
    tcase_add_test(cases, while_what_is_on_disk_is_looked_for_nothing_that_is_coded_goes);
    tcase_add_test(cases, a_raw_tail_goes_to_disk_and_comes_back_exactly);
    tcase_add_test(cases, for_a_disk_a_tail_is_coded_that_takes_no_less_then);
    tcase_add_test(cases, a_raw_tail_that_a_disk_would_take_is_not_evicted);
    return run_suite(cases);
}
