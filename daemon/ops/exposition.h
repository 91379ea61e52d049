/* Writing metrics as text: OpenMetrics 1.0, or the form of Prometheus before it (0.0.4).
 *
 * A family is begun once and its samples follow. The names of counters come without `_total`; a
 * name's last word, where it is a unit, is the family's unit. Labels are written as they stand.
 */
#ifndef DAEMON_OPS_EXPOSITION_H
#define DAEMON_OPS_EXPOSITION_H

#include <stdbool.h>
#include <stdio.h>

#include "daemon/base/histogram.h"

enum exposition_type {
    EXPOSITION_GAUGE,
    EXPOSITION_COUNTER,
    EXPOSITION_HISTOGRAM,
    EXPOSITION_INFO
};

struct exposition {
    FILE *out;
    bool open_metrics;
    const char *family;
    enum exposition_type type;
};

void exposition_begin(struct exposition *exposition, const char *family, enum exposition_type type,
                      const char *help);

/* labels: `name="value",...`, or empty. */
void exposition_add(struct exposition *exposition, const char *labels, double value);

/* What several histograms of one scale hold together. */
struct exposition_sum {
    uint64_t counts[HISTOGRAM_BOUNDS + 1], count, sum;
};

void exposition_sum_add(struct exposition_sum *sum, const struct histogram *histogram);
void exposition_add_histogram(struct exposition *exposition, const char *labels,
                              const struct exposition_sum *sum,
                              const struct histogram_scale *scale);

/* After the last family. */
void exposition_end(struct exposition *exposition);

#endif
