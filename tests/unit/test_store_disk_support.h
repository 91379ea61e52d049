/* A store with a disk, whose daemon ends and begins again. */
#ifndef TESTS_UNIT_TEST_STORE_DISK_SUPPORT_H
#define TESTS_UNIT_TEST_STORE_DISK_SUPPORT_H

#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/store/saving.h"
#include "tests/unit/test_store_support.h"

static inline void set_up_with_disk(void) {
    static char directory[32];
    strcpy(directory, "/tmp/kvquant-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    store_directory = directory;
    set_up();
}

static inline int remove_entry(const char *path, const struct stat *status, int type,
                               struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static inline void tear_down_with_disk(void) {
    tear_down();
    nftw(store_directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* As FLUSH does. */
static inline void flush_session(struct session *session) {
    struct session_point point = saving_retry(session);
    int status;
    while ((status = saving_step(&store, session, point)) == STORE_WAIT)
        wait_step();
    ck_assert_int_eq(status, STORE_OK);
}

/* What was begun there is done. */
static inline void await_disk(void) {
    struct disk_job job = {.operation = DISK_SYNC};
    disk_tier_do(&store.disk, &job);
    ck_assert_int_eq(job.status, DISK_OK);
}

/* It ends in order, with all that it has saved. */
static inline void restart(void) {
    keeper_stop(&store.keeper);
    saving_save_all(&store);
    store_deinit(&store);
    open_store();
}

/* It is killed. */
static inline void crash(void) {
    store_deinit(&store);
    open_store();
}

#endif
