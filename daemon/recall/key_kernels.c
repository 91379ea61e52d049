/* The build says which tables it has compiled. */
#include "daemon/recall/key_kernels.h"

#include <string.h>

#include "proto/page/kernels.h"

const struct key_kernels *key_kernels(void) {
    const char *name = page_kernels()->name;
#ifdef RECALL_AVX512
    if (strcmp(name, key_kernels_avx512.name) == 0)
        return &key_kernels_avx512;
#endif
#ifdef RECALL_AVX2
    if (strcmp(name, key_kernels_avx2.name) == 0)
        return &key_kernels_avx2;
#endif
    (void)name;
    return &key_kernels_portable;
}
