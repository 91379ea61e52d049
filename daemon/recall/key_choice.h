/* From scores to the blocks that a layer attends to most. */
#ifndef DAEMON_RECALL_KEY_CHOICE_H
#define DAEMON_RECALL_KEY_CHOICE_H

#include "daemon/recall/key_kernels.h"

/* Tokens of a session. The score is a logarithm: of the largest share of its attention that any of
 * the layer's queries gives to one of its blocks. */
struct key_range {
    uint64_t first;
    uint32_t tokens;
    float score;
};

/* The logarithm of what was added up, as a score. */
int16_t key_sum_logarithm(const struct key_sum *sum);

/* The k blocks with the best scores, of equal ones the first; ascending, those that follow each
 * other as one range, which has the best of theirs; none of no tokens. `ranges` has room for k. How
 * many ranges. */
size_t key_choose(const int16_t *scores, const struct key_range *blocks, size_t count, size_t k,
                  struct key_range *ranges);

#endif
