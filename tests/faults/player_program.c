/* Programs of the model check: what is played, in what world, and what must be left at the end. */
#include <stdlib.h>
#include <time.h>

#include "daemon/store/disk/state.h"
#include "daemon/store/info.h"
#include "tests/faults/player.h"
#include "tests/faults/player_state.h"

enum { ROOM_BYTES = 2 * PAGE_VALUES_MAX * 4 + 4096, CACHE_BYTES = 1 << 20 };
enum { REST_NS = 2000000 };

static void play_squeeze(struct player *player, const struct step *step) {
    struct budget *budget = &player->store.budget;
    uint64_t leave = step->random[1] % 65536;
    player_unsqueeze(player);
    uint64_t free_bytes = player->world->memory_bytes - store_used_bytes(&player->store);
    if (step->random[0] % 2 == 0 && free_bytes > leave &&
        budget_reserve(budget, free_bytes - leave))
        player->squeezed_bytes = free_bytes - leave;
    player->was_squeezed |= player->squeezed_bytes > 0;
    player_say(player, "squeeze by %llu bytes\n", (unsigned long long)player->squeezed_bytes);
}

static void play_await_keeper(struct player *player, const struct step *step) {
    (void)step;
    player_say(player, "await the keeper\n");
    player_await_keeper(player);
}

static void play_rest(struct player *player, const struct step *step) {
    (void)step;
    player_say(player, "rest\n");
    nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
}

static void (*const plays[STEP_KINDS])(struct player *player, const struct step *step) = {
    [STEP_OPEN] = player_open,
    [STEP_APPEND] = player_append,
    [STEP_APPEND_BEGIN] = player_append_begin,
    [STEP_APPEND_PUT] = player_append_put,
    [STEP_APPEND_COMMIT] = player_append_commit,
    [STEP_APPEND_DROP] = player_append_drop,
    [STEP_FETCH] = player_fetch,
    [STEP_FETCH_BEGIN] = player_fetch_begin,
    [STEP_FETCH_NEXT] = player_fetch_next,
    [STEP_FORK] = player_fork,
    [STEP_TRUNCATE] = player_truncate,
    [STEP_AGE] = player_age,
    [STEP_PIN] = player_pin,
    [STEP_INFO] = player_info,
    [STEP_DELETE] = player_delete,
    [STEP_DELETE_MANY] = player_delete_many,
    [STEP_AWAIT_KEEPER] = play_await_keeper,
    [STEP_EVICT] = player_evict,
    [STEP_MATCH] = player_match,
    [STEP_ATTACH] = player_attach,
    [STEP_GET_ATTACHMENT] = player_get_attachment,
    [STEP_DETACH] = player_detach,
    [STEP_INDEX] = player_index,
    [STEP_UNINDEX] = player_unindex,
    [STEP_RECALL] = player_recall,
    [STEP_RECALL_KEYS] = player_recall_keys,
    [STEP_SQUEEZE] = play_squeeze,
    [STEP_REST] = play_rest,
    [STEP_BLOCK_PUT] = player_block_put,
    [STEP_BLOCK_GET] = player_block_get,
    [STEP_BLOCK_ACT] = player_block_act,
    [STEP_BLOCK_EVICT] = player_block_evict,
    [STEP_FLUSH] = player_flush,
    [STEP_SPILL] = player_spill,
    [STEP_RESTART] = player_restart,
    [STEP_CRASH] = player_crash,
};

static void play_step(struct player *player, const struct step *step) {
    plays[step->kind](player, step);
    player_heed_crash(player);
    player_expect(player, store_used_bytes(&player->store) <= player->world->memory_bytes,
                  "%llu bytes in use", (unsigned long long)store_used_bytes(&player->store));
}

static void set_up(struct player *player) {
    const struct world *world = player->world;
    player_make_directory(player);
    player_start(player);
    reference_init(&player->reference);
    player->reference.tails_at_fast8 = world->idle_tails && world->tail_level == PAGE_FAST8;
    player->workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES);
    player->room = malloc(ROOM_BYTES);
    player->cache = (struct page_cache){.memory = malloc(CACHE_BYTES), .bytes = CACHE_BYTES};
    player_say(
        player,
        "memory %llu MiB, landing level %d, codec threads %zu, tails of idle sessions %s %d, disk: "
        "%s%s\n",
        (unsigned long long)world->memory_bytes >> 20, world->landing_level, world->codec_threads,
        world->idle_tails ? "at" : "raw, not at", world->tail_level,
        !world->disk       ? "none"
        : world->encrypted ? "encrypted"
                           : "plain",
        world->key_summaries ? ", key summaries" : "");
}

static void tear_down(struct player *player) {
    player_end_store(player);
    player_forget_disk(player);
    reference_deinit(&player->reference);
    free(player->workspace);
    free(player->room);
    free(player->cache.memory);
}

/* What the blocks' index and the disk, with the directory of what is on it, hold for good. */
static uint64_t lasting_bytes(struct player *player) {
    struct store *store = &player->store;
    uint64_t bytes = store_fixed_bytes(store) + atomic_load(&store->blocks.bytes);
    struct disk *disk = store->disk.disk;
    if (!disk)
        return bytes;
    pthread_mutex_lock(&disk->lock);
    bytes += sizeof *disk + (uint64_t)(disk->reader_count + 3) * HEAD_BYTES_MAX +
             disk->index.capacity * sizeof *disk->index.entries + disk->appender.buffer_bytes;
    pthread_mutex_unlock(&disk->lock);
    return bytes;
}

/* Of memory, of the disk and of sessions: each charge was released with what it was taken for. */
static void expect_nothing_charged(struct player *player) {
    struct tenants *tenants = &player->store.tenants;
    for (struct tenant *tenant = NULL; (tenant = tenants_next(tenants, tenant));)
        for (enum tenant_resource i = TENANT_MEMORY; i < TENANT_RESOURCES; i++)
            player_expect(player, tenant_use(tenant, i).used == 0,
                          "%llu of resource %d charged to a tenant of nothing",
                          (unsigned long long)tenant_use(tenant, i).used, (int)i);
}

/* What the store holds once the sessions are gone, and what was being dropped. */
static void expect_empty(struct player *player) {
    struct store_totals totals;
    for (int i = 0; i < 100000 && store_used_bytes(&player->store) != lasting_bytes(player); i++)
        player_pause();
    info_totals(&player->store, &totals);
    uint64_t fixed_bytes = lasting_bytes(player), index_bytes = player->store.blocks.bytes;
    player_expect(player, store_used_bytes(&player->store) == fixed_bytes,
                  "%llu bytes in use of an empty store, %llu of them fixed",
                  (unsigned long long)store_used_bytes(&player->store),
                  (unsigned long long)fixed_bytes);
    player_expect(player,
                  totals.sessions == 0 && totals.tokens == 0 && totals.logical_bytes == 0 &&
                      totals.stored_bytes == index_bytes && totals.unique_bytes == index_bytes,
                  "totals of an empty store: %llu sessions, %llu tokens, %llu bytes",
                  (unsigned long long)totals.sessions, (unsigned long long)totals.tokens,
                  (unsigned long long)totals.stored_bytes);
    expect_nothing_charged(player);
}

static void end(struct player *player) {
    struct ageing_stats ageing;
    ageing_read_stats(&player->store.ageing, &ageing);
    player_say(player, "%llu tails were coded, %llu decoded again, %llu chunks aged by time\n",
               (unsigned long long)ageing.coded_tails, (unsigned long long)ageing.decoded_tails,
               (unsigned long long)ageing.chunks);
    player_unsqueeze(player);
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++) {
        player_check_info(player, slot);
        player_check_all_of(player, slot);
        player_check_attachments(player, slot);
        player_check_entries(player, slot);
    }
    player_drop_keys(player);
    for (uint32_t i = 0; i < PLAYER_UNDER_WAY; i++)
        player_append_drop(player, &(struct step){.random = {i}});
    for (int slot = 0; slot < REFERENCE_SESSIONS; slot++)
        player_delete(player, &(struct step){.random = {(uint32_t)slot}});
    player_delete_blocks(player);
    expect_empty(player);
}

void play(const struct world *world, const struct step *steps, size_t count, bool verbose) {
    struct player *player = calloc(1, sizeof *player);
    player->world = world;
    player->verbose = verbose;
    set_up(player);
    for (player->step = 0; player->step < count; player->step++)
        play_step(player, &steps[player->step]);
    end(player);
    tear_down(player);
    free(player);
}
