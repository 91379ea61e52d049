/* What holds whatever the input: if not, the program aborts, which fuzzers and tests both notice.
 */
#ifndef TESTS_FUZZ_MUST_H
#define TESTS_FUZZ_MUST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static inline void must(bool holds, const char *what) {
    if (__builtin_expect(holds, 1))
        return;
    fprintf(stderr, "broken: %s\n", what);
    abort();
}

#endif
