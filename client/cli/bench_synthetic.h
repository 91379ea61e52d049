/* The synthetic table: its rows, and how they are shown. */
#ifndef CLIENT_CLI_BENCH_SYNTHETIC_H
#define CLIENT_CLI_BENCH_SYNTHETIC_H

#include "client/c/kvq.h"

enum { SYNTHETIC_SHAPES = 6, SYNTHETIC_LEVELS = 3, SYNTHETIC_ROWS = 2 * SYNTHETIC_LEVELS };

/* The batch is 1. */
struct synthetic_shape {
    const char *name;
    uint32_t heads, head_dim;
    uint64_t tokens;
    uint64_t writeup_bytes; /* what the write-up's ratio refers to, for one tensor */
};
extern const struct synthetic_shape synthetic_shapes[SYNTHETIC_SHAPES];

struct synthetic_row {
    int level;
    bool both; /* K and V, else one tensor */
    uint64_t bytes_16bit, pool_bytes;
    double snr_k_db, snr_v_db; /* without V: NaN */
};

struct synthetic_report {
    uint64_t seed;
    struct synthetic_row rows[SYNTHETIC_SHAPES][SYNTHETIC_ROWS];
};

void synthetic_print_json(const struct synthetic_report *report);
void synthetic_print_table(const struct synthetic_report *report);

#endif
