/* Sessions by size and by age, and the largest of them, for the status page.
 *
 * Sessions are walked, so the table is made anew no more often than every few seconds. It belongs
 * to one thread.
 */
#ifndef DAEMON_OPS_SESSION_TABLE_H
#define DAEMON_OPS_SESSION_TABLE_H

#include "daemon/store/info.h"

enum {
    SESSION_TABLE_ROWS = 20,
    SESSION_TABLE_WALKED_MOST = 20000,
    SESSION_TABLE_SIZES = 6, /* below 64 KiB, 1 MiB, 16 MiB, 256 MiB, 4 GiB, and above */
    SESSION_TABLE_AGES = 6,  /* idle for less than 10 s, 1 min, 10 min, 1 h, 1 d, and longer */
    SESSION_TABLE_NAME_BYTES = 256
};

struct session_row {
    char name[SESSION_TABLE_NAME_BYTES], model[SESSION_TABLE_NAME_BYTES];
    size_t name_bytes, model_bytes;
    struct tenant *tenant;
    uint64_t tokens, logical_bytes, stored_bytes, disk_bytes, age_ns, idle_ns;
};

struct session_table {
    uint64_t made_ns; /* 0: not yet */
    uint64_t walked;
    bool complete; /* there are no others */
    uint64_t sizes[SESSION_TABLE_SIZES], ages[SESSION_TABLE_AGES];
    struct session_row rows[SESSION_TABLE_ROWS]; /* the largest first */
    size_t row_count;
};

/* Of the first SESSION_TABLE_WALKED_MOST sessions. */
void session_table_refresh(struct session_table *table, struct store *store);

#endif
