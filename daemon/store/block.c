#include "daemon/store/block.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/base/clock.h"
#include "daemon/store/fork.h"
#include "daemon/store/store.h"

enum { FIRST_BUCKETS = 64 };

struct block {
    struct block *next_in_bucket;
    struct block *older, *newer; /* in its chain, in the order of their tokens */
    struct block_index *index;
    struct session *session; /* which outlives it */
    uint64_t hash, first;
    uint32_t tokens;
    bool is_there; /* else it is being put */
    uint8_t key_bytes;
    char key[];
};

void block_index_init(struct block_index *index, struct budget *budget) {
    *index = (struct block_index){.budget = budget};
    for (int i = 0; i < BLOCK_STRIPES; i++)
        pthread_mutex_init(&index->stripes[i].lock, NULL);
}

void block_index_deinit(struct block_index *index) {
    for (int i = 0; i < BLOCK_STRIPES; i++) {
        free(index->stripes[i].buckets);
        pthread_mutex_destroy(&index->stripes[i].lock);
    }
}

/* --- stripes: with their lock held --- */

static uint64_t hash_of(const struct block_key *key) {
    uint64_t model = XXH3_64bits_withSeed(key->model, key->model_bytes, tenant_hash(key->tenant));
    return XXH3_64bits_withSeed(key->text, key->text_bytes, model);
}

static struct block_stripe *stripe_of(struct block_index *index, uint64_t hash) {
    return &index->stripes[hash % BLOCK_STRIPES];
}

static struct block **bucket_of(const struct block_stripe *stripe, uint64_t hash) {
    return &stripe->buckets[hash / BLOCK_STRIPES % stripe->bucket_count];
}

static bool is_of(const struct block *block, uint64_t hash, const struct block_key *key) {
    const struct session *session = block->session;
    return block->hash == hash && block->key_bytes == key->text_bytes &&
           memcmp(block->key, key->text, key->text_bytes) == 0 &&
           tenant_is(session->tenant, key->tenant) && session->model_bytes == key->model_bytes &&
           memcmp(session->model, key->model, key->model_bytes) == 0 &&
           geometry_equal(&session->geometry, key->geometry);
}

static struct block *find(const struct block_stripe *stripe, uint64_t hash,
                          const struct block_key *key) {
    struct block *block = stripe->bucket_count > 0 ? *bucket_of(stripe, hash) : NULL;
    while (block && !is_of(block, hash, key))
        block = block->next_in_bucket;
    return block;
}

/* Twice the buckets once there is a block for each; if memory is short, the chains grow instead.
 * False if there are none at all. */
static bool grow(struct block_index *index, struct block_stripe *stripe) {
    size_t old_count = stripe->bucket_count, count = old_count ? old_count * 2 : FIRST_BUCKETS;
    uint64_t more_bytes = (count - old_count) * sizeof(struct block *);
    if (stripe->blocks < old_count || !budget_reserve(index->budget, more_bytes))
        return old_count > 0;
    struct block **old = stripe->buckets, **buckets = calloc(count, sizeof(struct block *));
    if (!buckets) {
        budget_release(index->budget, more_bytes);
        return old_count > 0;
    }
    atomic_fetch_add(&index->bytes, more_bytes);
    stripe->buckets = buckets;
    stripe->bucket_count = count;
    for (size_t i = 0; i < old_count; i++)
        for (struct block *block = old[i], *next; block; block = next) {
            next = block->next_in_bucket;
            struct block **bucket = bucket_of(stripe, block->hash);
            block->next_in_bucket = *bucket;
            *bucket = block;
        }
    free(old);
    return true;
}

static uint64_t bytes_of(const struct block *block) {
    return sizeof *block + block->key_bytes;
}

static void count(const struct block *block, int sign) {
    uint64_t times = (uint64_t)(int64_t)sign;
    atomic_fetch_add(&block->index->blocks, times);
    atomic_fetch_add(&block->index->tokens, times * block->tokens);
}

/* --- finding --- */

int block_find(struct block_index *index, const struct block_key *key, struct block_place *place) {
    uint64_t hash = hash_of(key);
    struct block_stripe *stripe = stripe_of(index, hash);
    pthread_mutex_lock(&stripe->lock);
    const struct block *block = find(stripe, hash, key);
    int status = !block ? STORE_MISS : block->is_there ? STORE_OK : STORE_BUSY;
    if (status == STORE_OK) {
        *place = (struct block_place){block->session, block->first, block->tokens};
        session_ref(block->session);
    }
    pthread_mutex_unlock(&stripe->lock);
    return status;
}

bool block_stands(const struct block_place *place) {
    const struct session *session = place->session;
    return !session->deleted && place->first + place->tokens <= session->tokens;
}

/* --- putting in and taking out --- */

static struct block *block_new(struct block_index *index, const struct block_key *key,
                               const struct block_place *place) {
    uint64_t bytes = sizeof(struct block) + key->text_bytes;
    if (!budget_reserve(index->budget, bytes))
        return NULL;
    struct block *block = calloc(1, bytes);
    if (!block) {
        budget_release(index->budget, bytes);
        return NULL;
    }
    block->index = index;
    block->session = place->session;
    block->hash = hash_of(key);
    block->first = place->first;
    block->tokens = place->tokens;
    block->key_bytes = (uint8_t)key->text_bytes;
    memcpy(block->key, key->text, key->text_bytes);
    return block;
}

static void block_free(struct block *block) {
    budget_release(block->index->budget, bytes_of(block));
    free(block);
}

static int put_in(struct block_index *index, struct block *block, const struct block_key *key) {
    struct block_stripe *stripe = stripe_of(index, block->hash);
    int status = STORE_OK;
    pthread_mutex_lock(&stripe->lock);
    const struct block *other = find(stripe, block->hash, key);
    if (other)
        status = other->is_there ? STORE_EXISTS : STORE_BUSY;
    else if (!grow(index, stripe))
        status = STORE_FULL;
    if (status == STORE_OK) {
        struct block **bucket = bucket_of(stripe, block->hash);
        block->next_in_bucket = *bucket;
        *bucket = block;
        stripe->blocks++;
        atomic_fetch_add(&index->bytes, bytes_of(block));
    }
    pthread_mutex_unlock(&stripe->lock);
    return status;
}

int block_claim(struct block_index *index, const struct block_key *key,
                const struct block_place *place) {
    struct session *session = place->session;
    if (session->deleted)
        return STORE_MISS;
    struct block *block = block_new(index, key, place);
    if (!block)
        return STORE_FULL;
    int status = put_in(index, block, key);
    if (status != STORE_OK) {
        block_free(block);
        return status;
    }
    block->older = session->newest_block;
    if (block->older)
        block->older->newer = block;
    session->newest_block = block;
    return STORE_OK;
}

void block_publish(struct block_index *index, const struct block_key *key,
                   const struct session *session) {
    uint64_t hash = hash_of(key);
    struct block_stripe *stripe = stripe_of(index, hash);
    pthread_mutex_lock(&stripe->lock);
    struct block *block = find(stripe, hash, key);
    if (block && block->session == session && !block->is_there) {
        block->is_there = true;
        count(block, 1);
    }
    pthread_mutex_unlock(&stripe->lock);
}

/* With the session locked. */
static void take_out(struct block *block) {
    struct block_stripe *stripe = stripe_of(block->index, block->hash);
    pthread_mutex_lock(&stripe->lock);
    struct block **link = bucket_of(stripe, block->hash);
    while (*link != block)
        link = &(*link)->next_in_bucket;
    *link = block->next_in_bucket;
    stripe->blocks--;
    if (block->is_there)
        count(block, -1);
    atomic_fetch_sub(&block->index->bytes, bytes_of(block));
    pthread_mutex_unlock(&stripe->lock);
    *(block->newer ? &block->newer->older : &block->session->newest_block) = block->older;
    if (block->older)
        block->older->newer = block->newer;
    block_free(block);
}

/* With the session locked: its block of this key, or NULL. */
static struct block *find_in(struct block_index *index, const struct block_key *key,
                             const struct session *session) {
    uint64_t hash = hash_of(key);
    struct block_stripe *stripe = stripe_of(index, hash);
    pthread_mutex_lock(&stripe->lock);
    struct block *block = find(stripe, hash, key);
    if (block && block->session != session)
        block = NULL;
    pthread_mutex_unlock(&stripe->lock);
    return block;
}

void block_unclaim(struct block_index *index, const struct block_key *key,
                   const struct session *session) {
    struct block *block = find_in(index, key, session);
    if (block && !block->is_there)
        take_out(block);
}

void block_cut(struct session *session, uint64_t tokens) {
    struct block *block;
    while ((block = session->newest_block) && block->first + block->tokens > tokens) {
        atomic_fetch_add(&block->index->lost, block->is_there);
        take_out(block);
    }
}

/* --- over a restart --- */

void block_each(const struct session *session,
                void (*take)(void *context, const struct block_entry *entry), void *context) {
    for (const struct block *block = session->newest_block; block; block = block->older)
        if (block->is_there)
            take(context,
                 &(struct block_entry){block->first, block->tokens, block->key, block->key_bytes});
}

/* A reference to the session that has the key, which nobody puts or deletes meanwhile. */
static struct session *holder_of(struct block_index *index, const struct block_key *key) {
    struct block_place place;
    return block_find(index, key, &place) == STORE_OK ? place.session : NULL;
}

/* Of its manifest on disk. What was never saved came out of a pool, which is newer than that. */
static uint64_t saved_version(const struct session *session) {
    uint64_t version = session->saved.point.version;
    return version > 0 ? version : UINT64_MAX;
}

/* True if the key is free then. What is on disk of the chain that gives way has the block. Of one
 * pool's chains, none of which is in the store yet, none does: ours have each key once. */
static bool give_way(struct block_index *index, const struct block_key *key,
                     struct session *session) {
    struct session *holder = holder_of(index, key);
    if (!holder)
        return false;
    bool is_older = holder->lock && saved_version(holder) < saved_version(session);
    if (is_older) {
        pthread_mutex_lock(holder->lock);
        take_out(find_in(index, key, holder));
        holder->saved.cuts = UINT64_MAX;
        pthread_mutex_unlock(holder->lock);
    } else {
        session->saved.cuts = UINT64_MAX;
    }
    session_unref(holder);
    return is_older;
}

int block_restore(struct block_index *index, struct session *session,
                  const struct block_entry *entry) {
    struct block_key key = {.tenant = session->tenant,
                            .model = session->model,
                            .model_bytes = session->model_bytes,
                            .text = entry->key,
                            .text_bytes = entry->key_bytes,
                            .geometry = &session->geometry};
    struct block_place place = {session, entry->first, entry->tokens};
    int status = block_claim(index, &key, &place);
    if (status == STORE_EXISTS && give_way(index, &key, session))
        status = block_claim(index, &key, &place);
    if (status == STORE_OK)
        block_publish(index, &key, session);
    return status;
}

/* --- what becomes of them --- */

/* With the session locked. */
static void keep_until(struct store *store, struct session *session, uint64_t lease_ns) {
    uint64_t now = clock_now_ns();
    uint64_t until = lease_ns < UINT64_MAX - now ? now + lease_ns : UINT64_MAX;
    if (lease_ns == 0 || until <= session->pinned_until_ns)
        return;
    session->pinned_until_ns = until;
    ageing_schedule(&store->ageing, session);
}

/* A chain in which there is no block, and is to be none, is deleted: STORE_OK with what it had,
 * else STORE_MISS or STORE_FULL. */
static int delete_unused(struct store *store, struct session *session,
                         struct session_discard **discard) {
    pthread_mutex_lock(session->lock);
    bool unused = !session->newest_block && !session->appending;
    pthread_mutex_unlock(session->lock);
    return unused ? store_delete_session(store, session, NULL, discard) : STORE_MISS;
}

void block_drop_unused(struct store *store, struct session *session) {
    struct session_discard *discard;
    if (delete_unused(store, session, &discard) == STORE_OK)
        keeper_discard(&store->keeper, &discard->discard);
}

uint32_t block_exists(struct store *store, const struct block_key *key, bool use,
                      uint64_t lease_ns) {
    struct block_place place;
    if (block_find(&store->blocks, key, &place) != STORE_OK)
        return 0;
    pthread_mutex_lock(place.session->lock);
    bool stands = block_stands(&place);
    if (stands)
        keep_until(store, place.session, lease_ns);
    if (stands && use)
        session_use(place.session, true);
    pthread_mutex_unlock(place.session->lock);
    session_unref(place.session);
    return stands ? place.tokens : 0;
}

/* With the session locked: what is left of it, as far as its last block. */
static struct truncate_request behind_newest(const struct session *session) {
    const struct block *newest = session->newest_block;
    return (struct truncate_request){.session = store_name_of(session),
                                     .tokens = newest ? newest->first + newest->tokens : 0,
                                     .if_version = session->version};
}

/* A block behind which none stands takes its tokens with it. While one is put behind them they
 * stay. */
static void cut_behind_newest(struct store *store, const struct truncate_request *cut) {
    struct session_discard *discard;
    struct session_state state;
    if (store_truncate(store, cut, &state, &discard) == STORE_OK && discard)
        keeper_discard(&store->keeper, &discard->discard);
}

static void drop_chain(struct store *store, struct session *session,
                       struct block_deletion *deletion) {
    struct session_discard *discard;
    int status = delete_unused(store, session, &discard);
    deletion->stays_on_disk = status == STORE_FULL;
    if (status != STORE_OK)
        return;
    deletion->promise = discard->deleted_on_disk;
    discard->deleted_on_disk = NULL;
    keeper_discard(&store->keeper, &discard->discard);
}

/* What is on disk of the chain, or on its way there, has the block. */
static void owe(struct session *session, struct block_deletion *deletion) {
    pthread_mutex_lock(session->lock);
    if (!session->deleted && (session->saved.any || session->saved.under_way)) {
        session_ref(session);
        deletion->chain = session;
        deletion->point = session_point(session);
    }
    pthread_mutex_unlock(session->lock);
}

static void delete_from(struct store *store, const struct block_key *key, struct session *session,
                        struct block_deletion *deletion) {
    pthread_mutex_lock(session->lock);
    struct block *block = find_in(&store->blocks, key, session);
    if (block && block->is_there) {
        deletion->tokens = block->tokens;
        take_out(block);
        session->changes++;
    }
    bool empty = !session->newest_block;
    struct truncate_request cut = behind_newest(session);
    bool behind = !empty && cut.tokens < session->tokens;
    pthread_mutex_unlock(session->lock);
    if (empty)
        drop_chain(store, session, deletion);
    if (behind)
        cut_behind_newest(store, &cut);
    owe(session, deletion);
}

void block_delete(struct store *store, const struct block_key *key,
                  struct block_deletion *deletion) {
    struct block_place place;
    *deletion = (struct block_deletion){0};
    if (block_find(&store->blocks, key, &place) != STORE_OK)
        return;
    delete_from(store, key, place.session, deletion);
    session_unref(place.session);
}
