/* Fetching: a pull of one page's tokens of one layer at a time, K and V together where both fit.
 *
 * Between two pulls nothing is held, neither pin nor reference: each looks the session up anew, so
 * that a delete on the way is a miss and a slow reader keeps nothing alive.
 */
#ifndef DAEMON_STORE_FETCH_H
#define DAEMON_STORE_FETCH_H

#include "daemon/store/page_cache.h"
#include "daemon/store/store.h"

struct fetch_request {
    struct store_name session, model; /* an empty model is not compared */
    uint64_t first, end;              /* end 0: the session's length */
    uint32_t first_layer, end_layer;  /* end 0: all */
    bool skip_k, skip_v, heads_first;
    enum page_dtype dtype; /* 0: the session's; else that one, or F16, BF16 or F32 */
    uint64_t if_version;   /* 0: not compared */
};

enum { FETCH_LEVELS = PAGE_LEVEL_MAX - PAGE_LEVEL_MIN + 1 };

struct fetch {
    struct tenant *tenant;
    char name[256];
    size_t name_bytes;
    uint64_t session_id, version;
    uint64_t cuts, valid_end; /* truncations that it knows of; tokens that are what they were */
    uint64_t available; /* the session's length when it was last looked at; 0: there is none */
    struct geometry geometry;
    uint64_t first, end;
    uint32_t first_layer, end_layer;
    bool heads_first;
    uint8_t parts; /* a bit for K, a bit for V */
    enum page_dtype dtype;
    /* the next piece */
    uint64_t token, run_end; /* run_end 0: a run is to begin */
    uint32_t layer;
    uint8_t part;
    int run_level; /* the coarsest of the run's pieces so far */
    /* what was sent */
    uint64_t sent_bytes, level_tokens[FETCH_LEVELS];
    struct loss loss[GEOMETRY_PARTS];
};

struct fetch_piece {
    uint64_t first;
    uint32_t tokens, layer;
    enum page_part part;
    size_t bytes;
};

/* STORE_OK, STORE_MISS, STORE_VERSION_CHANGED, STORE_MODEL_MISMATCH, STORE_INVALID, or
 * STORE_UNSUPPORTED (a dtype that these values are not given in). */
int fetch_begin(struct store *store, const struct fetch_request *request, struct fetch *fetch)
    __attribute__((warn_unused_result));

/* A fetch of other tokens of one layer, among those that it was begun for; what was sent goes on
 * adding up, and so does what became of the session. */
void fetch_move(struct fetch *fetch, uint32_t layer, uint64_t first, uint64_t end);

/* By which it looks its session up. */
static inline struct store_name fetch_name(const struct fetch *fetch) {
    return (struct store_name){fetch->name, fetch->name_bytes, fetch->tenant};
}

/* Whether all pieces were made. */
bool fetch_is_done(const struct fetch *fetch);

/* No piece is larger. */
size_t fetch_piece_bytes_max(const struct fetch *fetch);

/* Room for fetch_piece_bytes_max() at least. Where there is room for V behind a layer's K too, it
 * begins gap_bytes behind K's end. */
struct fetch_room {
    char *values;
    size_t bytes, gap_bytes;
    struct page_cache *cache; /* the thread's, or NULL */
};

/* Decodes the next piece or two. STORE_MORE with count pieces, STORE_OK at the end, STORE_MISS if
 * they are not there any more; STORE_WAIT while they come from disk, STORE_FULL if there is no
 * memory for that (repeat it). */
int fetch_next(struct store *store, struct fetch *fetch, const struct fetch_room *room,
               void *workspace, struct fetch_piece pieces[GEOMETRY_PARTS], size_t *count)
    __attribute__((warn_unused_result));

#endif
