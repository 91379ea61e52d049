/* All tables of kernels that this machine runs, the portable one first. */
#ifndef TESTS_FUZZ_KERNEL_TABLES_H
#define TESTS_FUZZ_KERNEL_TABLES_H

#include "proto/page/kernels.h"

enum { KERNEL_TABLES_MAX = 4 };

/* The i-th; NULL if it does not run here. */
static inline const struct page_kernels *kernel_table(size_t i) {
    static const char *const names[KERNEL_TABLES_MAX] = {"portable", "x86_64_v3", "avx2", "avx512"};
    return page_kernels_by_name(names[i]);
}

#endif
