/* What the benches compare: something that takes sessions and gives them back, over connections.
 *
 * A contender is a table of functions and the context they get. A connection is used by one thread
 * at a time; connections are independent. Every function ends the program if it fails.
 */
#ifndef TESTS_BENCH_CONTENDER_H
#define TESTS_BENCH_CONTENDER_H

#include "tests/bench/workload.h"

struct contender_memory {
    double used_bytes; /* what it says it takes; NaN: it does not say */
    double rss_bytes;  /* what the system says, NaN likewise */
};

struct contender {
    const char *name;    /* "raw", "kvq", "redis", "memcached" */
    const char *variant; /* which of several settings, for a person; "" */
    const char *level;   /* of kvq, else "" */
    bool exact;          /* gives back the very bits */
    void *context;
    void *(*connect)(void *context);
    void (*disconnect)(void *connection);
    void (*append)(void *connection, const struct workload *workload, uint32_t session);
    void (*fetch)(void *connection, const struct workload *workload, uint32_t session);
    void (*clear)(void *connection, uint32_t session);   /* NULL: the next append overwrites */
    struct contender_memory (*memory)(void *connection); /* NULL: not known */
};

#endif
