/* Every kernel table that the processor runs, and memory for what they are compared on. */
#ifndef TESTS_UNIT_TEST_PAGE_KERNELS_SUPPORT_H
#define TESTS_UNIT_TEST_PAGE_KERNELS_SUPPORT_H

#include "proto/page/kernels.h"
#include "tests/unit/test_page_support.h"

static const char *const table_names[] = {"x86_64_v3", "avx2", "avx512"};
enum { TABLES = sizeof table_names / sizeof *table_names };

/* A loop test over tables and cases: NULL if this table does not run here. */
static inline const struct page_kernels *table_of(int i) {
    return page_kernels_by_name(table_names[i % TABLES]);
}

/* 64-byte aligned memory whose last byte is followed by a page that cannot be touched, or nearly:
 * `bytes` are rounded up to 64 where `aligned`. */
static inline void *guarded_bytes(struct guarded *memory, size_t bytes, int aligned) {
    ck_assert_uint_lt(bytes, SIZE_MAX / 2);
    *memory = guarded_new(aligned ? (bytes + 63) / 64 * 64 : bytes, 1);
    memset(memory->data, 0xa5, bytes);
    return memory->data;
}

static inline size_t random_up_to(uint64_t *random, size_t limit) {
    return (size_t)(random_bits(random) % (limit + 1));
}

#endif
