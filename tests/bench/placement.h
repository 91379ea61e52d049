/* Which processors the two sides of the socket bench run on. */
#ifndef TESTS_BENCH_PLACEMENT_H
#define TESTS_BENCH_PLACEMENT_H

/* The calling thread runs on cpu alone; -1 changes nothing. */
void placement_take(int cpu);

/* The calling thread runs on all processors of the machine but cpu; -1 changes nothing. */
void placement_leave(int cpu);

#endif
