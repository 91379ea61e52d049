/* A store whose pool the next one takes over. */
#ifndef TESTS_UNIT_TEST_STORE_TAKEOVER_SUPPORT_H
#define TESTS_UNIT_TEST_STORE_TAKEOVER_SUPPORT_H

#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/test_store_support.h"

/* Out of this file, which stays the caller's; 0: with a pool of its own. */
static inline void start(int file, uint64_t memory_bytes) {
    struct store_options options = store_options_with(memory_bytes);
    options.pool_file = file;
    ck_assert(try_start(&options));
}

/* Ends the store; the file of its pool, the caller's. */
static inline int hand_over(void) {
    ck_assert_int_eq(store_hand_over(&store), 0);
    int file = fcntl(pool_file(store.pool), F_DUPFD_CLOEXEC, 3);
    ck_assert_int_gt(file, 0);
    store_deinit(&store);
    return file;
}

/* To the next one. */
static inline void hand_on(void) {
    int file = hand_over();
    start(file, LIMIT_BYTES);
    close(file);
    ck_assert_int_eq(store.taken.outcome, TAKEOVER_DONE);
}

#endif
