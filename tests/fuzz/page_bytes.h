/* Everything a reader can do with bytes that may or may not be a page, each buffer between guards.
 */
#ifndef TESTS_FUZZ_PAGE_BYTES_H
#define TESTS_FUZZ_PAGE_BYTES_H

#include "tests/fuzz/guarded.h"

/* The buffers: rooms are larger than a page needs, since bytes stand at either end of them. */
struct page_reader {
    struct guarded_room page, other, values[2], aged[2], workspace;
};

struct page_reader page_reader_new(void);
void page_reader_free(struct page_reader *reader);

/* Peeks at, decodes (whole, a range, as another dtype, in pairs) and ages (alone, in pairs) the
 * bytes with the kernels in use; aborts where results contradict each other or page.h. Returns a
 * digest of what came out: the same for every table of kernels. at_end: at which end of the rooms
 * the buffers lie.
 */
uint64_t page_reader_try(struct page_reader *reader, const uint8_t *bytes, size_t length,
                         bool at_end);

#endif
