/* Decoded pages of one record, for small ranges that are fetched one after another: a page that is
 * entropy coded decodes only whole.
 *
 * It belongs to one thread and one pool, and lies in memory of the caller. A record's bytes never
 * change, and its serial never comes again in its pool: what is found is what decoding would give.
 */
#ifndef DAEMON_STORE_PAGE_CACHE_H
#define DAEMON_STORE_PAGE_CACHE_H

#include "daemon/store/record.h"

enum { PAGE_CACHE_SLOTS = 256 };

struct page_cache_key {
    uint32_t layer;
    enum page_part part;
};

struct page_cache {
    char *memory;
    size_t bytes;
    /* Of which record and as which dtype a range was read last, and the first page of it that was:
     * with the second range, which begins there again, its pages are kept. */
    uint64_t serial;
    enum page_dtype dtype;
    struct page_cache_key first;
    bool keeps;
    /* what is kept: [tokens, heads, head_dim] each */
    size_t slot_bytes, count;
    struct page_cache_key keys[PAGE_CACHE_SLOTS];
};

/* Part of a page, and where it goes. */
struct page_cache_read {
    struct page_cache_key page;
    struct page_target target;
};

/* Gives what decoding the one or two parts of a layer gives, by way of the cache (NULL: there is
 * none) where the ranges are small. 0, or -1, logged, if a page is damaged. */
int page_cache_decode(struct page_cache *cache, const struct record *record,
                      const struct geometry *geometry, const struct page_cache_read *reads,
                      size_t count, void *workspace) __attribute__((warn_unused_result));

#endif
