#include "client/cli/show.h"

#include "client/cli/words.h"

#include <inttypes.h>
#include <math.h>

static void rope_json(struct json *json, const struct kvq_rope *rope) {
    json_open_object(json, "rope");
    json_string(json, "pairing", pairing_name(rope->pairing));
    if (rope->pairing != KVQ_PAIRING_NONE) {
        json_real(json, "theta", rope->theta);
        json_count(json, "dims", rope->dims);
        json_real(json, "scaling", rope->scaling > 0 ? rope->scaling : 1);
    }
    json_close_object(json);
}

static void geometry_json(struct json *json, const struct kvq_geometry *geometry) {
    json_open_object(json, "geometry");
    json_count(json, "layers", geometry->layers);
    json_count(json, "heads", geometry->heads);
    json_count(json, "head_dim_k", geometry->head_dim_k);
    json_count(json, "head_dim_v", geometry->head_dim_v);
    json_string(json, "dtype", dtype_name(geometry->dtype));
    rope_json(json, &geometry->rope);
    json_close_object(json);
}

/* Numbers stay numbers: 0..5; the rest are words. */
void show_level_json(struct json *json, const char *name, int level) {
    if (level >= KVQ_LEVEL_FINEST)
        json_integer(json, name, level);
    else
        json_string(json, name, level_name(level));
}

void show_policy_json(struct json *json, const char *name, const struct kvq_policy *policy) {
    json_open_object(json, name);
    json_count(json, "newest_tokens", policy->newest_tokens);
    show_level_json(json, "newest_level", policy->newest_level);
    show_level_json(json, "floor", policy->floor);
    json_count(json, "idle_step_ms", policy->idle_step_ms);
    json_count(json, "ttl_ms", policy->ttl_ms);
    json_close_object(json);
}

void show_policy(const struct kvq_policy *policy) {
    char text[WORD_BYTES];
    printf("policy      floor %s", level_name(policy->floor));
    if (policy->newest_tokens > 0)
        printf("; the newest %s tokens at %s", count_text(policy->newest_tokens, text),
               level_name(policy->newest_level));
    if (policy->idle_step_ms > 0)
        printf("; a level coarser each %s without use",
               short_time_text(policy->idle_step_ms, text));
    if (policy->ttl_ms > 0)
        printf("; deleted after %s without use", short_time_text(policy->ttl_ms, text));
    putchar('\n');
}

/* NULL: it shares nothing. */
static const char *sharing_name(enum kvq_sharing sharing) {
    return sharing == KVQ_SHARE_IDS ? "ids" : sharing == KVQ_SHARE_BYTES ? "bytes" : NULL;
}

static const char *sharing_text(enum kvq_sharing sharing) {
    if (sharing == KVQ_SHARE_NOTHING)
        return "no pages are shared by them";
    return sharing == KVQ_SHARE_IDS ? "pages of the same are shared"
                                    : "pages of the same are shared where their bytes are";
}

static const char *place_name(const struct kvq_level_info *level) {
    switch (level->place) {
    case KVQ_PLACE_TAIL:
        return "tail";
    case KVQ_PLACE_SINKS:
        return "sinks";
    default:
        return level_name(level->level);
    }
}

void show_levels_json(struct json *json, const struct kvq_level_info *levels, size_t count) {
    json_open_array(json, "levels");
    for (size_t i = 0; i < count; i++) {
        json_open_object(json, NULL);
        if (levels[i].place == KVQ_PLACE_PAGES)
            show_level_json(json, "level", levels[i].level);
        else
            json_string(json, "level", place_name(&levels[i]));
        json_count(json, "tokens", levels[i].tokens);
        json_count(json, "bytes", levels[i].bytes);
        json_close_object(json);
    }
    json_close_array(json);
}

void show_session_json(struct json *json, const char *name, const struct kvq_session_info *info) {
    json_open_object(json, name);
    json_string(json, "session", info->session);
    json_string(json, "model", info->model);
    json_string(json, "tenant", info->tenant);
    json_count(json, "id", info->id);
    json_count(json, "version", info->version);
    show_level_json(json, "level", info->level);
    json_real(json, "min_snr_db", info->min_snr_db > 0 ? info->min_snr_db : NAN);
    json_count(json, "tokens", info->tokens);
    json_count(json, "tokens_available", info->tokens_available);
    json_count(json, "tail_tokens", info->tail_tokens);
    json_count(json, "logical_bytes", info->logical_bytes);
    json_count(json, "stored_bytes", info->stored_bytes);
    json_count(json, "unique_bytes", info->unique_bytes);
    json_real(json, "ratio", info->ratio);
    json_real(json, "ratio_input", info->ratio_input);
    json_real(json, "bits_per_value", info->bits_per_value);
    json_real(json, "snr_k_db", info->snr_k_db);
    json_real(json, "snr_v_db", info->snr_v_db);
    json_count(json, "age_ms", info->age_ms);
    json_count(json, "idle_ms", info->idle_ms);
    json_count(json, "pinned_ms", info->pinned_ms);
    json_bool(json, "estimated", info->k.estimated || info->v.estimated);
    show_policy_json(json, "policy", &info->policy);
    json_string(json, "sharing", sharing_name(info->sharing));
    json_count(json, "token_ids_tokens", info->token_ids_tokens);
    json_count(json, "idle_steps", info->idle_steps);
    json_bool(json, "tail_coded", info->tail_coded);
    json_string(json, "durability", info->durability == KVQ_ON_DISK ? "disk" : "memory");
    json_count(json, "disk_bytes", info->disk_bytes);
    json_bool(json, "key_summaries", info->key_summaries);
    json_count(json, "key_summaries_bytes", info->key_summaries_bytes);
    json_open_object(json, "attachments");
    json_count(json, "count", info->attachments.count);
    json_count(json, "bytes", info->attachments.bytes);
    json_count(json, "stored_bytes", info->attachments.stored_bytes);
    json_close_object(json);
    json_open_object(json, "embeddings");
    json_count(json, "entries", info->embeddings.entries);
    json_count(json, "batches", info->embeddings.batches);
    json_count(json, "stored_bytes", info->embeddings.stored_bytes);
    json_close_object(json);
    geometry_json(json, &info->geometry);
    if (info->levels)
        show_levels_json(json, info->levels, info->level_count);
    json_close_object(json);
}

void show_levels(const struct kvq_level_info *levels, size_t count) {
    char tokens[WORD_BYTES], bytes[WORD_BYTES];
    for (size_t i = 0; i < count; i++)
        printf("%-11s %-6s %12s tokens %12s\n", i ? "" : "levels", place_name(&levels[i]),
               count_text(levels[i].tokens, tokens), bytes_text(levels[i].bytes, bytes));
}

static void print_times(const struct kvq_session_info *info) {
    char age[WORD_BYTES], idle[WORD_BYTES], pinned[WORD_BYTES];
    printf("made        %s ago, last used %s ago\n", seconds_text((double)info->age_ms / 1000, age),
           seconds_text((double)info->idle_ms / 1000, idle));
    if (info->idle_steps > 0 || info->tail_coded)
        printf("idle        %u steps taken%s\n", info->idle_steps,
               info->tail_coded ? "; the tail is coded" : "");
    if (info->pinned_ms > 0)
        printf("pinned      for %s more\n", seconds_text((double)info->pinned_ms / 1000, pinned));
}

static void print_session(const struct kvq_session_info *info) {
    const struct kvq_geometry *geometry = &info->geometry;
    char a[WORD_BYTES], b[WORD_BYTES];
    printf("session     %s\n", info->session);
    printf("model       %s\n", info->model);
    printf("geometry    %u layers, %u heads, head_dim %u of K and %u of V, %s\n", geometry->layers,
           geometry->heads, geometry->head_dim_k, geometry->head_dim_v,
           dtype_name(geometry->dtype));
    if (geometry->rope.pairing != KVQ_PAIRING_NONE)
        printf("rope        theta %g, %s, %u dims\n", geometry->rope.theta,
               pairing_name(geometry->rope.pairing), geometry->rope.dims);
    printf("tokens      %s", count_text(info->tokens, a));
    if (info->tokens_available != info->tokens)
        printf(", of which %s are there", count_text(info->tokens_available, a));
    printf("\nversion     %" PRIu64 "\n", info->version);
    printf("level       %s", level_name(info->level));
    if (info->min_snr_db > 0)
        printf(" at most, %g dB at least", info->min_snr_db);
    putchar('\n');
    show_policy(&info->policy);
    if (info->token_ids_tokens > 0 || info->sharing != KVQ_SHARE_NOTHING)
        printf("token ids   of %s tokens; %s\n", count_text(info->token_ids_tokens, a),
               sharing_text(info->sharing));
    printf("given       %s\n", bytes_text(info->logical_bytes, a));
    printf("stored      %s, %s of it this session's alone\n", bytes_text(info->stored_bytes, a),
           bytes_text(info->unique_bytes, b));
    if (info->embeddings.entries > 0)
        printf("embeddings  %s, which take %s\n", count_text(info->embeddings.entries, a),
               bytes_text(info->embeddings.stored_bytes, b));
    if (info->key_summaries)
        printf("keys        can be recalled by; their summaries take %s\n",
               bytes_text(info->key_summaries_bytes, a));
    if (info->attachments.count > 0)
        printf("attachments %u of %s, which take %s\n", info->attachments.count,
               bytes_text(info->attachments.bytes, a),
               bytes_text(info->attachments.stored_bytes, b));
    if (info->disk_bytes > 0 || info->durability == KVQ_ON_DISK)
        printf("on disk     %s of its pages, attachments and embeddings%s\n",
               bytes_text(info->disk_bytes, a),
               info->durability == KVQ_ON_DISK ? "; it is durable there" : "");
    printf("ratio       %s against %zu bits", figure_text(info->ratio_input, 2, "", a),
           8 * kvq_dtype_bytes(geometry->dtype));
    printf(", %s bits a value\n", figure_text(info->bits_per_value, 2, "", a));
    printf("SNR         K %s, ", figure_text(info->snr_k_db, 1, " dB", a));
    printf("V %s%s\n", figure_text(info->snr_v_db, 1, " dB", a),
           info->k.estimated || info->v.estimated ? " (estimated)" : "");
    print_times(info);
    show_levels(info->levels, info->level_count);
}

int show_session(struct kvq_client *client, const char *session, bool as_json) {
    struct kvq_session_info info;
    int error = kvq_info(client, session, &info);
    if (error)
        return error;
    if (as_json) {
        struct json json = {.out = stdout};
        show_session_json(&json, NULL, &info);
        json_end(&json);
    } else {
        print_session(&info);
    }
    return KVQ_OK;
}
