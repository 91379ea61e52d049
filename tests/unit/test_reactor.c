/* A reactor is woken by threads that outlive its own. */
#include <check.h>
#include <stdlib.h>

#include "daemon/server/reactor.h"

static struct reactor reactor;
static struct rpc_daemon rpc;
static _Atomic uint64_t stall_ms = 1000;
static uv_loop_t loop;
static uv_async_t owner;
static _Atomic bool done;

static void set_up(void) {
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(uv_async_init(&loop, &owner, NULL), 0);
    ck_assert_int_eq(reactor_start(&reactor, &rpc, NULL, &stall_ms, &owner), 0);
}

static void tear_down(void) {
    reactor_deinit(&reactor);
    uv_close((uv_handle_t *)&owner, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void *wake_until_done(void *context) {
    while (!done)
        reactor_wake(context);
    return NULL;
}

START_TEST(test_who_wakes_it_need_not_know_that_its_thread_has_ended) {
    pthread_t waker;
    ck_assert_int_eq(pthread_create(&waker, NULL, wake_until_done, &reactor), 0);
    reactor_drain(&reactor, true);
    ck_assert_int_eq(reactor_join(&reactor), 0);
    reactor_wake(&reactor);
    done = true;
    pthread_join(waker, NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reactor");
    TCase *tests = tcase_create("reactor");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, test_who_wakes_it_need_not_know_that_its_thread_has_ended);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
