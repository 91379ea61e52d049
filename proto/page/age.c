/* Ageing: a page of a level to a coarser one. */
#include "proto/page/header.h"
#include "proto/page/page.h"

int page_age(const void *page, size_t page_bytes, int level, void *workspace, void *out,
             size_t out_bytes, size_t *written, struct page_info *info) {
    struct page_header header;
    int error = page_header_read(page, page_bytes, &header);
    if (error != PAGE_OK)
        return error;
    if (header.coding != CODING_RANS || level <= header.level || level > PAGE_LEVEL_MAX ||
        out_bytes < page_bytes)
        return PAGE_ARGUMENT;
    (void)workspace, (void)out, (void)written, (void)info;
    return PAGE_ARGUMENT;
}
