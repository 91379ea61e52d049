/* What ageing does to values, seen from a sample of them: the phase that they take on, and their
 * error. */
#ifndef PROTO_PAGE_AGE_H
#define PROTO_PAGE_AGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AGE_SAMPLE_LANES = 4 };

/* How often each q occurs among those looked at. */
struct age_sample {
    bool wide;
    uint32_t *lane[AGE_SAMPLE_LANES]; /* of int8: parts of the counts until age_sample_end() */
    uint32_t *counts;                 /* counts[q], 0 beyond -reach..reach */
    int reach;
    uint32_t total;
};

/* One halving of all values. */
struct age_halving {
    bool up;      /* q = (q + 1) >> 1, or q >> 1 */
    int8_t phase; /* the values' new one, of 1/128 of the coarser step */
    double error; /* what the halving adds to the squared error of a value, of the finer step
                     squared */
};

size_t age_sample_bytes(bool wide);
void age_sample_init(struct age_sample *sample, bool wide, void *memory);

/* Looks at some values of a tile's rows, 128 values apart. */
void age_sample_take(struct age_sample *sample, const void *tile, size_t rows, size_t tokens);

/* All tiles have been looked at. */
void age_sample_end(struct age_sample *sample);

/* What halving the values makes of them, with which the sample goes on. */
struct age_halving age_sample_halve(struct age_sample *sample, int8_t phase);

#endif
