#include "proto/page/kernels.h"

const struct page_kernels *page_kernels(void) {
    return &page_kernels_portable;
}
