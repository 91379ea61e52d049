/* From scores to the blocks that a layer attends to most. */
#ifndef DAEMON_RECALL_KEY_CHOICE_H
#define DAEMON_RECALL_KEY_CHOICE_H

#include <stddef.h>
#include <stdint.h>

/* Tokens of a session. The score is a logarithm: of the largest share of its attention that any of
 * the layer's queries gives to one of its blocks. */
struct key_range {
    uint64_t first;
    uint32_t tokens;
    float score;
};

/* From scores[query * apart + block] to each block's best: over queries, of the score less the
 * logarithm of the sum of e^score over all blocks. There is one block at least. */
void key_find_best(const float *scores, size_t queries, size_t blocks, size_t apart, float *best);

/* The k blocks with the best scores, of equal ones the first; ascending, those that follow each
 * other as one range, which has the best of theirs; none of no tokens. `scratch` has `count`
 * floats, `ranges` room for k. How many ranges. */
size_t key_choose(const float *scores, const struct key_range *blocks, size_t count, size_t k,
                  float *scratch, struct key_range *ranges);

#endif
