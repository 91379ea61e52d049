#include "daemon/recall/key_choice.h"

#include <math.h>
#include <stdbool.h>

#include "daemon/recall/key_kernels.h"

static float largest_of(const float *scores, size_t count) {
    float lanes[KEY_LANES], largest;
    size_t i = 0;
    for (size_t lane = 0; lane < KEY_LANES; lane++)
        lanes[lane] = scores[0];
    for (; i + KEY_LANES <= count; i += KEY_LANES)
        for (size_t lane = 0; lane < KEY_LANES; lane++)
            lanes[lane] = scores[i + lane] > lanes[lane] ? scores[i + lane] : lanes[lane];
    for (; i < count; i++)
        lanes[0] = scores[i] > lanes[0] ? scores[i] : lanes[0];
    largest = lanes[0];
    for (size_t lane = 1; lane < KEY_LANES; lane++)
        largest = lanes[lane] > largest ? lanes[lane] : largest;
    return largest;
}

void key_find_best(const float *scores, size_t queries, size_t blocks, size_t apart, float *best) {
    for (size_t b = 0; b < blocks; b++)
        best[b] = -INFINITY;
    for (size_t q = 0; q < queries; q++, scores += apart) {
        float largest = largest_of(scores, blocks);
        float whole = largest + logf(key_kernels()->exponentials(scores, blocks, largest));
        for (size_t b = 0; b < blocks; b++) {
            float share = scores[b] - whole;
            best[b] = share > best[b] ? share : best[b];
        }
    }
}

static void swap(float *a, float *b) {
    float kept = *a;
    *a = *b;
    *b = kept;
}

/* Puts those above a pivot in front of those below, and tells where the latter begin: neither side
 * has all. */
static size_t part(float *values, size_t count) {
    float pivot = values[(count - 1) / 2];
    size_t i = 0, j = count - 1;
    while (true) {
        while (values[i] > pivot)
            i++;
        while (values[j] < pivot)
            j--;
        if (i >= j)
            return j + 1;
        swap(&values[i++], &values[j--]);
    }
}

/* The k-th largest, k from 1 on; the order of the values is lost. */
static float kth_largest(float *values, size_t count, size_t k) {
    while (count > 1) {
        size_t above = part(values, count);
        if (k <= above) {
            count = above;
            continue;
        }
        values += above;
        count -= above;
        k -= above;
    }
    return values[0];
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
    float least;
    size_t equal;
};

static struct threshold threshold_of(const float *scores, size_t count, size_t k, float *scratch) {
    if (k >= count)
        return (struct threshold){-INFINITY, count};
    for (size_t i = 0; i < count; i++)
        scratch[i] = scores[i];
    struct threshold threshold = {kth_largest(scratch, count, k), k};
    for (size_t i = 0; i < count; i++)
        threshold.equal -= scores[i] > threshold.least;
    return threshold;
}

size_t key_choose(const float *scores, const struct key_range *blocks, size_t count, size_t k,
                  float *scratch, struct key_range *ranges) {
    struct threshold threshold = threshold_of(scores, count, k, scratch);
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        bool is_equal = scores[i] == threshold.least && threshold.equal > 0;
        threshold.equal -= is_equal;
        if ((scores[i] > threshold.least || is_equal) && blocks[i].tokens > 0)
            found = append(ranges, found, &blocks[i], scores[i]);
    }
    return found;
}
