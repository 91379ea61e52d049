#include "daemon/store/models.h"

#include <string.h>

#include "daemon/store/info.h"

/* As `make quality` measures them on float16: bits a value at fast8 and the levels behind it, and
 * what exact leaves of the values' own. */
static const double usual_bits[USAGE_LEVELS] = {0, 8.32, 6.17, 5.16, 4.16, 3.17, 2.22, 1.33};
static const double exact_share = 13.42 / 16;

void models_init(struct models *models) {
    memset(models, 0, sizeof *models);
    pthread_mutex_init(&models->lock, NULL);
}

void models_deinit(struct models *models) {
    pthread_mutex_destroy(&models->lock);
}

static bool is_of(const struct known_model *known, const struct session *session) {
    return known->name_bytes == session->model_bytes &&
           memcmp(known->name, session->model, known->name_bytes) == 0 &&
           geometry_equal(&known->geometry, &session->geometry);
}

/* Its place, or one that it may have, or NULL. */
static struct known_model *find_place(struct models *models, const struct session *session) {
    struct known_model *place = NULL;
    for (int i = 0; i < MODELS_MAX; i++) {
        struct known_model *known = &models->known[i];
        if (is_of(known, session))
            return known;
        if (known->sessions == 0 && (!place || (place->name_bytes > 0 && known->name_bytes == 0)))
            place = known;
    }
    return place;
}

void models_enter(struct session *session) {
    struct models *models = &session->tenant->models;
    pthread_mutex_lock(&models->lock);
    struct known_model *place = find_place(models, session);
    if (place && !is_of(place, session)) {
        memset(place, 0, sizeof *place);
        memcpy(place->name, session->model, session->model_bytes);
        place->name_bytes = session->model_bytes;
        place->geometry = session->geometry;
    }
    if (place)
        place->sessions++;
    session->known_model = place;
    pthread_mutex_unlock(&models->lock);
}

void models_leave(struct session *session) {
    struct models *models = &session->tenant->models;
    pthread_mutex_lock(&models->lock);
    if (session->known_model)
        session->known_model->sessions--;
    session->known_model = NULL;
    pthread_mutex_unlock(&models->lock);
}

void models_note_append(struct session *session) {
    if (session->known_model)
        atomic_store(&session->known_model->sample_id, session->id);
}

/* On what was appended to last, as it is now. No session is locked inside the lock. */
static void measure(struct store *store, struct models *models, struct known_model *known) {
    struct session_info info;
    uint64_t id = atomic_load(&known->sample_id);
    struct list *list = id > STORE_CHAIN_IDS ? &store->chains : &store->list;
    struct session *session = id > 0 ? list_after(list, id - 1) : NULL;
    if (!session)
        return;
    bool is_read = session->id == id && info_read(session, &info) == STORE_OK;
    pthread_mutex_lock(&models->lock);
    double values = (double)geometry_values_per_token(&known->geometry);
    is_read = is_read && is_of(known, session); /* it may be another model's place by now */
    for (int i = 0; is_read && i < USAGE_LEVELS; i++)
        if (info.levels[i].tokens > 0)
            known->bits[i] =
                8 * (double)info.levels[i].bytes / (double)info.levels[i].tokens / values;
    pthread_mutex_unlock(&models->lock);
    session_unref(session);
}

static double bits_at(const struct known_model *known, int index) {
    double own = 8 * (double)geometry_token_bytes(&known->geometry) /
                 (double)geometry_values_per_token(&known->geometry);
    if (known->bits[index] > 0)
        return known->bits[index];
    return index == 0 ? exact_share * own : usual_bits[index] < own ? usual_bits[index] : own;
}

static void write_capacity(const struct known_model *known, uint64_t free_bytes,
                           struct model_capacity *capacity) {
    double values = (double)geometry_values_per_token(&known->geometry);
    memcpy(capacity->name, known->name, known->name_bytes);
    capacity->name_bytes = known->name_bytes;
    for (int i = 0; i < USAGE_LEVELS; i++)
        capacity->tokens[i] = (uint64_t)(8 * (double)free_bytes / (bits_at(known, i) * values));
}

size_t models_read(struct store *store, struct tenant *tenant,
                   struct model_capacity capacities[MODELS_MAX]) {
    struct models *models = tenant ? &tenant->models : &store->tenants.standard.models;
    uint64_t limit = atomic_load(&store->budget.limit_bytes), used = store_used_bytes(store);
    size_t count = 0;
    for (int i = 0; i < MODELS_MAX; i++)
        measure(store, models, &models->known[i]);
    pthread_mutex_lock(&models->lock);
    for (int i = 0; i < MODELS_MAX; i++)
        if (models->known[i].name_bytes > 0)
            write_capacity(&models->known[i], used < limit ? limit - used : 0,
                           &capacities[count++]);
    pthread_mutex_unlock(&models->lock);
    return count;
}
