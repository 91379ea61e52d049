/* Profiles: how a cache is kept by a device without a daemon, and what that takes. Their files and
 * what is printed of them are described by config/profiles/profile.schema.json. */
#ifndef CLIENT_CLI_PROFILE_H
#define CLIENT_CLI_PROFILE_H

#include "proto/page/parts.h"

#include <stdbool.h>
#include <stdint.h>

enum { PROFILE_AGES_MAX = 8, PROFILE_PROCESSORS_MAX = 8, PROFILE_NAME_BYTES = 64 };

struct profile_age {
    uint64_t tokens;
    int level;
};

struct profile_processor {
    char name[PROFILE_NAME_BYTES];
    uint64_t stack_bytes; /* that decoding takes at most */
};

struct profile {
    char name[PROFILE_NAME_BYTES];
    uint32_t heads, head_dim, layers, sink_tokens;
    uint64_t tokens;
    struct profile_age ages[PROFILE_AGES_MAX]; /* the oldest first */
    int age_count;
    double target_ratio;
    uint64_t ram_bytes_max, stack_bytes_max;
    struct profile_processor processors[PROFILE_PROCESSORS_MAX];
    int processor_count;
};

/* Sums over pages, of K and of V. */
struct profile_part {
    uint64_t values, pages, stored_bytes;
    double error[2], energy[2];
    struct page_parts parts;
};

struct profile_report {
    const struct profile *profile;
    uint64_t seed;
    struct profile_part ages[PROFILE_AGES_MAX], whole;
    uint64_t workspace_bytes, output_bytes; /* to decode the page that needs most */
};

/* A built-in profile, or that of a file if the name has a / or ends in .json. False: complained. */
bool profile_load(const char *name, struct profile *profile);

/* Codes drawn values. False: complained. */
bool profile_measure(const struct profile *profile, uint64_t seed, struct profile_report *report);

double profile_ratio(const struct profile_part *part);
double profile_bits_per_value(const struct profile_part *part);
double profile_snr_db(const struct profile_part *part, int kv); /* NaN without an error */
bool profile_is_within_limits(const struct profile_report *report);

void profile_print_json(const struct profile_report *report);
void profile_print_text(const struct profile_report *report);

#endif
