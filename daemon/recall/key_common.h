/* What of the kernels needs no instruction of its own, without a branch, so that compilers make
 * vectors of its loops: each table compiles it for its own target, and no operation on floats is
 * fused with another. */
#ifndef DAEMON_RECALL_KEY_COMMON_H
#define DAEMON_RECALL_KEY_COMMON_H

#include <stdbool.h>
#include <string.h>

#include "daemon/recall/key_kernels.h"

enum { KEY_ONE = 127 * KEY_DOUBLING, KEY_ONE_BETWEEN = KEY_ONE - 3, KEY_MANTISSA_SHIFT = 17 };

/* 2^(power / KEY_DOUBLING), power from 0 down, `one` being what the power of 0 is coded as. */
static inline float key_power(int32_t power, int32_t one) {
    float value;
    int32_t bits = (power > -one ? power + one : 0) << KEY_MANTISSA_SHIFT;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Of one group or two. */
static inline void key_add(struct key_sum *restrict sum, const int32_t *restrict scores,
                           size_t groups) {
    for (size_t lane = 0; lane < KEY_LANES; lane++) {
        int32_t before = sum->bases[lane], first = scores[lane];
        int32_t second = groups > 1 ? scores[KEY_LANES + lane] : 2 * KEY_BASE_MIN;
        int32_t larger = first > second ? first : second;
        int32_t above = (larger & -KEY_DOUBLING) + KEY_DOUBLING;
        int32_t base = above > before ? above : before;
        float added =
            key_power(first - base, KEY_ONE_BETWEEN) + key_power(second - base, KEY_ONE_BETWEEN);
        sum->sums[lane] = sum->sums[lane] * key_power(before - base, KEY_ONE) + added;
        sum->bases[lane] = base;
    }
}

/* What is no number is the least. Adding leaves the nearest integer in the low bits. */
static inline void key_round(struct key_line line, const int32_t *restrict dots,
                             int32_t *restrict scores, size_t count) {
    const float most = KEY_SCORE_MAX, shift = 0x1.8p23F;
    int32_t zero;
    memcpy(&zero, &shift, sizeof zero);
    for (size_t i = 0; i < count; i++) {
        float score = line.base + line.unit * (float)dots[i];
        score = score > -most ? score : -most;
        score = (score < most ? score : most) + shift;
        memcpy(&scores[i], &score, sizeof score);
        scores[i] -= zero;
    }
}

static inline void key_leave_out(int32_t *restrict scores, const uint8_t *restrict left_out,
                                 size_t count) {
    for (size_t i = 0; i < count; i++)
        scores[i] = left_out[i] ? -KEY_SCORE_MAX : scores[i];
}

/* From dots[query][group][lane]. */
static inline void key_finish(const struct key_job *job, const int32_t *dots) {
    size_t count = job->groups * KEY_LANES;
    for (size_t q = 0; q < job->queries; q++) {
        int32_t scores[KEY_GROUPS_MAX * KEY_LANES] = {0};
        key_round(job->lines[q], dots + q * count, scores, count);
        if (job->left_out)
            key_leave_out(scores, job->left_out, count);
        for (size_t i = 0; i < count; i++)
            job->scores[q * job->scores_apart + i] = (int16_t)scores[i];
        key_add(&job->sums[q], scores, job->groups);
    }
}

static inline void key_best(const struct key_scores *all, int16_t *restrict best) {
    for (size_t b = 0; b < all->lanes; b += KEY_LANES) {
        int32_t most[KEY_LANES];
        for (size_t lane = 0; lane < KEY_LANES; lane++)
            most[lane] = -KEY_SCORE_MAX;
        for (size_t q = 0; q < all->queries; q++)
            for (size_t lane = 0; lane < KEY_LANES; lane++) {
                int32_t share = all->scores[q * all->lanes + b + lane] - all->wholes[q];
                most[lane] = share > most[lane] ? share : most[lane];
            }
        for (size_t lane = 0; lane < KEY_LANES; lane++)
            best[b + lane] = (int16_t)(most[lane] < KEY_SCORE_MAX ? most[lane] : KEY_SCORE_MAX);
    }
}

/* --- weighing --- */

/* As a processor's pmulhrsw. */
static inline int32_t key_multiply(int32_t a, int32_t b) {
    return (a * b + (1 << 14)) >> 15;
}

static inline int32_t key_scale(int32_t largest) {
    const int32_t most = 127;
    return largest > most ? (most << 15) / largest : INT16_MAX;
}

#endif
