/* Plans: what so many sessions of a model will take at each level. A sample of the model's values
 * is coded, and what else the daemon keeps of a session comes on top. */
#ifndef CLIENT_CLI_PLAN_H
#define CLIENT_CLI_PLAN_H

#include "client/cli/bench.h"
#include "client/cli/cache_file.h"

/* Values to code: drawn ones, or a file's. Owns both. */
struct plan_sample {
    struct kvq_geometry geometry; /* the sample's own, which may have fewer layers */
    uint64_t tokens;
    struct kvq_source k, v; /* [layers][tokens, heads, head_dim] */
    struct bench_values drawn;
    struct cache_input file;
};

struct plan_level {
    uint64_t session_bytes;
    bool of_sessions; /* from what the daemon's sessions take, not from the sample */
};

enum plan_values { PLAN_DRAWN, PLAN_FILE };

struct plan {
    const char *model;
    struct kvq_geometry geometry;
    uint64_t sessions, tokens;
    uint64_t memory_bytes; /* 0: not asked */
    enum plan_values values;
    uint64_t sessions_seen;       /* the daemon's, of that model */
    double seen_bits[KVQ_LEVELS]; /* a value takes in them, by level - KVQ_LEVEL_EXACT; or 0 */
    uint32_t page_tokens;
    struct plan_level levels[KVQ_LEVELS];
};

/* What is known of the model by its name: a file's geometry and values, a configuration's or a
 * profile's geometry, or that of the daemon's sessions. sample is to be freed in any case. */
enum exit_status plan_find_model(const struct options *options, struct plan *plan,
                                 struct plan_sample *sample);
void plan_sample_free(struct plan_sample *sample);

/* The geometry in a model's config.json as Hugging Face has it. False: complained. */
bool plan_read_config(const char *path, struct kvq_geometry *geometry);

/* Whether the JSON file is such a one. */
bool plan_is_config(const char *path);

/* Fills plan->levels. False: complained. */
bool plan_measure(struct plan *plan, const struct plan_sample *sample);

/* Sessions that the memory holds before room has to be made in it. */
uint64_t plan_sessions_held(const struct plan *plan, const struct plan_level *level);

void plan_print_json(const struct plan *plan);
void plan_print_text(const struct plan *plan);

#endif
