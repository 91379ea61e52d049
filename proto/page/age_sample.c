#include "proto/page/age.h"
#include "proto/page/rans.h"

#include <string.h>

enum { LOOKED_AT = 16 }; /* one value of so many */

enum {
    MARGIN = 4, /* of zeros on either side of all values */
    NARROW_VALUES = 1 << 8,
    WIDE_VALUES = 1 << 16,
};

static size_t values_of(bool wide) {
    return wide ? WIDE_VALUES : NARROW_VALUES;
}

size_t age_sample_bytes(bool wide) {
    size_t lanes = wide ? 0 : AGE_SAMPLE_LANES * NARROW_VALUES;
    return (lanes + values_of(wide) + 2 * MARGIN) * sizeof(uint32_t);
}

void age_sample_init(struct age_sample *sample, bool wide, void *memory) {
    memset(memory, 0, age_sample_bytes(wide));
    uint32_t *counts = memory;
    *sample = (struct age_sample){.wide = wide, .reach = (int)values_of(wide) / 2};
    for (size_t lane = 0; !wide && lane < AGE_SAMPLE_LANES; lane++, counts += NARROW_VALUES)
        sample->lane[lane] = counts + NARROW_VALUES / 2;
    sample->counts = counts + MARGIN + values_of(wide) / 2;
}

static void look_at16(struct age_sample *sample, const int16_t *row, size_t first, size_t tokens) {
    for (size_t t = first; t < tokens; t += LOOKED_AT)
        sample->counts[row[t]]++;
}

/* Values that follow each other are often the same: counted in one place they would wait for each
 * other. */
static void look_at8(struct age_sample *sample, const int8_t *row, size_t first, size_t tokens) {
    for (size_t t = first; t < tokens; t += LOOKED_AT)
        sample->lane[t / LOOKED_AT % AGE_SAMPLE_LANES][row[t]]++;
}

void age_sample_take(struct age_sample *sample, const void *tile, size_t rows, size_t tokens) {
    for (size_t row = 0; row < rows; row++)
        if (sample->wide)
            look_at16(sample, (const int16_t *)tile + row * RANS_ROW_VALUES, row % LOOKED_AT,
                      tokens);
        else
            look_at8(sample, (const int8_t *)tile + row * RANS_ROW_VALUES, row % LOOKED_AT, tokens);
}

void age_sample_end(struct age_sample *sample) {
    for (int q = -NARROW_VALUES / 2; !sample->wide && q < NARROW_VALUES / 2; q++)
        for (size_t lane = 0; lane < AGE_SAMPLE_LANES; lane++)
            sample->counts[q] += sample->lane[lane][q];
    while (sample->reach > 0 && sample->counts[sample->reach] + sample->counts[-sample->reach] == 0)
        sample->reach--;
    for (int q = -sample->reach; q <= sample->reach; q++)
        sample->total += sample->counts[q];
}

/* How often a value loses a bit that is set; a half if next to nothing is known. */
static double share_of_odd(const struct age_sample *sample) {
    enum { PRIOR = 8 };
    uint32_t odd = 0;
    for (int q = 1; q <= sample->reach; q += 2)
        odd += sample->counts[q] + sample->counts[-q];
    return (double)(odd + PRIOR) / (double)(sample->total + 2 * PRIOR);
}

static uint32_t count_between(const struct age_sample *sample, int first, int last) {
    uint32_t sum = 0;
    for (int q = first; q <= last; q++)
        sum += sample->counts[q];
    return sum;
}

/* The sum over the values at q of x - (q + phase), steps being of one. That it is not 0 shows in
 * the neighbours, where the density rises or falls evenly. */
static double even_slope(const struct age_sample *sample, int q) {
    return ((double)sample->counts[q + 1] - (double)sample->counts[q - 1]) / 24;
}

/* The same near 0, where channels far narrower than a step have their peak. With a phase it lies
 * aside of the middle of q's interval. Values are about as often at x as at -x, so that the edges
 * of intervals split others at their mirror images: how many lie on either side there is known. */
static double errors_near_zero(const struct age_sample *sample, int q, double phase) {
    double width = phase > 0 ? 2 * phase : 1 + 2 * phase; /* of the part above the mirrored edge */
    double all = sample->counts[q];
    double above = (double)count_between(sample, -sample->reach, q) -
                   (double)count_between(sample, phase > 0 ? -q : 1 - q, sample->reach);
    above = above < 0 ? 0 : above > all ? all : above;
    double cubes = width * width * width + (1 - width) * (1 - width) * (1 - width);
    return above * (1 - width) / 2 - (all - above) * width / 2 + even_slope(sample, q) * cubes;
}

static double sum_of_errors(const struct age_sample *sample, int q, double phase) {
    bool near_zero = q >= -2 && q <= 2 && phase != 0 && phase > -0.5 && phase < 0.5;
    return near_zero ? errors_near_zero(sample, q, phase) : even_slope(sample, q);
}

/* Of a value that moves, from where its error was e: the squared error grows by moved^2 - 2 * moved
 * * e. */
static double added_error(const struct age_sample *sample, double phase, double even_moves,
                          double odd_moves) {
    double sum = 0;
    for (int q = -sample->reach - 1; q <= sample->reach + 1; q++) {
        double moved = q & 1 ? odd_moves : even_moves;
        sum += moved * moved * sample->counts[q] - 2 * moved * sum_of_errors(sample, q, phase);
    }
    return sample->total > 0 ? sum / sample->total : 0.25;
}

/* In place, from 0 outwards: an odd q joins the even one below, or above. */
static void halve_counts(struct age_sample *sample, bool up) {
    uint32_t *counts = sample->counts;
    int odd = up ? -1 : 1, reach = (sample->reach + 1) / 2;
    for (int q = 0; q <= reach; q++)
        counts[q] = counts[2 * q] + counts[2 * q + odd];
    for (int q = -1; q >= -reach; q--)
        counts[q] = counts[2 * q] + counts[2 * q + odd];
    for (int q = reach + 1; q <= sample->reach; q++)
        counts[q] = counts[-q] = 0;
    sample->reach = reach;
}

struct age_halving age_sample_halve(struct age_sample *sample, int8_t phase) {
    bool up = phase > 0;
    double odd = share_of_odd(sample), before = phase / 128.0;
    struct age_halving halving = {.up = up};
    double wanted = (phase + (up ? -128 : 128) * odd) / 2;
    halving.phase = (int8_t)(wanted + (wanted < 0 ? -0.5 : 0.5));
    double even_moves = 2 * halving.phase / 128.0 - before;
    halving.error = added_error(sample, before, even_moves, even_moves + (up ? 1 : -1));
    halve_counts(sample, up);
    return halving;
}
