#include "daemon/store/store.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/batches.h"
#include "daemon/store/builder.h"
#include "daemon/store/handover.h"
#include "daemon/store/recovery.h"
#include "daemon/store/saving.h"

enum { FIRST_BUCKETS = 64, LEAST_FOR_SESSIONS_BYTES = 4 << 20, SMALL_SHARE = 128 };

static uint64_t hash_of(struct store_name name) {
    return XXH3_64bits_withSeed(name.text, name.bytes, tenant_hash(name.tenant));
}

static struct shard *shard_of(struct store *store, struct store_name name) {
    return &store->shards[hash_of(name) % STORE_SHARDS];
}

static struct session **bucket_of(const struct shard *shard, struct store_name name) {
    return &shard->buckets[hash_of(name) / STORE_SHARDS % shard->bucket_count];
}

static bool is_named(const struct session *session, struct store_name name) {
    return tenant_is(session->tenant, name.tenant) && session->name_bytes == name.bytes &&
           memcmp(session->name, name.text, name.bytes) == 0;
}

/* The link that points to the session of this name, or to the NULL where it would stand. */
static struct session **find_link(const struct shard *shard, struct store_name name) {
    struct session **link = bucket_of(shard, name);
    while (*link && !is_named(*link, name))
        link = &(*link)->next_in_bucket;
    return link;
}

static int shard_init(struct shard *shard) {
    pthread_mutex_init(&shard->lock, NULL);
    shard->bucket_count = FIRST_BUCKETS;
    shard->buckets = calloc(shard->bucket_count, sizeof(struct session *));
    return shard->buckets ? 0 : -1;
}

/* Twice the buckets once there is a session for each; if memory is short, the chains grow instead.
 */
static void shard_grow(struct store *store, struct shard *shard) {
    size_t count = shard->bucket_count * 2;
    uint64_t more_bytes = shard->bucket_count * sizeof(struct session *);
    if (shard->sessions < shard->bucket_count || !budget_reserve(&store->budget, more_bytes))
        return;
    struct session **old = shard->buckets, **buckets = calloc(count, sizeof(struct session *));
    if (!buckets) {
        budget_release(&store->budget, more_bytes);
        return;
    }
    atomic_fetch_add(&store->fixed_bytes, more_bytes);
    size_t old_count = shard->bucket_count;
    shard->buckets = buckets;
    shard->bucket_count = count;
    for (size_t i = 0; i < old_count; i++)
        for (struct session *session = old[i], *next; session; session = next) {
            next = session->next_in_bucket;
            struct session **bucket = bucket_of(shard, store_name_of(session));
            session->next_in_bucket = *bucket;
            *bucket = session;
        }
    free(old);
}

static int read_key(const struct store_disk_options *options, uint8_t key[DISK_KEY_BYTES]) {
    char message[256];
    if (!options->key_file || disk_key_read(options->key_file, key, message, sizeof message) == 0)
        return 0;
    log_error("%s", message);
    return -1;
}

/* The scan begins at once; those of the pool stand before the sessions that it finds. */
static int start_disk(struct store *store, const struct disk_options *options,
                      struct takeover *takeover) {
    struct disk_tier *tier = &store->disk;
    char message[256];
    pthread_mutex_lock(&tier->lock);
    tier->recovering = true;
    tier->disk = disk_open(options, message, sizeof message);
    pthread_mutex_unlock(&tier->lock);
    if (!tier->disk) {
        log_error("%s", message);
        return -1;
    }
    if (takeover)
        takeover_run(takeover);
    recovery_begin(options->context);
    return 0;
}

/* The recovery has the takeover from here on. */
static int open_disk(struct store *store, const struct store_disk_options *options,
                     struct takeover *takeover) {
    uint8_t key[DISK_KEY_BYTES];
    struct recovery *recovery = recovery_new(store, takeover);
    if (!recovery)
        takeover_free(takeover);
    if (!recovery || read_key(options, key) < 0) {
        recovery_free(recovery);
        return -1;
    }
    struct disk_options disk = {.directory = options->directory,
                                .limit_bytes = options->limit_bytes,
                                .queue_bytes = UINT64_MAX, /* what waits is in memory anyway */
                                .key = options->key_file ? key : NULL,
                                .budget = &store->budget,
                                .io = options->io,
                                .on_found = recovery_on_found,
                                .on_scanned = recovery_on_scanned,
                                .context = recovery};
    int status = start_disk(store, &disk, takeover);
    explicit_bzero(key, sizeof key);
    if (status < 0)
        recovery_free(recovery);
    return status;
}

/* Waits for what was begun. */
static void close_disk(struct disk_tier *tier) {
    tier->ending = true;
    pthread_mutex_lock(&tier->lock);
    while (tier->disk && tier->recovering)
        pthread_cond_wait(&tier->changed, &tier->lock);
    pthread_mutex_unlock(&tier->lock);
    if (tier->disk)
        disk_close(tier->disk);
    tier->disk = NULL;
}

bool store_is_recovering(struct store *store) {
    return atomic_load(&store->disk.recovering);
}

uint64_t store_empty_bytes(size_t codec_threads) {
    return codec_threads * RECODER_BYTES + STORE_SHARDS * FIRST_BUCKETS * sizeof(struct session *);
}

/* The pool that is taken over, if there is one that can be. What was within another limit is within
 * it once more before it has to be within this one. */
static struct takeover *open_pool(struct store *store, const struct store_options *options) {
    struct budget *budget = &store->budget;
    struct takeover *takeover = takeover_begin(store, options->pool_file);
    if (takeover) {
        uint64_t before = takeover->note.limit_bytes, now = options->memory_bytes;
        atomic_store(&budget->limit_bytes, before > now ? before + before / 8 : now + now / 8);
        return takeover;
    }
    store->pool = pool_new(budget);
    if (store->pool)
        handover_begin(store);
    return NULL;
}

static void put_limit(struct store *store, uint64_t bytes) {
    struct budget *budget = &store->budget;
    atomic_store(&budget->limit_bytes, bytes);
    uint64_t used = atomic_load(&budget->used_bytes);
    if (used > bytes)
        budget->reclaim(budget->reclaim_context, used - bytes);
    budget_tell_waiting(budget);
    keeper_poke(&store->keeper);
}

/* With what was there before. */
static int fill(struct store *store, const struct store_options *options,
                struct takeover *takeover) {
    int status = 0;
    if (options->disk.directory) {
        status = open_disk(store, &options->disk, takeover);
    } else if (takeover) {
        takeover_run(takeover);
        takeover_free(takeover);
    }
    put_limit(store, options->memory_bytes);
    return status;
}

int store_init(struct store *store, const struct store_options *options) {
    memset(store, 0, sizeof *store);
    budget_init(&store->budget, options->memory_bytes);
    store->budget.small_share = SMALL_SHARE;
    store->budget.on_release = options->on_progress;
    store->budget.context = options->context;
    store->landing_level = options->landing_level;
    store->batch_listener = options->batch_listener;
    disk_tier_init(&store->disk, &store->keeper, options->on_progress, options->context);
    uint64_t clock = clock_wall_us();
    list_init(&store->list, clock);
    list_init(&store->chains, clock | STORE_CHAIN_IDS);
    block_index_init(&store->blocks, &store->budget);
    prefix_init(&store->prefixes, &store->budget);
    ageing_init(&store->ageing, store);
    coldness_init(&store->coldness, COLDNESS_OF_ALL, store->coldness_ghosts);
    tenants_init(&store->tenants, &store->budget, &store->usage);
    store->version_clock = clock;
    store->pressure = (struct pressure){.store = store,
                                        .high_percent = options->memory_high_percent,
                                        .low_percent = options->memory_low_percent};
    store->usage.chunk_id_clock = clock;
    int status = 0;
    for (int i = 0; i < STORE_SHARDS; i++)
        status |= shard_init(&store->shards[i]);
    store->fixed_bytes = options->fixed_bytes + store_empty_bytes(options->codec_threads);
    if (status < 0 || !budget_reserve(&store->budget, store->fixed_bytes)) {
        log_error("the memory limit of %llu bytes is below the %llu the daemon itself needs",
                  (unsigned long long)options->memory_bytes,
                  (unsigned long long)store->fixed_bytes);
        return -1;
    }
    struct takeover *takeover = open_pool(store, options);
    if (!store->pool)
        return -1;
    struct keeper_options keeper = {.threads = options->codec_threads,
                                    .on_progress = options->on_progress,
                                    .context = options->context};
    if (keeper_start(&store->keeper, store, &keeper) < 0) {
        takeover_free(takeover);
        return -1;
    }
    return fill(store, options, takeover);
}

static void free_sessions(struct list *list) {
    struct session *session;
    while ((session = list_after(list, 0))) {
        list_remove(list, session);
        session_unref(session);
        session_unref(session); /* the store's own */
    }
}

/* Ends what changes the store by itself. */
static void stop(struct store *store) {
    keeper_stop(&store->keeper);
    atomic_store(&store->disk.keeper, NULL);
    close_disk(&store->disk);
}

int store_hand_over(struct store *store) {
    stop(store);
    return handover_write(store);
}

void store_deinit(struct store *store) {
    stop(store);
    keeper_deinit(&store->keeper);
    ageing_deinit(&store->ageing);
    free_sessions(&store->list);
    free_sessions(&store->chains);
    for (int i = 0; i < STORE_SHARDS; i++) {
        free(store->shards[i].buckets);
        pthread_mutex_destroy(&store->shards[i].lock);
    }
    prefix_deinit(&store->prefixes);
    block_index_deinit(&store->blocks);
    list_deinit(&store->list);
    list_deinit(&store->chains);
    coldness_deinit(&store->coldness);
    pool_free(store->pool);
    store->pool = NULL;
    disk_tier_deinit(&store->disk);
    tenants_deinit(&store->tenants);
}

uint64_t store_used_bytes(struct store *store) {
    return pool_used_bytes(store->pool);
}

uint64_t store_fixed_bytes(struct store *store) {
    return atomic_load(&store->fixed_bytes) + atomic_load(&store->keeper.budget.limit_bytes);
}

/* The pool has address space for so much; below the least nothing could be stored. */
struct store_limits store_limits(struct store *store) {
    return (struct store_limits){store_fixed_bytes(store) + LEAST_FOR_SESSIONS_BYTES,
                                 pool_limit_bytes_max(store->pool)};
}

int store_set_limit(struct store *store, uint64_t bytes) {
    struct store_limits limits = store_limits(store);
    uint64_t before = atomic_load(&store->budget.limit_bytes);
    if (before == bytes)
        return 0;
    if (bytes < limits.least_bytes || bytes > limits.most_bytes)
        return -1;
    log_info("the memory limit is %llu MiB, it was %llu MiB", (unsigned long long)bytes >> 20,
             (unsigned long long)before >> 20);
    put_limit(store, bytes);
    return 0;
}

uint64_t store_next_version(struct store *store) {
    return atomic_fetch_add(&store->version_clock, 1) + 1;
}

static bool belongs_to(const struct session *session, const struct store_open *request) {
    if (request->model.bytes > 0 &&
        (request->model.bytes != session->model_bytes ||
         memcmp(request->model.text, session->model, session->model_bytes) != 0))
        return false;
    return !request->geometry || geometry_equal(request->geometry, &session->geometry);
}

/* Takes the keeper's working space for them, too. */
int store_admit(struct store *store, const struct session_names *names,
                const struct geometry *geometry) {
    struct record_spec spec = {
        .tenant_bytes = names->tenant->name_bytes,
        .model_bytes = names->model_bytes,
        .session_bytes = names->session_bytes,
        .tokens = geometry_page_tokens(geometry),
        .geometry = geometry,
    };
    uint64_t raw_bytes = (uint64_t)spec.tokens * geometry_token_bytes(geometry);
    uint64_t bound_bytes = builder_bound_bytes(&spec);
    if (raw_bytes > atomic_load(&store->budget.limit_bytes) / STORE_RAW_CHUNK_SHARE ||
        bound_bytes > UINT32_MAX)
        return STORE_UNSUPPORTED;
    return keeper_provide(&store->keeper, pool_round(bound_bytes) + CHUNK_HANDLE_BYTES);
}

static struct list *list_of(struct store *store, const struct session *session) {
    return session_is_chain(session) ? &store->chains : &store->list;
}

static struct list *tenant_list_of(const struct session *session) {
    struct tenant *tenant = session->tenant;
    return session_is_chain(session) ? &tenant->chains : &tenant->sessions;
}

/* Under a name that is free, with the shard locked. */
static void insert_locked(struct store *store, struct shard *shard, struct session *session) {
    struct store_name name = store_name_of(session);
    session->lock = &shard->lock;
    if (session->version == 0) /* else it comes from disk */
        session->version = store_next_version(store);
    shard_grow(store, shard);
    struct session **bucket = bucket_of(shard, name);
    session->next_in_bucket = *bucket;
    *bucket = session;
    shard->sessions++;
    list_append(list_of(store, session), session);
    list_append(tenant_list_of(session), session);
    prefix_enter(session);
    ageing_schedule(&store->ageing, session);
    coldness_insert(&store->coldness, session);
    coldness_insert(&session->tenant->coldness, session);
    models_enter(session);
    batches_enter(store, session);
    session_count(session, 1);
    usage_add(session->usage, &session->usage->sessions_created, !session_is_chain(session));
}

static int admit_name(struct store *store, const struct session *session) {
    struct session_names names = {
        .tenant = session->tenant, .session = session->name, .session_bytes = session->name_bytes};
    return disk_tier_admit(&store->disk, &names);
}

/* One that comes from disk or from a daemon before is charged already. */
static bool charge_session(struct session *session) {
    return session_is_chain(session) || session->charge.quota ||
           charge_take(&session->charge, &session->tenant->session_count, 1);
}

int store_insert(struct store *store, struct session *session, struct session_state *state) {
    struct store_name name = store_name_of(session);
    struct shard *shard = shard_of(store, name);
    pthread_mutex_lock(&shard->lock);
    int status = *find_link(shard, name) ? STORE_EXISTS
                 : session->saved.any    ? STORE_OK
                                         : admit_name(store, session);
    if (status == STORE_OK && !charge_session(session))
        status = STORE_TOO_MANY;
    if (status == STORE_OK) {
        insert_locked(store, shard, session);
        if (state)
            session_read_state(session, state);
    }
    pthread_mutex_unlock(&shard->lock);
    return status;
}

static int create(struct store *store, struct shard *shard, const struct store_open *request,
                  struct session_state *state) {
    struct tenant *tenant = request->session.tenant;
    struct session_names names = {.tenant = tenant ? tenant : &store->tenants.standard,
                                  .session = request->session.text,
                                  .session_bytes = request->session.bytes,
                                  .model = request->model.text,
                                  .model_bytes = request->model.bytes};
    int status = store_admit(store, &names, request->geometry);
    if (status == STORE_OK)
        status = disk_tier_admit(&store->disk, &names);
    if (status != STORE_OK)
        return status;
    bool is_chain = request->session.text[0] == SESSION_CHAIN_MARK;
    struct charge charge = {0};
    if (!charge_take(&charge, is_chain ? NULL : &names.tenant->session_count, 1))
        return STORE_TOO_MANY;
    struct session *session = session_new(&names.tenant->memory, &names.tenant->usage, &names,
                                          request->geometry, &request->policy);
    if (!session) {
        charge_release(&charge);
        return STORE_FULL;
    }
    session->charge = charge;
    session->sharing = request->sharing;
    session->key_summaries = request->key_summaries;
    if (request->durability)
        session->durability = *request->durability;
    session->first_position = request->first_position;
    insert_locked(store, shard, session);
    session_read_state(session, state);
    state->created = true;
    return STORE_OK;
}

static int open_locked(struct store *store, struct shard *shard, const struct store_open *request,
                       struct session_state *state) {
    struct session *session = *find_link(shard, request->session);
    if (!session)
        return request->mode == STORE_OPEN_EXISTING ? STORE_MISS
                                                    : create(store, shard, request, state);
    if (request->mode == STORE_OPEN_NEW)
        return STORE_EXISTS;
    if (!belongs_to(session, request))
        return STORE_MODEL_MISMATCH;
    session_use(session, true);
    if (request->durability && session->durability != *request->durability) {
        session->durability = *request->durability;
        session->changes++;
    }
    session_read_state(session, state);
    return STORE_OK;
}

int store_open(struct store *store, const struct store_open *request, struct session_state *state) {
    struct shard *shard = shard_of(store, request->session);
    if (request->durability && *request->durability == SESSION_ON_DISK &&
        !disk_tier_is_on(&store->disk))
        return STORE_DISK;
    pthread_mutex_lock(&shard->lock);
    int status = open_locked(store, shard, request, state);
    pthread_mutex_unlock(&shard->lock);
    return status;
}

struct session *store_find(struct store *store, struct store_name name) {
    struct shard *shard = shard_of(store, name);
    pthread_mutex_lock(&shard->lock);
    struct session *session = *find_link(shard, name);
    if (session)
        session_ref(session);
    pthread_mutex_unlock(&shard->lock);
    return session;
}

/* Takes the session that the link points to out, with the shard locked. STORE_OK or STORE_FULL. */
static int remove_locked(struct store *store, struct shard *shard, struct session **link,
                         bool evicted, struct session_discard **discard) {
    struct session *session = *link;
    struct disk_promise *promise;
    int status = saving_delete(&store->disk, session, &promise);
    if (status != STORE_OK)
        return status;
    *link = session->next_in_bucket;
    shard->sessions--;
    list_remove(tenant_list_of(session), session);
    list_remove(list_of(store, session), session);
    ageing_forget(&store->ageing, session);
    coldness_remove(&store->coldness, session, evicted);
    coldness_remove(&session->tenant->coldness, session, evicted);
    models_leave(session);
    batches_leave(store, session);
    session_count(session, -1);
    charge_release(&session->charge);
    usage_add(session->usage, &session->usage->sessions_deleted, !session_is_chain(session));
    *discard = session_detach(session);
    (*discard)->deleted_on_disk = promise;
    return STORE_OK;
}

/* The new one has the larger id, and its values go to disk behind the other's delete. */
int store_replace(struct store *store, struct session *session, struct session_state *state,
                  struct session_discard **replaced) {
    struct store_name name = store_name_of(session);
    struct shard *shard = shard_of(store, name);
    pthread_mutex_lock(&shard->lock);
    struct session **link = find_link(shard, name), *before = *link;
    *replaced = NULL;
    int status =
        before ? remove_locked(store, shard, link, false, replaced) : admit_name(store, session);
    if (status == STORE_OK && before)
        charge_anyway(&session->charge, &session->tenant->session_count, 1); /* the other's */
    if (status == STORE_OK && !charge_session(session))
        status = STORE_TOO_MANY;
    if (status == STORE_OK) {
        insert_locked(store, shard, session);
        session_read_state(session, state);
    }
    pthread_mutex_unlock(&shard->lock);
    if (status == STORE_OK && before)
        session_unref(before); /* the store's own */
    return status;
}

int store_delete(struct store *store, struct store_name name, struct session_discard **discard) {
    struct session *session = store_find(store, name);
    if (!session)
        return STORE_MISS;
    int status = store_delete_session(store, session, NULL, discard);
    session_unref(session);
    return status;
}

bool store_filter_passes(const struct session_filter *filter, const struct session *session) {
    struct store_name prefix = filter->prefix, model = filter->model;
    uint64_t now = clock_now_ns();
    if (prefix.bytes > 0 && (prefix.bytes > session->name_bytes ||
                             memcmp(prefix.text, session->name, prefix.bytes) != 0))
        return false;
    if (model.bytes > 0 && (model.bytes != session->model_bytes ||
                            memcmp(model.text, session->model, model.bytes) != 0))
        return false;
    return (now - session->used_ns) / CLOCK_NS_PER_MS >= filter->idle_ms &&
           (now - session->created_ns) / CLOCK_NS_PER_MS >= filter->age_ms &&
           (filter->pinned_too || session->pinned_until_ns <= now);
}

int store_delete_session(struct store *store, struct session *session,
                         const struct session_filter *filter, struct session_discard **discard) {
    struct store_name name = store_name_of(session);
    struct shard *shard = shard_of(store, name);
    pthread_mutex_lock(&shard->lock);
    struct session **link = find_link(shard, name);
    bool there = *link == session && (!filter || store_filter_passes(filter, session));
    int status = there ? remove_locked(store, shard, link, false, discard) : STORE_MISS;
    pthread_mutex_unlock(&shard->lock);
    if (status == STORE_OK)
        session_unref(session); /* the store's own */
    return status;
}

int store_evict_session(struct store *store, struct session *session, uint64_t version,
                        struct session_discard **discard) {
    struct store_name name = store_name_of(session);
    struct shard *shard = shard_of(store, name);
    pthread_mutex_lock(&shard->lock);
    struct session **link = find_link(shard, name);
    bool may_go = *link == session && session->version == version && !session->appending &&
                  session->indexing == 0 && session->pinned_until_ns <= clock_now_ns();
    int status = may_go ? remove_locked(store, shard, link, true, discard) : STORE_MISS;
    pthread_mutex_unlock(&shard->lock);
    if (status == STORE_OK)
        session_unref(session); /* the store's own */
    return status;
}
