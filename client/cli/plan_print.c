/* A plan as JSON, and for people. */
#include "client/cli/append.h"
#include "client/cli/help.h"
#include "client/cli/json.h"
#include "client/cli/model_values.h"
#include "client/cli/plan.h"
#include "client/cli/show.h"
#include "client/cli/words.h"

#include <inttypes.h>

static double values_of_session(const struct plan *plan) {
    const struct kvq_geometry *geometry = &plan->geometry;
    return (double)plan->tokens * geometry->layers * geometry->heads *
           (geometry->head_dim_k + geometry->head_dim_v);
}

/* With 16 bits a value. */
static double plain_bytes(const struct plan *plan) {
    return 2 * values_of_session(plan) * (double)plan->sessions;
}

static double bits_per_value(const struct plan *plan, const struct plan_level *level) {
    return 8 * (double)level->session_bytes / values_of_session(plan);
}

static uint64_t all_bytes(const struct plan *plan, const struct plan_level *level) {
    return level->session_bytes * plan->sessions;
}

static const char *source_name(const struct plan *plan, const struct plan_level *level) {
    return level->of_sessions ? "sessions" : plan->values == PLAN_FILE ? "file" : "drawn";
}

static uint64_t tail_bytes(const struct plan *plan) {
    return (plan->page_tokens - 1) * token_bytes_of(&plan->geometry);
}

static void level_json(struct json *json, const struct plan *plan, int index) {
    const struct plan_level *level = &plan->levels[index];
    json_open_object(json, NULL);
    show_level_json(json, "level", index + KVQ_LEVEL_EXACT);
    json_string(json, "values", source_name(plan, level));
    json_count(json, "session_bytes", level->session_bytes);
    json_count(json, "bytes", all_bytes(plan, level));
    json_real(json, "bits_per_value", bits_per_value(plan, level));
    json_real(json, "ratio", 16 / bits_per_value(plan, level));
    if (plan->memory_bytes > 0)
        json_count(json, "sessions_held", plan_sessions_held(plan, level));
    json_close_object(json);
}

void plan_print_json(const struct plan *plan) {
    struct json json = {.out = stdout};
    json_open_object(&json, NULL);
    json_string(&json, "model", plan->model);
    json_count(&json, "layers", plan->geometry.layers);
    json_count(&json, "heads", plan->geometry.heads);
    json_count(&json, "head_dim_k", plan->geometry.head_dim_k);
    json_count(&json, "head_dim_v", plan->geometry.head_dim_v);
    json_string(&json, "dtype", dtype_name(plan->geometry.dtype));
    json_count(&json, "sessions", plan->sessions);
    json_count(&json, "tokens", plan->tokens);
    json_real(&json, "bytes_16bit", plain_bytes(plan));
    json_count(&json, "raw_tail_bytes_max", tail_bytes(plan));
    if (plan->memory_bytes > 0)
        json_count(&json, "memory_bytes", plan->memory_bytes);
    json_open_array(&json, "levels");
    for (int i = 0; i < KVQ_LEVELS; i++)
        level_json(&json, plan, i);
    json_close_array(&json);
    json_close_object(&json);
    json_end(&json);
}

static void print_level(const struct plan *plan, int index) {
    const struct plan_level *level = &plan->levels[index];
    char session[WORD_BYTES], held[WORD_BYTES];
    double bits = bits_per_value(plan, level);
    printf("%5s  %10.2f %6.2f %11s %11.2f", level_name(index + KVQ_LEVEL_EXACT), bits, 16 / bits,
           bytes_text(level->session_bytes, session),
           (double)all_bytes(plan, level) / (double)(1 << 30));
    if (plan->memory_bytes > 0)
        printf(" %9s", count_text(plan_sessions_held(plan, level), held));
    printf("  %s\n", source_name(plan, level));
}

static void print_head(const struct plan *plan) {
    const struct kvq_geometry *geometry = &plan->geometry;
    char sessions[WORD_BYTES], tokens[WORD_BYTES];
    printf("%s: %u layer%s, %u head%s of %u", plan->model, geometry->layers,
           geometry->layers == 1 ? "" : "s", geometry->heads, geometry->heads == 1 ? "" : "s",
           geometry->head_dim_k);
    if (geometry->head_dim_v != geometry->head_dim_k)
        printf(" (V: %u)", geometry->head_dim_v);
    printf(", %s\n%s session%s of %s tokens: %.2f GiB with 16 bits a value\n\n",
           dtype_name(geometry->dtype), count_text(plan->sessions, sessions),
           plan->sessions == 1 ? "" : "s", count_text(plan->tokens, tokens),
           plain_bytes(plan) / (double)(1 << 30));
}

static void print_sources(const struct plan *plan) {
    bool drawn = false;
    for (int i = 0; i < KVQ_LEVELS; i++)
        drawn = drawn || (plan->values == PLAN_DRAWN && !plan->levels[i].of_sessions);
    if (plan->sessions_seen > 0)
        printf("\nsessions: what %" PRIu64 " of the daemon's take", plan->sessions_seen);
    if (plan->values == PLAN_FILE)
        printf("\nfile: coded as they stand there");
    fputs("\n", stdout);
    if (drawn)
        print_wrapped(stdout, 0, "drawn: " MODEL_VALUES_TEXT);
}

void plan_print_text(const struct plan *plan) {
    char tail[WORD_BYTES], memory[WORD_BYTES];
    print_head(plan);
    printf("%5s  %10s %6s %11s %11s", "LEVEL", "BITS/VALUE", "RATIO", "A SESSION", "ALL, GiB");
    if (plan->memory_bytes > 0)
        printf(" %9s", "FIT");
    puts("  VALUES");
    for (int i = 0; i < KVQ_LEVELS; i++)
        print_level(plan, i);
    if (plan->memory_bytes > 0)
        printf("\nfit: sessions in a memory limit of %s\n", bytes_text(plan->memory_bytes, memory));
    printf(
        "\nWhile a session is in use its newest tokens, fewer than %u, are kept as they came: up "
        "to\n%s more.\n",
        plan->page_tokens, bytes_text(tail_bytes(plan), tail));
    print_sources(plan);
}
