/* The build says which tables it has compiled. */
#include "daemon/recall/kernels.h"

#include "proto/page/kernels.h"

#include <string.h>

const struct recall_kernels *recall_kernels(void) {
    const char *name = page_kernels()->name;
#ifdef RECALL_AVX512
    if (strcmp(name, recall_kernels_avx512.name) == 0)
        return &recall_kernels_avx512;
#endif
#ifdef RECALL_AVX2
    if (strcmp(name, recall_kernels_avx2.name) == 0)
        return &recall_kernels_avx2;
#endif
    (void)name;
    return &recall_kernels_portable;
}
