#include "daemon/store/store.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/store/builder.h"

enum { FIRST_BUCKETS = 64 };

static struct shard *shard_of(struct store *store, struct store_name name) {
    return &store->shards[XXH3_64bits(name.text, name.bytes) % STORE_SHARDS];
}

static struct session **bucket_of(const struct shard *shard, struct store_name name) {
    return &shard->buckets[XXH3_64bits(name.text, name.bytes) / STORE_SHARDS % shard->bucket_count];
}

/* The link that points to the session of this name, or to the NULL where it would stand. */
static struct session **find_link(const struct shard *shard, struct store_name name) {
    struct session **link = bucket_of(shard, name);
    while (*link &&
           ((*link)->name_bytes != name.bytes || memcmp((*link)->name, name.text, name.bytes) != 0))
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
static void shard_grow(struct shard *shard, struct budget *budget) {
    size_t count = shard->bucket_count * 2;
    if (shard->sessions < shard->bucket_count ||
        !budget_reserve(budget, shard->bucket_count * sizeof(struct session *)))
        return;
    struct session **old = shard->buckets, **buckets = calloc(count, sizeof(struct session *));
    if (!buckets) {
        budget_release(budget, shard->bucket_count * sizeof(struct session *));
        return;
    }
    size_t old_count = shard->bucket_count;
    shard->buckets = buckets;
    shard->bucket_count = count;
    for (size_t i = 0; i < old_count; i++)
        for (struct session *session = old[i], *next; session; session = next) {
            next = session->next_in_bucket;
            struct session **bucket =
                bucket_of(shard, (struct store_name){session->name, session->name_bytes});
            session->next_in_bucket = *bucket;
            *bucket = session;
        }
    free(old);
}

int store_init(struct store *store, const struct store_options *options) {
    memset(store, 0, sizeof *store);
    budget_init(&store->budget, options->memory_bytes);
    store->budget.on_release = options->on_progress;
    store->budget.context = options->context;
    store->landing_level = options->landing_level;
    pthread_mutex_init(&store->list_lock, NULL);
    store->id_clock = clock_wall_us();
    store->version_clock = store->id_clock;
    int status = 0;
    for (int i = 0; i < STORE_SHARDS; i++)
        status |= shard_init(&store->shards[i]);
    uint64_t fixed_bytes = options->fixed_bytes + KEEPER_FIXED_BYTES +
                           STORE_SHARDS * FIRST_BUCKETS * sizeof(struct session *);
    if (status < 0 || !budget_reserve(&store->budget, fixed_bytes)) {
        log_error("the memory limit of %llu bytes is below the %llu the daemon itself needs",
                  (unsigned long long)options->memory_bytes, (unsigned long long)fixed_bytes);
        return -1;
    }
    store->pool = pool_new(&store->budget);
    if (!store->pool)
        return -1;
    return keeper_start(&store->keeper, store, options->on_progress, options->context);
}

void store_deinit(struct store *store) {
    keeper_stop(&store->keeper);
    for (struct session *session = store->first_by_id, *next; session; session = next) {
        next = session->next_by_id;
        session_unref(session);
    }
    for (int i = 0; i < STORE_SHARDS; i++) {
        free(store->shards[i].buckets);
        pthread_mutex_destroy(&store->shards[i].lock);
    }
    pthread_mutex_destroy(&store->list_lock);
    pool_free(store->pool);
    store->pool = NULL;
}

uint64_t store_used_bytes(struct store *store) {
    uint64_t warm = pool_warm_bytes(store->pool), used = atomic_load(&store->budget.used_bytes);
    return used > warm ? used - warm : 0;
}

uint64_t store_next_version(struct store *store) {
    return atomic_fetch_add(&store->version_clock, 1) + 1;
}

static void list_append(struct store *store, struct session *session) {
    pthread_mutex_lock(&store->list_lock);
    session->id = ++store->id_clock;
    session->previous_by_id = store->last_by_id;
    if (store->last_by_id)
        store->last_by_id->next_by_id = session;
    else
        store->first_by_id = session;
    store->last_by_id = session;
    session->listed = true;
    pthread_mutex_unlock(&store->list_lock);
}

static void list_remove(struct store *store, struct session *session) {
    pthread_mutex_lock(&store->list_lock);
    struct session *next = session->next_by_id, *previous = session->previous_by_id;
    session->listed = false;
    *(previous ? &previous->next_by_id : &store->first_by_id) = next;
    *(next ? &next->previous_by_id : &store->last_by_id) = previous;
    pthread_mutex_unlock(&store->list_lock);
}

struct session *store_after(struct store *store, uint64_t after_id) {
    pthread_mutex_lock(&store->list_lock);
    struct session *session = store->first_by_id;
    while (session && session->id <= after_id)
        session = session->next_by_id;
    if (session)
        session_ref(session);
    pthread_mutex_unlock(&store->list_lock);
    return session;
}

struct session *store_next(struct store *store, struct session *session) {
    uint64_t id = session->id;
    pthread_mutex_lock(&store->list_lock);
    bool listed = session->listed;
    struct session *next = listed ? session->next_by_id : NULL;
    if (next)
        session_ref(next);
    pthread_mutex_unlock(&store->list_lock);
    session_unref(session);
    return listed ? next : store_after(store, id);
}

static bool belongs_to(const struct session *session, const struct store_open *request) {
    if (request->model.bytes > 0 &&
        (request->model.bytes != session->model_bytes ||
         memcmp(request->model.text, session->model, session->model_bytes) != 0))
        return false;
    return !request->geometry || geometry_equal(request->geometry, &session->geometry);
}

/* Whether sessions of this geometry fit the limit, with the keeper's working space taken for them.
 */
static int admit(struct store *store, const struct store_open *request) {
    const struct geometry *geometry = request->geometry;
    struct record_spec spec = {
        .tenant_bytes = strlen(STORE_TENANT),
        .model_bytes = request->model.bytes,
        .session_bytes = request->session.bytes,
        .tokens = geometry_page_tokens(geometry),
        .geometry = geometry,
    };
    uint64_t raw_bytes = (uint64_t)spec.tokens * geometry_token_bytes(geometry);
    uint64_t bound_bytes = builder_bound_bytes(&spec);
    if (raw_bytes > atomic_load(&store->budget.limit_bytes) / STORE_RAW_CHUNK_SHARE ||
        bound_bytes > UINT32_MAX)
        return STORE_UNSUPPORTED;
    return keeper_provide(&store->keeper, pool_round(bound_bytes));
}

static int create(struct store *store, struct shard *shard, const struct store_open *request,
                  struct session_state *state) {
    int status = admit(store, request);
    if (status != STORE_OK)
        return status;
    struct session *session =
        session_new(&store->budget, request->session.text, request->session.bytes,
                    request->model.text, request->model.bytes, request->geometry);
    if (!session)
        return STORE_FULL;
    session->level = request->level;
    session->lock = &shard->lock;
    session->version = store_next_version(store);
    shard_grow(shard, &store->budget);
    struct session **bucket = bucket_of(shard, request->session);
    session->next_in_bucket = *bucket;
    *bucket = session;
    shard->sessions++;
    list_append(store, session);
    session_read_state(session, state);
    state->created = true;
    return STORE_OK;
}

static int open_locked(struct store *store, struct shard *shard, const struct store_open *request,
                       struct session_state *state) {
    const struct session *session = *find_link(shard, request->session);
    if (!session)
        return request->mode == STORE_OPEN_EXISTING ? STORE_MISS
                                                    : create(store, shard, request, state);
    if (request->mode == STORE_OPEN_NEW)
        return STORE_EXISTS;
    if (!belongs_to(session, request))
        return STORE_MODEL_MISMATCH;
    session_read_state(session, state);
    return STORE_OK;
}

int store_open(struct store *store, const struct store_open *request, struct session_state *state) {
    struct shard *shard = shard_of(store, request->session);
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

int store_delete(struct store *store, struct store_name name) {
    struct shard *shard = shard_of(store, name);
    pthread_mutex_lock(&shard->lock);
    struct session **link = find_link(shard, name), *session = *link;
    struct session_contents contents;
    if (session) {
        *link = session->next_in_bucket;
        shard->sessions--;
        session->deleted = true;
        list_remove(store, session);
        contents = session_detach(session);
    }
    pthread_mutex_unlock(&shard->lock);
    if (!session)
        return STORE_MISS;
    session_drop(&store->budget, &contents);
    session_unref(session);
    return STORE_OK;
}
