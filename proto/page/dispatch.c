/* Chooses the kernels at run time. The build says which tables it has compiled. */
#include "proto/page/kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static bool runs_always(void) {
    return true;
}

#ifdef PAGE_X86_64_V3
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
#endif

#ifdef PAGE_AVX512
/* These too ask the system. */
static bool runs_avx512(void) {
    return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
           __builtin_cpu_supports("avx512bitalg") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("gfni");
}
#endif

/* From the worst to the best. */
static const struct choice {
    const struct page_kernels *kernels;
    bool (*runs)(void);
} choices[] = {
    {&page_kernels_portable, runs_always},
#ifdef PAGE_X86_64_V3
    {&page_kernels_x86_64_v3, runs_v3},
#endif
#ifdef PAGE_AVX2
    {&page_kernels_avx2, runs_v3},
#endif
#ifdef PAGE_AVX512
    {&page_kernels_avx512, runs_avx512},
#endif
};
enum { CHOICES = sizeof choices / sizeof *choices };

static size_t choice_by_name(const char *name) {
    for (size_t i = 0; i < CHOICES; i++)
        if (name != NULL && strcmp(choices[i].kernels->name, name) == 0)
            return i;
    return CHOICES;
}

const struct page_kernels *page_kernels_by_name(const char *name) {
    size_t i = choice_by_name(name);
    return i < CHOICES && choices[i].runs() ? choices[i].kernels : NULL;
}

static const struct page_kernels *choose(void) {
    size_t wanted = choice_by_name(getenv("KVQ_CPU")), i = CHOICES - 1;
    i = wanted < i ? wanted : i;
    while (!choices[i].runs()) /* the first does */
        i--;
    return choices[i].kernels;
}

static _Atomic(const struct page_kernels *) chosen; /* whoever comes first chooses the same */

const struct page_kernels *page_kernels(void) {
    const struct page_kernels *kernels = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (__builtin_expect(kernels == NULL, 0)) {
        kernels = choose();
        atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
    }
    return kernels;
}

void page_kernels_use(const struct page_kernels *kernels) {
    atomic_store_explicit(&chosen, kernels, memory_order_relaxed);
}
