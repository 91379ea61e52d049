/* Chooses the kernels at run time. */
#include "proto/page/kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef PAGE_X86_64_V3 /* the build has compiled a table for it */
#include <cpuid.h>

/* Those of v3's instructions that not every compiler's __builtin_cpu_supports() knows of. */
static bool has_small_features(void) {
    unsigned a, b, c, d, extended;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0 && (c & bit_MOVBE) != 0 &&
           __get_cpuid(0x80000001, &a, &b, &extended, &d) != 0 && (extended & bit_LZCNT) != 0;
}

/* "avx2" and "fma" tell too whether the system saves the registers. */
static bool runs_v3(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
           __builtin_cpu_supports("popcnt") && has_small_features();
}

static const struct page_kernels *best(void) {
    return runs_v3() ? &page_kernels_x86_64_v3 : &page_kernels_portable;
}
#else
static const struct page_kernels *best(void) {
    return &page_kernels_portable;
}
#endif

static const struct page_kernels *choose(void) {
    const char *wanted = getenv("KVQ_CPU");
    bool plain = wanted != NULL && strcmp(wanted, page_kernels_portable.name) == 0;
    return plain ? &page_kernels_portable : best();
}

const struct page_kernels *page_kernels(void) {
    static _Atomic(const struct page_kernels *) chosen; /* whoever comes first chooses the same */
    const struct page_kernels *kernels = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (__builtin_expect(kernels == NULL, 0)) {
        kernels = choose();
        atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
    }
    return kernels;
}
