#include "daemon/recall/key_choice.h"

#include <math.h>
#include <stdbool.h>

enum { BINS = 256, TALLIES = 4 };

int16_t key_sum_logarithm(const struct key_sum *sum) {
    int32_t largest = sum->bases[0];
    float all = 0;
    for (size_t lane = 1; lane < KEY_LANES; lane++)
        largest = sum->bases[lane] > largest ? sum->bases[lane] : largest;
    for (size_t lane = 0; lane < KEY_LANES; lane++)
        all += ldexpf(sum->sums[lane], (sum->bases[lane] - largest) / KEY_DOUBLING);
    float score = (float)largest + KEY_DOUBLING * log2f(all);
    return (int16_t)lrintf(fminf(fmaxf(score, -KEY_SCORE_MAX), KEY_SCORE_MAX));
}

/* As numbers from 0 up that order as scores do. */
static inline uint32_t rank_of(int16_t score) {
    return (uint32_t)(score - INT16_MIN);
}

/* How many have each byte of their rank, the upper one or the lower one of those whose upper one is
 * `upper`. Neighbours are counted apart: equal ones do not wait for each other. */
static void count_bytes(const int16_t *scores, size_t count, const uint32_t *upper,
                        uint32_t bins[BINS]) {
    uint32_t tallies[TALLIES][BINS] = {0};
    for (size_t i = 0; i < count; i++) {
        uint32_t rank = rank_of(scores[i]);
        if (!upper)
            tallies[i % TALLIES][rank >> 8]++;
        else
            tallies[i % TALLIES][rank & 0xff] += rank >> 8 == *upper;
    }
    for (size_t bin = 0; bin < BINS; bin++)
        bins[bin] = tallies[0][bin] + tallies[1][bin] + tallies[2][bin] + tallies[3][bin];
}

/* The bin of the k-th from above, k from 1 on; k becomes its place within that. */
static uint32_t find_bin(const uint32_t bins[BINS], size_t *k) {
    uint32_t bin = BINS - 1;
    for (; bin > 0 && bins[bin] < *k; bin--)
        *k -= bins[bin];
    return bin;
}

static size_t append(struct key_range *ranges, size_t count, const struct key_range *block,
                     float score) {
    struct key_range *last = count > 0 ? &ranges[count - 1] : NULL;
    if (last && last->first + last->tokens == block->first) {
        last->tokens += block->tokens;
        last->score = score > last->score ? score : last->score;
        return count;
    }
    ranges[count] = *block;
    ranges[count].score = score;
    return count + 1;
}

/* What the k-th best has, and how many of those that have just that are among the k. */
struct threshold {
    int16_t least;
    size_t equal;
};

static struct threshold threshold_of(const int16_t *scores, size_t count, size_t k) {
    uint32_t bins[BINS];
    if (k >= count)
        return (struct threshold){INT16_MIN, count};
    count_bytes(scores, count, NULL, bins);
    uint32_t upper = find_bin(bins, &k);
    count_bytes(scores, count, &upper, bins);
    uint32_t lower = find_bin(bins, &k);
    return (struct threshold){(int16_t)((int32_t)(upper << 8 | lower) + INT16_MIN), k};
}

size_t key_choose(const int16_t *scores, const struct key_range *blocks, size_t count, size_t k,
                  struct key_range *ranges) {
    const float unit = (float)M_LN2 / KEY_DOUBLING;
    struct threshold threshold = threshold_of(scores, count, k);
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        bool is_equal = scores[i] == threshold.least && threshold.equal > 0;
        if (scores[i] <= threshold.least && !is_equal)
            continue;
        threshold.equal -= is_equal;
        if (blocks[i].tokens > 0)
            found = append(ranges, found, &blocks[i], fminf((float)scores[i] * unit, 0));
    }
    return found;
}
