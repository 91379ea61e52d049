/* The seam for instruction sets of what scores key summaries. Tables give the same bits. */
#ifndef DAEMON_RECALL_KEY_KERNELS_H
#define DAEMON_RECALL_KEY_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* A score is a logarithm: KEY_DOUBLING more of it is twice the attention. Whatever K and queries
 * are, it is within KEY_SCORE_MAX. */
enum {
    KEY_LANES = 16,
    KEY_QUERIES_MAX = 8, /* of a job */
    KEY_GROUPS_MAX = 2,
    KEY_DOUBLING = 64,
    KEY_SCORE_MAX = 32704,
    KEY_BASE_MIN = -(1 << 20),
    KEY_LINE_BYTES = 64,
    KEY_AHEAD_BYTES = 4096
};

/* A head of a chunk's summary with a query of it, of which integers are left. Query and weights
 * have room for, and the query zeros behind the channels up to, a multiple of 64. */
struct key_weighing {
    const int16_t *query;
    const int8_t *centres;
    const uint8_t *steps; /* one a channel */
    size_t channels;      /* a multiple of 16 */
    /* written */
    int8_t *weights; /* query * steps * scale / 2^23, the largest as 127 where it is that much */
    int32_t scale;
    int32_t sum;    /* of the weights */
    int32_t centre; /* query . centres */
};

/* The attention that scores stand for, added up in lanes: sums * 2^(bases / KEY_DOUBLING). At first
 * KEY_BASE_MIN and 0. Between powers of two it is told by straight lines, off by 3 % at most. */
struct key_sum {
    int32_t bases[KEY_LANES]; /* multiples of KEY_DOUBLING */
    float sums[KEY_LANES];
};

/* A score is base + unit * (the sum of a block's codes times the weights), to the nearest. */
struct key_line {
    float base, unit;
};

/* A head's units with up to KEY_QUERIES_MAX queries' weights. */
struct key_job {
    const uint8_t *units;
    size_t vectors, groups;
    const int8_t *weights; /* [queries][weights_apart], a multiple of four a vector of a group */
    size_t queries, weights_apart;
    const struct key_line *lines; /* [queries] */
    const uint8_t *left_out;      /* [groups][16]: 1 for what is no block; NULL: all are */
    int16_t *scores;              /* [queries][scores_apart], of groups * 16 each */
    size_t scores_apart;
    struct key_sum *sums; /* [queries]: to which these scores are added */
};

/* Of a chunk, [queries][lanes]. */
struct key_scores {
    const int16_t *scores, *wholes; /* wholes: [queries] */
    size_t queries, lanes;          /* lanes: a multiple of 16 */
};

struct key_kernels {
    const char *name;
    void (*weigh)(struct key_weighing *weighing);
    void (*score)(const struct key_job *job);
    /* Of each block the largest of score - whole, which are no less than -KEY_SCORE_MAX. */
    void (*best)(const struct key_scores *all, int16_t *best);
};

extern const struct key_kernels key_kernels_portable, key_kernels_avx2, key_kernels_avx512;

/* Summaries are read one after the other: as much as is read here comes into the cache of what is
 * read a little later. Whether there is any does not matter. */
static inline void key_prefetch(const void *memory, size_t bytes) {
    for (size_t i = 0; i < bytes; i += KEY_LINE_BYTES)
        __builtin_prefetch((const uint8_t *)memory + KEY_AHEAD_BYTES + i);
}

/* Those that belong to the page codec's: its dispatch.c looks at the processor and at KVQ_CPU. */
const struct key_kernels *key_kernels(void);

#endif
