/* Stores a small cache and has it back. Usage: append_and_fetch [SOCKET] */
#include "client/c/kvq.h"

#include <stdio.h>
#include <string.h>

enum { LAYERS = 2, TOKENS = 300, HEADS = 2, HEAD_DIM = 64 };

static uint16_t k[LAYERS][TOKENS][HEADS][HEAD_DIM], v[LAYERS][TOKENS][HEADS][HEAD_DIM];
static uint16_t k_back[LAYERS][TOKENS][HEADS][HEAD_DIM], v_back[LAYERS][TOKENS][HEADS][HEAD_DIM];

static int store_and_fetch(struct kvq_client *client) {
    struct kvq_geometry geometry = {
        .layers = LAYERS,
        .heads = HEADS,
        .head_dim_k = HEAD_DIM,
        .head_dim_v = HEAD_DIM,
        .dtype = KVQ_F16,
    };
    struct kvq_open_options open = {
        .size = sizeof open,
        .session = "example",
        .model = "example-model",
        .geometry = &geometry,
        .has_level = true,
        .level = KVQ_LEVEL_EXACT,
    };
    struct kvq_session_state state;
    struct kvq_append_options append = {
        .size = sizeof append, .first = KVQ_AT_END, .tokens = TOKENS, .k.block = k, .v.block = v};
    struct kvq_fetch_options fetch = {.size = sizeof fetch, .k.block = k_back, .v.block = v_back};
    int error = kvq_open(client, &open, &state);
    if (!error)
        error = kvq_append(client, &state, &append);
    if (!error)
        error = kvq_fetch(client, &state, &fetch, NULL);
    return error ? error : kvq_delete(client, "example", NULL);
}

int main(int argc, char **argv) {
    for (size_t i = 0; i < sizeof k / sizeof(uint16_t); i++) {
        ((uint16_t *)k)[i] = (uint16_t)(0x3000 + i % 1000);
        ((uint16_t *)v)[i] = (uint16_t)(0xb000 + i % 999);
    }
    struct kvq_client *client;
    struct kvq_connect_options options = {.size = sizeof options,
                                          .socket = argc > 1 ? argv[1] : NULL};
    int error = kvq_connect(&options, &client);
    if (!error)
        error = store_and_fetch(client);
    if (error)
        fprintf(stderr, "%s: %s\n", kvq_error_name(error),
                client ? kvq_client_message(client) : "");
    kvq_close(client);
    bool same = memcmp(k, k_back, sizeof k) == 0 && memcmp(v, v_back, sizeof v) == 0;
    printf("%s\n", same ? "the same, bit for bit" : "not the same");
    return error || !same;
}
