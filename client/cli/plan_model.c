/* What a plan is for: a geometry, and values to code. */
#include "client/cli/append.h"
#include "client/cli/plan.h"
#include "client/cli/profile.h"
#include "client/cli/session_list.h"
#include "proto/page/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DRAWN_LAYERS = 8, PATH_BYTES = 4096 };

static bool ends_in(const char *text, const char *ending) {
    size_t length = strlen(text), ending_length = strlen(ending);
    return length >= ending_length && strcmp(text + length - ending_length, ending) == 0;
}

/* ---- values ---- */

/* float16 becomes the dtype that the model's values have. NULL: no memory. */
static void *as_dtype(uint16_t *drawn, enum kvq_dtype dtype, size_t count) {
    void *values = reallocarray(NULL, count, kvq_dtype_bytes(dtype));
    if (values && drawn)
        page_convert_row(PAGE_F16, drawn, (enum page_dtype)dtype, values, count);
    free(drawn);
    return values;
}

static struct kvq_source source_of(const void *values, const struct plan_sample *sample,
                                   uint32_t head_dim) {
    const struct kvq_geometry *geometry = &sample->geometry;
    size_t token_bytes = geometry->heads * head_dim * kvq_dtype_bytes(geometry->dtype);
    return (struct kvq_source){.block = values,
                               .layer_stride = (ptrdiff_t)(sample->tokens * token_bytes)};
}

/* Two pages of some layers. */
static bool draw_sample(const struct plan *plan, struct plan_sample *sample) {
    struct kvq_geometry *geometry = &sample->geometry;
    *geometry = plan->geometry;
    geometry->layers = geometry->layers < DRAWN_LAYERS ? geometry->layers : DRAWN_LAYERS;
    sample->tokens = 2 * (uint64_t)plan->page_tokens;
    struct bench_values *drawn = &sample->drawn;
    *drawn = (struct bench_values){.geometry = *geometry, .tokens = sample->tokens};
    if (!bench_values_draw(drawn, BENCH_SEED))
        return false;
    size_t rows = geometry->layers * sample->tokens * geometry->heads;
    drawn->k = as_dtype(drawn->k, geometry->dtype, rows * geometry->head_dim_k);
    drawn->v = as_dtype(drawn->v, geometry->dtype, rows * geometry->head_dim_v);
    if (!drawn->k || !drawn->v) {
        complain("no memory for a sample of values");
        return false;
    }
    sample->k = source_of(drawn->k, sample, geometry->head_dim_k);
    sample->v = source_of(drawn->v, sample, geometry->head_dim_v);
    return true;
}

void plan_sample_free(struct plan_sample *sample) {
    bench_values_free(&sample->drawn);
    cache_input_close(&sample->file);
}

/* ---- where the geometry comes from ---- */

static bool is_too_wide(const struct plan *plan) {
    if (plan->page_tokens == 0)
        complain("%s: a token of one layer is wider than a page can be", plan->model);
    return plan->page_tokens == 0;
}

static void set_page_tokens(struct plan *plan) {
    const struct kvq_geometry *geometry = &plan->geometry;
    plan->page_tokens = page_tokens(geometry->heads, geometry->head_dim_k, geometry->head_dim_v);
}

static enum exit_status take_values(const char *path, enum kvq_dtype dtype, struct plan *plan,
                                    struct plan_sample *sample) {
    if (!cache_input_open(path, dtype, &sample->file))
        return EXIT_FAILED;
    sample->geometry = plan->geometry = sample->file.geometry;
    sample->tokens = sample->file.tokens;
    sample->k = sample->file.k;
    sample->v = sample->file.v;
    plan->values = PLAN_FILE;
    set_page_tokens(plan);
    if (is_too_wide(plan))
        return EXIT_FAILED;
    if (sample->tokens >= plan->page_tokens)
        return EXIT_DONE;
    complain("%s: %llu tokens say too little; %u at least fill a page", path,
             (unsigned long long)sample->tokens, plan->page_tokens);
    return EXIT_FAILED;
}

static bool take_profile(const char *name, struct plan *plan) {
    struct profile profile;
    if (!profile_load(name, &profile))
        return false;
    plan->geometry = (struct kvq_geometry){.layers = profile.layers,
                                           .heads = profile.heads,
                                           .head_dim_k = profile.head_dim,
                                           .head_dim_v = profile.head_dim,
                                           .dtype = KVQ_F16};
    return true;
}

/* ---- the daemon's sessions ---- */

struct seen_levels {
    double bytes[KVQ_LEVELS], values[KVQ_LEVELS];
};

static void add_levels(const struct kvq_session_info *info, struct seen_levels *seen) {
    const struct kvq_geometry *geometry = &info->geometry;
    double token_values =
        (double)geometry->layers * geometry->heads * (geometry->head_dim_k + geometry->head_dim_v);
    for (size_t i = 0; i < info->level_count; i++) {
        const struct kvq_level_info *level = &info->levels[i];
        if (level->place != KVQ_PLACE_PAGES || level->tokens == 0)
            continue;
        seen->bytes[level->level - KVQ_LEVEL_EXACT] += (double)level->bytes;
        seen->values[level->level - KVQ_LEVEL_EXACT] += (double)level->tokens * token_values;
    }
}

/* The newest sessions of the model, some of them. */
static int read_sessions(struct kvq_client *client, const struct session_list *list,
                         struct plan *plan) {
    enum { ENOUGH = 64 };
    struct seen_levels seen = {0};
    for (size_t i = list->count; i-- > 0 && plan->sessions_seen < ENOUGH;) {
        struct kvq_session_info info;
        if (strcmp(list->rows[i].model, plan->model) != 0)
            continue;
        int error = kvq_info(client, list->rows[i].session, &info);
        if (error && error != KVQ_MISS) /* deleted meanwhile */
            return error;
        if (error)
            continue;
        plan->geometry = info.geometry;
        plan->sessions_seen++;
        add_levels(&info, &seen);
    }
    for (int i = 0; i < KVQ_LEVELS; i++)
        plan->seen_bits[i] = seen.values[i] > 0 ? 8 * seen.bytes[i] / seen.values[i] : 0;
    return KVQ_OK;
}

static enum exit_status ask_daemon(const struct options *options, struct plan *plan) {
    CLIENT_CLEANUP struct kvq_client *client = NULL;
    enum exit_status status = connect_client(options, &client);
    if (status != EXIT_DONE)
        return status;
    struct session_list list = {0};
    int error = session_list_load(&list, client, false);
    if (!error)
        error = read_sessions(client, &list, plan);
    session_list_free(&list);
    if (error)
        return report_failure(client, error);
    if (plan->sessions_seen > 0)
        return EXIT_DONE;
    complain("the daemon has no session of a model \"%s\"; or name a file: config.json, or an "
             ".npy or .npz with values",
             plan->model);
    return EXIT_MISS;
}

/* ---- all of it ---- */

static bool is_directory(const char *path) {
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

static enum exit_status find_geometry(const struct options *options, struct plan *plan) {
    char path[PATH_BYTES];
    const char *name = plan->model;
    if (strchr(name, '/') && is_directory(name)) {
        snprintf(path, sizeof path, "%s/config.json", name);
        name = path;
    }
    bool is_file = strchr(name, '/') || ends_in(name, ".json");
    if (is_file && plan_is_config(name))
        return plan_read_config(name, &plan->geometry) ? EXIT_DONE : EXIT_FAILED;
    if (is_file || strcmp(name, "tiny") == 0)
        return take_profile(name, plan) ? EXIT_DONE : EXIT_FAILED;
    return ask_daemon(options, plan);
}

enum exit_status plan_find_model(const struct options *options, struct plan *plan,
                                 struct plan_sample *sample) {
    enum kvq_dtype dtype = options->given & OPTION_DTYPE ? options->dtype : KVQ_DTYPE_UNSET;
    if (ends_in(plan->model, ".npy") || is_npz(plan->model))
        return take_values(plan->model, dtype, plan, sample);
    enum exit_status status = find_geometry(options, plan);
    if (status != EXIT_DONE)
        return status;
    set_page_tokens(plan);
    return !is_too_wide(plan) && draw_sample(plan, sample) ? EXIT_DONE : EXIT_FAILED;
}
