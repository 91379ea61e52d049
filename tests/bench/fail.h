/* A bench that cannot go on says why, in one line on stderr, and ends with status 1. */
#ifndef TESTS_BENCH_FAIL_H
#define TESTS_BENCH_FAIL_H

#include <stddef.h>

/* With the reason of errno. */
_Noreturn void fail(const char *what);
__attribute__((format(printf, 1, 2))) _Noreturn void fail_because(const char *format, ...);

/* Memory whose pages are there already, so that no sample waits for one. Freed with free(). */
__attribute__((malloc, returns_nonnull)) char *touched_memory(size_t bytes);

#endif
