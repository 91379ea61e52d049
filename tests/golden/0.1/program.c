/* A program as one writes it for libkvq 0.1: most kinds of calls, and what it prints of their
 * results. Each result stands between guards that no call may touch. Usage: program SOCKET */
#include <kvq.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, TOKENS = 100, HEADS = 1, HEAD_DIM = 8, DIM = 4, GUARD_BYTES = 64, GUARD = 0xa5 };

typedef uint16_t values[LAYERS][TOKENS][HEADS][HEAD_DIM];

static const struct kvq_geometry geometry = {.layers = LAYERS,
                                             .heads = HEADS,
                                             .head_dim_k = HEAD_DIM,
                                             .head_dim_v = HEAD_DIM,
                                             .dtype = KVQ_F16};
static values k, v, k_back, v_back;
static uint32_t ids[TOKENS];
static struct kvq_client *client;
static struct kvq_session_state state;

static void must(int error, const char *call) {
    if (error == KVQ_OK)
        return;
    printf("%s: %s: %s\n", call, kvq_error_name(error), kvq_client_message(client));
    exit(1);
}

/* Room for a result of so many bytes. */
static void *guarded(size_t bytes) {
    unsigned char *memory = malloc(bytes + 2 * GUARD_BYTES);
    if (!memory)
        exit(1);
    memset(memory, GUARD, bytes + 2 * GUARD_BYTES);
    return memory + GUARD_BYTES;
}

static void check(const void *result, size_t bytes, const char *what) {
    const unsigned char *inside = result;
    for (size_t i = 0; i < GUARD_BYTES; i++)
        if (inside[-1 - (int)i] != GUARD || inside[bytes + i] != GUARD) {
            printf("%s: more was written than a program of 0.1 has room for\n", what);
            exit(1);
        }
}

static void open_and_append(void) {
    struct kvq_session_state *opened = guarded(sizeof *opened);
    struct kvq_policy_options policy = {
        .size = sizeof policy, .given = KVQ_POLICY_TTL, .policy = {.ttl_ms = 3600000}};
    struct kvq_open_options options = {.size = sizeof options,
                                       .session = "chat",
                                       .model = "model",
                                       .geometry = &geometry,
                                       .has_level = true,
                                       .level = KVQ_LEVEL_EXACT,
                                       .policy = &policy,
                                       .sharing = KVQ_SHARE_IDS};
    must(kvq_open(client, &options, opened), "open");
    check(opened, sizeof *opened, "struct kvq_session_state");
    state = *opened;
    struct kvq_append_options append = {.size = sizeof append,
                                        .first = KVQ_AT_END,
                                        .tokens = TOKENS,
                                        .k.block = k,
                                        .v.block = v,
                                        .token_ids = ids};
    must(kvq_append(client, &state, &append), "append");
    printf("created %d, level %d, %llu tokens\n", opened->created, state.level,
           (unsigned long long)state.tokens);
}

static void fetch(void) {
    struct kvq_fetch_result *result = guarded(sizeof *result);
    struct kvq_fetch_options options = {
        .size = sizeof options, .k.block = k_back, .v.block = v_back};
    must(kvq_fetch(client, &state, &options, result), "fetch");
    check(result, sizeof *result, "struct kvq_fetch_result");
    bool same = memcmp(k, k_back, sizeof k) == 0 && memcmp(v, v_back, sizeof v) == 0;
    printf("fetched %llu tokens, %s\n", (unsigned long long)result->tokens,
           same ? "the same" : "others");
}

static void match_and_fork(void) {
    struct kvq_match *match = guarded(sizeof *match);
    struct kvq_match_options options = {
        .size = sizeof options, .model = "model", .token_ids = ids, .tokens = TOKENS};
    must(kvq_match(client, &options, match), "match");
    check(match, sizeof *match, "struct kvq_match");
    struct kvq_fork_options fork = {.size = sizeof fork, .target = "fork", .tokens = 10};
    must(kvq_fork(client, &state, &fork, NULL), "fork");
    printf("matched %llu tokens of %s\n", (unsigned long long)match->tokens, match->session);
}

static void attach(void) {
    struct kvq_attachment *attachment = guarded(sizeof *attachment);
    struct kvq_attachment_put_options put = {
        .size = sizeof put, .name = "sampler", .bytes = "state", .byte_count = 5};
    struct kvq_attachment_options get = {.size = sizeof get, .name = "sampler"};
    must(kvq_attachment_put(client, "chat", &put, NULL), "attachment_put");
    must(kvq_attachment_get(client, "chat", &get, attachment), "attachment_get");
    check(attachment, sizeof *attachment, "struct kvq_attachment");
    printf("attached %.*s\n", (int)attachment->byte_count, (const char *)attachment->bytes);
}

static void index_and_recall(void) {
    static const float vector[DIM] = {1, 2, 3, 4};
    struct kvq_entry entry = {.first = 8, .tokens = 4, .label = "here"};
    struct kvq_index_options index = {.size = sizeof index,
                                      .dim = DIM,
                                      .dtype = KVQ_F32,
                                      .entries = &entry,
                                      .count = 1,
                                      .vectors = vector};
    struct kvq_recall_options options = {
        .size = sizeof options, .model = "model", .query = vector, .dim = DIM, .k = 1};
    struct kvq_recalled *recalled = guarded(sizeof *recalled);
    must(kvq_index(client, "chat", &index, NULL), "index");
    must(kvq_recall(client, &options, recalled), "recall");
    check(recalled, sizeof *recalled, "struct kvq_recalled");
    printf("recalled %s at %llu of %s\n", recalled->hits[0].label,
           (unsigned long long)recalled->hits[0].first, recalled->hits[0].session);
}

static void blocks(void) {
    struct kvq_blocks *blocks = guarded(sizeof *blocks);
    struct kvq_blocks_options options = {
        .size = sizeof options, .model = "model", .geometry = &geometry};
    struct kvq_key key = {"key", 3};
    struct kvq_block_put_options put = {
        .size = sizeof put, .key = key, .tokens = 16, .k.block = k, .v.block = v};
    put.k.layer_stride = put.v.layer_stride = sizeof k[0];
    struct kvq_block_control_options ask = {.size = sizeof ask, .keys = &key, .count = 1};
    uint32_t tokens = 0;
    must(kvq_blocks(client, &options, blocks), "blocks");
    check(blocks, sizeof *blocks, "struct kvq_blocks");
    must(kvq_block_put(client, blocks, &put), "block_put");
    must(kvq_block_control(client, blocks, &ask, &tokens), "block_control");
    printf("a block of %u tokens\n", tokens);
}

static void what_is_there(void) {
    struct kvq_session_info *info = guarded(sizeof *info);
    struct kvq_session_list *list = guarded(sizeof *list);
    struct kvq_stats *stats = guarded(sizeof *stats);
    must(kvq_info(client, "chat", info), "info");
    check(info, sizeof *info, "struct kvq_session_info");
    printf("%s of %s, %llu tokens, level %d, tenant %s\n", info->session, info->model,
           (unsigned long long)info->tokens, info->level, info->tenant);
    must(kvq_list(client, 0, 0, list), "list");
    check(list, sizeof *list, "struct kvq_session_list");
    for (size_t i = 0; i < list->count; i++)
        printf("%s has %llu tokens\n", list->sessions[i].session,
               (unsigned long long)list->sessions[i].tokens);
    must(kvq_stats(client, stats), "stats");
    check(stats, sizeof *stats, "struct kvq_stats");
    printf("%llu sessions, %llu tokens appended, state %d\n", (unsigned long long)stats->sessions,
           (unsigned long long)stats->appended_tokens, stats->state);
}

static void delete (void) {
    struct kvq_deleted *deleted = guarded(sizeof *deleted);
    struct kvq_delete_many_options options = {.size = sizeof options, .prefix = "f"};
    must(kvq_delete_many(client, &options, deleted), "delete_many");
    check(deleted, sizeof *deleted, "struct kvq_deleted");
    must(kvq_delete(client, "chat", NULL), "delete");
    printf("deleted %llu, then %s\n", (unsigned long long)deleted->sessions,
           kvq_error_name(kvq_find(client, "chat", &state)));
}

int main(int argc, char **argv) {
    struct kvq_connect_options options = {.size = sizeof options, .name = "a program of 0.1"};
    options.socket = argc > 1 ? argv[1] : NULL;
    for (uint32_t i = 0; i < sizeof k / sizeof(uint16_t); i++) {
        ((uint16_t *)k)[i] = (uint16_t)(0x3000 + i % 1000);
        ((uint16_t *)v)[i] = (uint16_t)(0xb000 + i % 999);
        ids[i % TOKENS] = i;
    }
    must(kvq_connect(&options, &client), "connect");
    open_and_append();
    fetch();
    match_and_fork();
    attach();
    index_and_recall();
    blocks();
    what_is_there();
    delete ();
    kvq_close(client);
    return 0;
}
