/* Blocks of a chain in a store: block "0", "1" and so on have the values of its tokens. */
#ifndef TESTS_UNIT_TEST_STORE_BLOCK_SUPPORT_H
#define TESTS_UNIT_TEST_STORE_BLOCK_SUPPORT_H

#include "daemon/store/block_get.h"
#include "daemon/store/block_put.h"
#include "daemon/store/evict.h"
#include "tests/unit/test_store_support.h"

enum { BLOCK = 64 };

static inline struct block_key key_of(const char *text) {
    return (struct block_key){.tenant = store_tenant,
                              .model = "model",
                              .model_bytes = strlen("model"),
                              .text = text,
                              .text_bytes = strlen(text),
                              .geometry = &geometry};
}

static inline struct block_put_request put_request(const char *key, const char *parent,
                                                   uint32_t tokens) {
    return (struct block_put_request){.key = key_of(key),
                                      .parent = parent,
                                      .parent_bytes = strlen(parent),
                                      .tokens = tokens,
                                      .policy = {.level = PAGE_EXACT, .floor = PAGE_EXACT},
                                      .runs_max = 64};
}

static inline int begin_put(const char *key, const char *parent, uint32_t tokens,
                            struct block_put **put) {
    struct block_put_request request = put_request(key, parent, tokens);
    return block_put_begin(&store, &request, put);
}

static inline void send_page(struct block_put *put, uint32_t at, uint64_t first, uint32_t tokens) {
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (enum page_part part = PAGE_K; part <= PAGE_V; part++) {
            struct append_part piece = {.first = at,
                                        .tokens = tokens,
                                        .layer = layer,
                                        .part = part,
                                        .values = values + first * ROW_VALUES,
                                        .bytes = tokens * ROW_VALUES * sizeof(float)};
            ck_assert_int_eq(block_put_part(put, &piece, workspace), STORE_OK);
        }
}

/* All parts, which have the values of so many tokens from `first` on, page by page. */
static inline void send(struct block_put *put, uint64_t first, uint32_t tokens) {
    for (uint32_t at = 0; at < tokens; at += PAGE)
        send_page(put, at, first + at, tokens - at < PAGE ? tokens - at : PAGE);
}

static inline void put_block(const char *key, const char *parent, uint64_t first, uint32_t tokens) {
    struct block_put *put;
    ck_assert_int_eq(begin_put(key, parent, tokens, &put), STORE_OK);
    send(put, first, tokens);
    ck_assert_int_eq(block_put_commit(put, workspace), STORE_OK);
    block_put_end(put);
}

/* Blocks "0", "1", ... behind each other. */
static inline void put_chain(int count) {
    char key[] = "0", parent[] = "0";
    for (int i = 0; i < count; i++) {
        key[0] = (char)('0' + i);
        put_block(key, i > 0 ? parent : "", (uint64_t)i * BLOCK, BLOCK);
        parent[0] = key[0];
    }
}

/* The session that has the block; a reference. */
static inline struct session *chain_of(const char *key) {
    struct block_key wanted = key_of(key);
    struct block_place place;
    ck_assert_int_eq(block_find(&store.blocks, &wanted, &place), STORE_OK);
    return place.session;
}

static inline void evict(const char *key, uint64_t want_bytes) {
    struct session *session = chain_of(key);
    struct evict_request request = {.want_bytes = want_bytes};
    struct evict_result result;
    ck_assert_int_eq(evict_session(&store, session, &request, &result), STORE_OK);
    session_unref(session);
}

static inline uint32_t exists(const char *key) {
    struct block_key wanted = key_of(key);
    return block_exists(&store, &wanted, false, 0);
}

static inline uint32_t delete (const char *key) {
    struct block_key wanted = key_of(key);
    struct block_deletion deletion;
    block_delete(&store, &wanted, &deletion);
    if (deletion.chain)
        session_unref(deletion.chain);
    if (deletion.promise)
        disk_promise_release(deletion.promise);
    return deletion.tokens;
}

static inline void check_values(const struct fetch_piece *pieces, size_t count, uint64_t first) {
    const float *at = got;
    for (size_t i = 0; i < count; i++) {
        ck_assert_mem_eq(at, values + (first + pieces[i].first) * ROW_VALUES, pieces[i].bytes);
        at += pieces[i].bytes / sizeof *at;
    }
}

static inline void wait_for_disk(int status) {
    ck_assert_int_eq(status, STORE_WAIT);
    wait_step();
}

/* Whether the block is a hit; it then has the values of tokens from `first` on. */
static inline bool gives(const char *key, uint64_t first, uint32_t tokens) {
    struct store_name wanted = name_of(key);
    struct block_get_request request = {.model = name_of("model"),
                                        .geometry = &geometry,
                                        .keys = &wanted,
                                        .key_count = 1,
                                        .tokens = tokens};
    struct block_get *get;
    struct fetch_piece pieces[GEOMETRY_PARTS];
    size_t count;
    ck_assert_int_eq(block_get_begin(&store, &request, &get), STORE_OK);
    int status;
    while ((status = block_get_next(get, &got_room, workspace, pieces, &count)) != STORE_OK)
        if (status == STORE_MORE)
            check_values(pieces, count, first);
        else
            wait_for_disk(status);
    bool hit = get->keys[0].is_hit;
    block_get_end(get);
    return hit;
}

#endif
