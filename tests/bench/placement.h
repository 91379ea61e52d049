/* Which processors the two sides of a bench run on. */
#ifndef TESTS_BENCH_PLACEMENT_H
#define TESTS_BENCH_PLACEMENT_H

enum placement {
    PLACEMENT_ANY,      /* where the system puts them */
    PLACEMENT_APART,    /* the client's threads on the first half of the processors, servers on the
                           rest */
    PLACEMENT_TOGETHER, /* all on processor 0 */
};

/* "any", "apart" or "together"; fails for others. apart needs two processors. */
enum placement placement_of(const char *name);
const char *placement_name(enum placement placement);

/* The calling thread and what it starts run there from now on. */
void placement_client(enum placement placement);
void placement_server(enum placement placement);

#endif
