/* Vectors on the target, one at a time, and what its decoder makes of them. */
#ifndef TESTS_TINY_TARGET_H
#define TESTS_TINY_TARGET_H

#include "proto/page/page.h"
#include "tests/tiny/vectors.h"

struct target {
    int32_t file;
    uint32_t vectors, decoder_stack_bytes, decoder_workspace_bytes;
    struct vector vector;
    const uint8_t *values, *page, *aged, *decoded; /* of the vector */
};

void target_open(struct target *target);

/* False after the last one. */
bool target_next(struct target *target);

/* Decodes the page, the aged one if there is one, in no more memory than it asks for. */
void target_check_decoding(struct target *target);

bool target_same(const void *a, const void *b, size_t count);

/* A line that the test reads: "NAME WHAT same", or "differs". */
void target_tell(const struct target *target, const char *what, bool same);

/* Ends the run. */
_Noreturn void target_close(const struct target *target);

#endif
