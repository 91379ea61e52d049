/* The pages that are frozen: values made of integers alone, the same on every machine, and what the
 * codec makes of them with the kernels in use.
 *
 * encoder.txt has a line a case: digests of pages too many to keep. *.page are pages to keep, small
 * ones, with the values that they decode to in *.values. write_golden.c writes all of them.
 */
#ifndef TESTS_GOLDEN_GOLDEN_CASES_H
#define TESTS_GOLDEN_GOLDEN_CASES_H

#include "proto/page/page.h"

#include <stddef.h>
#include <stdint.h>

enum { GOLDEN_LINE_BYTES = 160, GOLDEN_NAME_BYTES = 64 };

/* Memory for all cases, one after another. */
struct golden_work {
    void *values, *decoded, *page, *aged, *workspace;
};

/* Ends the program where there is no memory. */
struct golden_work golden_work_new(void);
void golden_work_free(struct golden_work *work);

/* The line of encoder.txt: level, dtype, shape, and xxh3 of K's and V's pages, of the values that
 * they decode to in all dtypes, and of the pages that they age to. */
size_t golden_line_count(void);
void golden_line(size_t i, struct golden_work *work, char line[GOLDEN_LINE_BYTES]);

/* A page that is kept. */
struct golden_page {
    char name[GOLDEN_NAME_BYTES]; /* of its files, without .page and .values */
    size_t page_bytes, value_bytes;
    const void *page, *values; /* in the work, until the next call */
    struct page_source source; /* what it is made of */
    int level;                 /* that of the source, or a coarser one that it was aged to */
};
size_t golden_page_count(void);
struct golden_page golden_page(size_t i, struct golden_work *work);

#endif
