/* The seam for instruction sets of what scores key summaries. Tables give the same bits. */
#ifndef DAEMON_RECALL_KEY_KERNELS_H
#define DAEMON_RECALL_KEY_KERNELS_H

#include <stddef.h>
#include <stdint.h>

enum { KEY_LANES = 16 };

/* A head of a chunk's summary with a query of it: floats and weights have room for, and the floats
 * zeros behind the channels up to, a multiple of 16 and what the units' vectors need. */
struct key_weighing {
    const float *query;
    const int8_t *centres;
    const uint8_t *steps; /* one a channel */
    size_t channels;      /* a multiple of 16 */
    float *products;      /* scratch: a value a channel */
    /* written */
    int8_t *weights; /* query * step, the largest as 127 */
    float unit;      /* what a weight of 1 stands for */
    int32_t sum;     /* of the weights */
    float centre;    /* query . centres, added up in 16 lanes */
};

/* A head's units with some queries' weights. */
struct key_job {
    const uint8_t *units;
    size_t vectors, groups;
    const int8_t *weights; /* [queries][weights_apart], a multiple of four a vector of a group */
    size_t queries, weights_apart;
    int32_t *sums;       /* [queries][groups * 16]: of each block's codes times the weights */
    const uint8_t *next; /* as many bytes as the units have, which come next; NULL: none */
};

struct key_kernels {
    const char *name;
    void (*weigh)(struct key_weighing *weighing);
    void (*dots)(const struct key_job *job);
    /* The sum of e^(x - largest): of those below 2^-126 nothing. */
    float (*exponentials)(const float *x, size_t count, float largest);
};

extern const struct key_kernels key_kernels_portable, key_kernels_avx2, key_kernels_avx512;

/* Those that belong to the page codec's: its dispatch.c looks at the processor and at KVQ_CPU. */
const struct key_kernels *key_kernels(void);

#endif
