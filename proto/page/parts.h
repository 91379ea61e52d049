/* What the bytes of a page are: for reports, and for who chooses levels. */
#ifndef PROTO_PAGE_PARTS_H
#define PROTO_PAGE_PARTS_H

#include <stddef.h>

/* Bytes; all together they are the page. */
struct page_parts {
    size_t header;        /* and which tokens are exact */
    size_t exact_tokens;  /* as they came */
    size_t stream_header; /* lengths, and the coder's states, in which the first bits stand */
    size_t scales;        /* of tokens; at fast8 of channels */
    size_t means;         /* of channels; at fast8 their bases, at exact their exponents */
    size_t classes;       /* of channels */
    size_t symbols;       /* the values' high bits, entropy coded */
    size_t planes;  /* those that pass by the coder; at fast8 and raw all, at exact mantissas */
    size_t escapes; /* values beyond their class's table */
};

/* workspace: as page_decode() has it. PAGE_OK, or what page_decode() would say. */
int page_parts(const void *page, size_t page_bytes, void *workspace, struct page_parts *parts)
    __attribute__((warn_unused_result));

#endif
