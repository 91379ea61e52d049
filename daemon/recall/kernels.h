/* The seam for instruction sets: recall's inner loops, one table of functions each.
 *
 * Tables need not give the same bits. A dot product is added up in at least 16 lanes, so that it is
 * off by at most (dim / 16 + 8) * 2^-24 times the sum of |query[i] * row[i]|, whatever the table.
 * Within one table a row's product does not depend on the rows beside it.
 */
#ifndef DAEMON_RECALL_KERNELS_H
#define DAEMON_RECALL_KERNELS_H

#include <stddef.h>

enum { RECALL_DTYPES = 2 }; /* enum kvq_retriever_dtype */

struct recall_kernels {
    const char *name;
    /* dots[i]: of the query with row i of `count` side by side, at any alignment. What stands
     * behind the last row may be prefetched, but is not read. */
    void (*dots[RECALL_DTYPES])(const float *query, size_t dim, const void *rows, size_t count,
                                float *dots);
};

extern const struct recall_kernels recall_kernels_portable, recall_kernels_avx2,
    recall_kernels_avx512;

/* Those that belong to the page codec's: its dispatch.c looks at the processor and at KVQ_CPU. */
const struct recall_kernels *recall_kernels(void);

#endif
