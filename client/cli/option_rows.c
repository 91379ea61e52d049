/* What an option's value may be, and the table of all options. */
#include "client/cli/command.h"
#include "client/cli/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse_socket(const char *text, struct options *options) {
    options->socket = text;
    return text[0] != '\0';
}

static bool parse_token_file(const char *text, struct options *options) {
    options->token_file = text;
    return text[0] != '\0';
}

static bool parse_tls_ca(const char *text, struct options *options) {
    options->tls_ca = text;
    return text[0] != '\0';
}

static bool parse_tls_certificate(const char *text, struct options *options) {
    options->tls_certificate = text;
    return text[0] != '\0';
}

static bool parse_tls_key(const char *text, struct options *options) {
    options->tls_key = text;
    return text[0] != '\0';
}

static bool parse_tls_name(const char *text, struct options *options) {
    options->tls_name = text;
    return text[0] != '\0';
}

static bool parse_tenant(const char *text, struct options *options) {
    options->tenant = text;
    return is_tenant_name(text);
}

static bool parse_session(const char *text, struct options *options) {
    options->session = text;
    return text[0] != '\0' && strlen(text) <= KVQ_SESSION_BYTES_MAX;
}

static bool parse_config(const char *text, struct options *options) {
    options->config = text;
    return text[0] != '\0';
}

static bool parse_model(const char *text, struct options *options) {
    options->model = text;
    return text[0] != '\0' && strlen(text) <= KVQ_MODEL_BYTES_MAX;
}

static bool parse_level(const char *text, struct options *options) {
    return level_from_name(text, &options->level);
}

static bool parse_real(const char *text, double *number) {
    char *end;
    *number = strtod(text, &end);
    return end != text && *end == '\0' && *number > 0 && *number < 1e30;
}

static bool parse_min_snr(const char *text, struct options *options) {
    return parse_real(text, &options->min_snr_db) && options->min_snr_db <= KVQ_SNR_DB_MAX;
}

/* What was given of the policy is noted for the library, which has flags of its own. */
static void give(struct options *options, enum kvq_policy_field field) {
    options->policy.size = sizeof options->policy;
    options->policy.given |= field;
}

static bool parse_floor(const char *text, struct options *options) {
    give(options, KVQ_POLICY_FLOOR);
    return level_from_name(text, &options->policy.policy.floor);
}

/* N or N:LEVEL */
static bool parse_newest(const char *text, struct options *options) {
    struct kvq_policy *policy = &options->policy.policy;
    give(options, KVQ_POLICY_NEWEST_TOKENS);
    if (!number_prefix(text, &text, &policy->newest_tokens))
        return false;
    if (text[0] == '\0')
        return true;
    give(options, KVQ_POLICY_NEWEST_LEVEL);
    return text[0] == ':' && level_from_name(text + 1, &policy->newest_level);
}

static bool parse_dtype(const char *text, struct options *options) {
    return dtype_from_name(text, &options->dtype);
}

/* A:B, A:, :B or :, with A < B. */
static bool parse_range(const char *text, struct range *range) {
    *range = (struct range){0};
    if (text[0] != ':' && !number_prefix(text, &text, &range->first))
        return false;
    if (*text++ != ':')
        return false;
    if (text[0] == '\0')
        return true;
    return number_prefix(text, &text, &range->end) && text[0] == '\0' && range->first < range->end;
}

static bool parse_tokens(const char *text, struct options *options) {
    return parse_range(text, &options->tokens);
}

static bool parse_first_tokens(const char *text, struct options *options) {
    return number_from_text(text, &options->first_tokens) && options->first_tokens > 0;
}

static bool parse_layers(const char *text, struct options *options) {
    return parse_range(text, &options->layers) && options->layers.end <= UINT32_MAX &&
           options->layers.first < UINT32_MAX;
}

static bool parse_rope_field(const char *name, const char *value, struct kvq_rope *rope) {
    uint64_t dims;
    if (strcmp(name, "theta") == 0)
        return parse_real(value, &rope->theta);
    if (strcmp(name, "scaling") == 0)
        return parse_real(value, &rope->scaling);
    if (strcmp(name, "pairing") == 0)
        return pairing_from_name(value, &rope->pairing);
    if (strcmp(name, "dims") != 0 || !number_from_text(value, &dims))
        return false;
    rope->dims = (uint32_t)dims;
    return dims > 0 && dims <= UINT16_MAX;
}

/* theta=100000,pairing=interleaved,dims=64[,scaling=1] */
static bool parse_rope(const char *text, struct options *options) {
    char copy[256];
    int length = snprintf(copy, sizeof copy, "%s", text);
    if (length < 0 || (size_t)length >= sizeof copy)
        return false;
    char *rest = copy;
    for (char *field; (field = strsep(&rest, ","));) {
        char *value = strchr(field, '=');
        if (!value)
            return false;
        *value++ = '\0';
        if (!parse_rope_field(field, value, &options->rope))
            return false;
    }
    const struct kvq_rope *rope = &options->rope;
    return rope->pairing != KVQ_PAIRING_NONE && rope->theta > 0 && rope->dims > 0;
}

static bool parse_time(const char *text, uint64_t *milliseconds) {
    return milliseconds_from_text(text, milliseconds) && *milliseconds > 0;
}

static bool parse_memory(const char *text, struct options *options) {
    return bytes_from_text(text, &options->memory_bytes) && options->memory_bytes > 0;
}

static bool parse_for(const char *text, struct options *options) {
    return parse_time(text, &options->for_ms);
}

static bool parse_idle(const char *text, struct options *options) {
    return parse_time(text, &options->idle_ms);
}

static bool parse_older(const char *text, struct options *options) {
    return parse_time(text, &options->older_ms);
}

static bool parse_time_or_never(const char *text, uint64_t *milliseconds) {
    *milliseconds = 0;
    return strcmp(text, "never") == 0 || parse_time(text, milliseconds);
}

static bool parse_idle_step(const char *text, struct options *options) {
    give(options, KVQ_POLICY_IDLE_STEP);
    return parse_time_or_never(text, &options->policy.policy.idle_step_ms);
}

static bool parse_ttl(const char *text, struct options *options) {
    give(options, KVQ_POLICY_TTL);
    return parse_time_or_never(text, &options->policy.policy.ttl_ms);
}

static bool parse_prefix(const char *text, struct options *options) {
    options->prefix = text;
    return text[0] != '\0' && strlen(text) <= KVQ_SESSION_BYTES_MAX;
}

static bool parse_ids(const char *text, struct options *options) {
    options->ids = text;
    return text[0] != '\0';
}

static bool parse_ranges(const char *text, struct options *options) {
    options->ranges = text;
    return text[0] != '\0';
}

static bool parse_query(const char *text, struct options *options) {
    options->query = text;
    return text[0] != '\0';
}

static bool parse_queries(const char *text, struct options *options) {
    options->queries = text;
    return text[0] != '\0';
}

static bool parse_label(const char *text, struct options *options) {
    options->label = text;
    return text[0] != '\0' && strlen(text) <= KVQ_LABEL_BYTES_MAX;
}

static bool parse_metric(const char *text, struct options *options) {
    options->metric = strcmp(text, "inner") == 0 ? KVQ_INNER_PRODUCT : KVQ_COSINE;
    return options->metric == KVQ_INNER_PRODUCT || strcmp(text, "cosine") == 0;
}

static bool parse_k(const char *text, struct options *options) {
    return number_from_text(text, &options->k) && options->k > 0 &&
           options->k <= KVQ_RECALL_BLOCKS_MAX;
}

static bool parse_min_score(const char *text, struct options *options) {
    char *end;
    options->min_score = strtod(text, &end);
    return end != text && *end == '\0' && options->min_score > -1e30 && options->min_score < 1e30;
}

static bool parse_newer(const char *text, struct options *options) {
    return milliseconds_from_text(text, &options->newer_ms) && options->newer_ms > 0;
}

static bool parse_sort(const char *text, struct options *options) {
    static const char *const names[SORT_ORDERS] = {"made", "used", "size", "tokens", "name"};
    for (int i = 0; i < SORT_ORDERS; i++) {
        options->sort = (enum sort_order)i;
        if (strcmp(text, names[i]) == 0)
            return true;
    }
    return false;
}

static bool parse_seed(const char *text, struct options *options) {
    return number_from_text(text, &options->seed);
}

static bool parse_seconds(const char *text, struct options *options) {
    enum { SECONDS_MAX = 3600 };
    return number_from_text(text, &options->seconds) && options->seconds > 0 &&
           options->seconds <= SECONDS_MAX;
}

const struct option_row option_rows[OPTION_ROWS] = {
    {OPTION_MODEL, "model", "NAME",
     "the model's fingerprint, 1 to 255 bytes: weights, tokenizer, adapter", parse_model},
    {OPTION_LEVEL, "level", "LEVEL", "exact, fast8 or 0 (fine) to 5 (coarse)", parse_level},
    {OPTION_MIN_SNR, "min-snr-db", "DECIBELS",
     "each page gets the coarsest level, up to --level or 5, with so many decibels", parse_min_snr},
    {OPTION_FLOOR, "floor", "LEVEL", "the coarsest level that time and pressure lead to",
     parse_floor},
    {OPTION_NEWEST, "newest", "N[:LEVEL]",
     "keep the newest N tokens at LEVEL, such as 512:fast8; 0: none", parse_newest},
    {OPTION_IDLE_STEP, "idle-step", "TIME",
     "one level coarser for each time such as 30min without use, or never", parse_idle_step},
    {OPTION_TTL, "ttl", "TIME", "delete it after a time such as 7d without use, or never",
     parse_ttl},
    {OPTION_DURABLE, "durable", NULL, "wait until it is on disk, and so whenever it changes", NULL},
    {OPTION_KEY_SUMMARIES, "key-summaries", NULL,
     "keep summaries of its keys, by which tokens can be recalled", NULL},
    {OPTION_ROPE, "rope", "theta=N,pairing=interleaved|half,dims=N[,scaling=N]",
     "the model's rotary embedding", parse_rope},
    {OPTION_DTYPE, "dtype", "bf16|f16|f32|fp8_e4m3|fp8_e5m2|int8",
     "of the file's values; bf16 stands in uint16, fp8 in uint8", parse_dtype},
    {OPTION_IDS, "ids", "FILE",
     "token ids: an .npy file of integers, or numbers with commas between", parse_ids},
    {OPTION_RANGES, "ranges", "FILE",
     "a line for each: its tokens A:B and, behind tabs, label and metadata", parse_ranges},
    {OPTION_QUERY, "query", "FILE", "the embedding to look for, an .npy file", parse_query},
    {OPTION_QUERIES, "queries", "FILE",
     "a model's queries, an .npy file: what of one session they attend to", parse_queries},
    {OPTION_METRIC, "metric", "cosine|inner",
     "how near two embeddings are: by their angle (if not given) or inner product", parse_metric},
    {OPTION_K, "k", "N",
     "how many ranges, 1 to 512, or blocks of each layer, 1 to 65536; 8 if not given", parse_k},
    {OPTION_MIN_SCORE, "min-score", "SCORE", "none with a lower score", parse_min_score},
    {OPTION_LABEL, "label", "TEXT", "with this label", parse_label},
    {OPTION_NEWER, "newer", "TIME", "indexed no longer ago, such as 10min, 3h or 2d", parse_newer},
    {OPTION_MERGE, "merge", NULL, "ranges that overlap or touch become one", NULL},
    {OPTION_APPEND, "append", NULL, "add the tokens to a session that may exist", NULL},
    {OPTION_REPLACE, "replace", NULL, "put it in the place of a session that may exist", NULL},
    {OPTION_TOKENS, "tokens", "A:B", "tokens A to B, B not among them; either may be left out",
     parse_tokens},
    {OPTION_FIRST_TOKENS, "tokens", "N", "the first N tokens only", parse_first_tokens},
    {OPTION_LAYERS, "layers", "A:B", "layers A to B, likewise", parse_layers},
    {OPTION_SORT, "sort", "made|used|size|tokens|name",
     "the longest ago made (if not given) or used first, or the largest first, or by name",
     parse_sort},
    {OPTION_ALL, "all", NULL, "all sessions that there are", NULL},
    {OPTION_LIST, "list", NULL, "only say what is in the file, and whether it is whole", NULL},
    {OPTION_SESSION, "session", "NAME", "what the session, the only one, will be called",
     parse_session},
    {OPTION_ALL_TENANTS, "all-tenants", NULL, "of all tenants, which takes an admin", NULL},
    {OPTION_TENANT, "tenant", "NAME", "whose the session is, which takes an admin", parse_tenant},
    {OPTION_NAMES, "names", NULL, "print the names only, one a line", NULL},
    {OPTION_NO_WAIT, "no-wait", NULL, "do not wait until all is coded at the level", NULL},
    {OPTION_FOR, "for", "TIME", "how long from now, such as 500ms, 2s, 10min, 3h or 2d", parse_for},
    {OPTION_OFF, "off", NULL, "end the pin", NULL},
    {OPTION_PREFIX, "prefix", "TEXT", "sessions whose name begins so", parse_prefix},
    {OPTION_IDLE, "idle", "TIME", "sessions not used for so long, such as 10min, 3h or 2d",
     parse_idle},
    {OPTION_OLDER, "older", "TIME", "sessions made so long ago", parse_older},
    {OPTION_PINNED_TOO, "pinned-too", NULL, "pinned sessions as well", NULL},
    {OPTION_DRY_RUN, "dry-run", NULL, "delete nothing, only say what would be", NULL},
    {OPTION_MEMORY, "memory", "SIZE", "the memory limit, such as 512M or 8G", parse_memory},
    {OPTION_SEED, "seed", "N", "of the values; 1 if not given", parse_seed},
    {OPTION_SECONDS, "seconds", "N", "how long to measure, 1 to 3600; 3 if not given",
     parse_seconds},
    {OPTION_CONFIG, "config", "FILE",
     "the daemon's configuration; else what its command line names, or "
     "/etc/kvquant/kvquantd.conf",
     parse_config},
    {OPTION_SOCKET, "socket", "PATH", "the daemon's socket; host:port if there is no / in it",
     parse_socket},
    {OPTION_TOKEN_FILE, "token-file", "FILE", "a file with the token that `kvq token` made",
     parse_token_file},
    {OPTION_TLS_CA, "tls-ca", "FILE",
     "talk to host:port over TLS: the CA that signed the daemon's certificate", parse_tls_ca},
    {OPTION_TLS_CERTIFICATE, "tls-certificate", "FILE",
     "by which the daemon knows whose client this is", parse_tls_certificate},
    {OPTION_TLS_KEY, "tls-key", "FILE", "the certificate's key, for its owner's eyes only",
     parse_tls_key},
    {OPTION_TLS_NAME, "tls-name", "NAME",
     "what the daemon's certificate must name; the socket's host if not given", parse_tls_name},
    {OPTION_JSON, "json", NULL, "print one JSON value instead of text", NULL},
};
