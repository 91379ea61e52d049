#include "daemon/store/fetch.h"

#include <string.h>

#include "daemon/store/evict.h"
#include "proto/page/compact.h"

enum { CHUNKS_AHEAD = 4 };

/* Where a piece's values are: in a record or in a tail, held for as long as it is decoded. */
struct source {
    struct record *record;             /* with one that is absent, `chunk` */
    struct chunk *chunk;               /* that is to be loaded from disk now, or NULL, */
    struct chunk *ahead[CHUNKS_AHEAD]; /* and those that are next; NULL behind the last */
    struct tail *tail;
    int level;    /* the coarsest of what is there */
    uint32_t row; /* of the piece's first token */
    uint64_t end; /* of the tokens that this source has */
};

static void source_release(struct source *source) {
    if (source->record)
        record_unpin(source->record);
    if (source->tail)
        tail_unref(source->tail);
    if (source->chunk)
        chunk_unref(source->chunk);
    for (int i = 0; i < CHUNKS_AHEAD && source->ahead[i]; i++)
        chunk_unref(source->ahead[i]);
}

static int check_range(const struct session *session, struct fetch *fetch) {
    if (fetch->end == 0)
        fetch->end = session->tokens;
    if (fetch->end_layer == 0)
        fetch->end_layer = session->geometry.layers;
    if (fetch->first > session->tokens)
        return STORE_MISS;
    if (fetch->first > fetch->end || fetch->first_layer >= fetch->end_layer ||
        fetch->end_layer > session->geometry.layers || fetch->parts == 0)
        return STORE_INVALID;
    return fetch->end > session->tokens ? STORE_MISS : STORE_OK;
}

/* Values are rounded to a compact dtype where they came in it, and nowhere else. */
static bool is_dtype_possible(const struct fetch *fetch) {
    return fetch->dtype == fetch->geometry.dtype || !page_is_compact(fetch->dtype);
}

static int begin_locked(struct session *session, const struct fetch_request *request,
                        struct fetch *fetch) {
    if (session->deleted)
        return STORE_MISS;
    if (request->model.bytes > 0 &&
        (request->model.bytes != session->model_bytes ||
         memcmp(request->model.text, session->model, session->model_bytes) != 0))
        return STORE_MODEL_MISMATCH;
    if (request->if_version != 0 && request->if_version != session->version)
        return STORE_VERSION_CHANGED;
    fetch->session_id = session->id;
    fetch->version = session->version;
    fetch->cuts = session->cuts.count;
    fetch->valid_end = UINT64_MAX;
    fetch->available = session->tokens;
    session_use(session, true);
    fetch->geometry = session->geometry;
    if (fetch->dtype == 0)
        fetch->dtype = session->geometry.dtype;
    if (!is_dtype_possible(fetch))
        return STORE_UNSUPPORTED;
    if (session->geometry.head_dim_v == 0)
        fetch->parts &= (uint8_t) ~(1u << PAGE_V);
    return check_range(session, fetch);
}

int fetch_begin(struct store *store, const struct fetch_request *request, struct fetch *fetch) {
    *fetch = (struct fetch){
        .tenant = request->session.tenant,
        .name_bytes = request->session.bytes,
        .first = request->first,
        .token = request->first,
        .end = request->end,
        .first_layer = request->first_layer,
        .end_layer = request->end_layer,
        .heads_first = request->heads_first,
        .parts = (uint8_t)(!request->skip_k << PAGE_K | !request->skip_v << PAGE_V),
        .dtype = request->dtype,
        .layer = request->first_layer,
        .run_level = PAGE_LEVEL_MIN,
    };
    memcpy(fetch->name, request->session.text, request->session.bytes);
    struct session *session = store_find(store, request->session);
    if (!session)
        return STORE_MISS;
    pthread_mutex_lock(session->lock);
    int status = begin_locked(session, request, fetch);
    pthread_mutex_unlock(session->lock);
    session_unref(session);
    return status;
}

void fetch_move(struct fetch *fetch, uint32_t layer, uint64_t first, uint64_t end) {
    fetch->first = fetch->token = first;
    fetch->end = end;
    fetch->first_layer = fetch->layer = layer;
    fetch->end_layer = layer + 1;
    fetch->part = PAGE_K;
    fetch->run_end = 0;
}

/* What was cut off since the fetch began is gone, even if other tokens stand there by now. Of
 * several truncations between two pieces the session knows only how far the deepest ever went. */
static void heed_cuts(const struct session_cuts *cuts, struct fetch *fetch) {
    uint64_t since = cuts->count - fetch->cuts;
    uint64_t end = since == 1 ? cuts->last_tokens : cuts->least_tokens;
    if (since > 0 && end < fetch->valid_end)
        fetch->valid_end = end;
    fetch->cuts = cuts->count;
}

static void hold_chunk(struct chunk *chunk, struct source *source) {
    source->record = chunk_pin(chunk);
    source->level = source->record->level;
    if (!record_is_absent(source->record))
        return;
    source->chunk = chunk;
    chunk_ref(chunk);
}

static void hold_tail(const struct session *session, struct source *source) {
    if (session->coded_tail.chunk) {
        hold_chunk(session->coded_tail.chunk, source);
        return;
    }
    tail_ref(session->tail);
    source->tail = session->tail;
    source->level = session->tail->level;
}

/* A reference to the slice's chunk if it is on disk only, and not beyond what is fetched. */
static struct chunk *absent_chunk(const struct session *session, const struct slice *slice,
                                  uint64_t end) {
    if (slice >= session->slices + session->slice_count || slice->start >= end)
        return NULL;
    struct record *record = chunk_pin(slice->chunk);
    bool absent = record_is_absent(record);
    record_unpin(record);
    if (absent)
        chunk_ref(slice->chunk);
    return absent ? slice->chunk : NULL;
}

static void hold_ahead(const struct session *session, const struct slice *slice, uint64_t end,
                       struct source *source) {
    for (int i = 1, count = 0; i <= CHUNKS_AHEAD; i++) {
        source->ahead[count] = absent_chunk(session, slice + i, end);
        count += source->ahead[count] != NULL;
    }
}

/* With the session locked. Where a run begins, the chunks behind it are loaded ahead. */
static void hold_slice(const struct session *session, const struct fetch *fetch,
                       const struct slice *slice, struct source *source) {
    hold_chunk(slice->chunk, source);
    if (fetch->run_end == 0) {
        chunk_use(slice->chunk);
        hold_ahead(session, slice, fetch->end, source);
    }
    source->row = slice->first + (uint32_t)(fetch->token - slice->start);
    source->end = slice->start + slice->tokens;
}

static int hold_locked(const struct session *session, struct fetch *fetch, struct source *source) {
    uint64_t token = fetch->token;
    *source = (struct source){0};
    heed_cuts(&session->cuts, fetch);
    fetch->available = session->deleted ? 0 : session->tokens;
    if (session->deleted || token >= session->tokens || token >= fetch->valid_end)
        return STORE_MISS;
    const struct slice *slice = session_find_slice(session, token);
    if (slice) {
        hold_slice(session, fetch, slice, source);
    } else {
        hold_tail(session, source);
        source->row = (uint32_t)(token - (session->tokens - session->tail_tokens));
        source->end = session->tokens;
    }
    if (source->end > fetch->valid_end)
        source->end = fetch->valid_end;
    return STORE_OK;
}

static int hold(struct store *store, struct fetch *fetch, struct source *source) {
    struct session *session = store_find(store, fetch_name(fetch));
    fetch->available = 0;
    if (!session)
        return STORE_MISS;
    pthread_mutex_lock(session->lock);
    int status =
        session->id == fetch->session_id ? hold_locked(session, fetch, source) : STORE_MISS;
    pthread_mutex_unlock(session->lock);
    session_unref(session);
    return status;
}

/* Where bytes on disk cannot be read, the tokens before them are what is left. */
static int note_lost(struct store *store, struct fetch *fetch) {
    struct session *session = store_find(store, fetch_name(fetch));
    fetch->available = 0;
    if (!session)
        return STORE_MISS;
    if (session->id == fetch->session_id)
        fetch->available = evict_lost(store, session);
    session_unref(session);
    return STORE_MISS;
}

static struct page_strides strides_of(const struct fetch *fetch, enum page_part part,
                                      uint32_t tokens) {
    size_t head_dim = geometry_head_dim(&fetch->geometry, part);
    if (fetch->heads_first)
        return (struct page_strides){.token = head_dim, .head = tokens * head_dim};
    return (struct page_strides){.token = fetch->geometry.heads * head_dim, .head = head_dim};
}

/* Rows that were coded before have lost what they lost then. */
static void read_tail(struct fetch *fetch, const struct source *source,
                      const struct fetch_piece *piece, void *values) {
    loss_add(&fetch->loss[piece->part], tail_loss(source->tail, piece->layer, piece->part));
    struct tail_block block = {source->row, piece->tokens, piece->layer, piece->part};
    tail_read(source->tail, &block, fetch->dtype, values,
              strides_of(fetch, piece->part, piece->tokens));
}

static int read_record(struct fetch *fetch, const struct source *source,
                       const struct fetch_piece *pieces, size_t count, char *const values[],
                       struct page_cache *cache, void *workspace) {
    struct page_cache_read reads[GEOMETRY_PARTS];
    for (size_t i = 0; i < count; i++) {
        struct loss loss;
        if (record_page_loss(source->record, pieces[i].layer, pieces[i].part, &loss) < 0)
            return STORE_MISS;
        loss_add(&fetch->loss[pieces[i].part], &loss);
        reads[i].page = (struct page_cache_key){pieces[i].layer, pieces[i].part};
        reads[i].target = (struct page_target){
            .first = source->row,
            .tokens = pieces[i].tokens,
            .dtype = fetch->dtype,
            .values = values[i],
            .strides = strides_of(fetch, pieces[i].part, pieces[i].tokens),
        };
    }
    int status =
        page_cache_decode(cache, source->record, &fetch->geometry, reads, count, workspace);
    return status < 0 ? STORE_MISS : STORE_OK;
}

static int read_source(struct fetch *fetch, const struct source *source,
                       const struct fetch_room *room, const struct fetch_piece *pieces,
                       size_t count, void *workspace) {
    char *values[] = {room->values, room->values + pieces[0].bytes + room->gap_bytes};
    if (source->record)
        return read_record(fetch, source, pieces, count, values, room->cache, workspace);
    for (size_t i = 0; i < count; i++)
        read_tail(fetch, source, &pieces[i], values[i]);
    return STORE_OK;
}

static void count_pieces(struct fetch *fetch, const struct source *source,
                         const struct fetch_piece *pieces, size_t count) {
    for (size_t i = 0; i < count; i++)
        fetch->sent_bytes += pieces[i].bytes;
    if (source->level > fetch->run_level)
        fetch->run_level = source->level;
}

size_t fetch_piece_bytes_max(const struct fetch *fetch) {
    const struct geometry *geometry = &fetch->geometry;
    uint32_t dim_k = geometry->head_dim_k, dim_v = geometry->head_dim_v;
    uint64_t page = geometry_page_tokens(geometry), range = fetch->end - fetch->first;
    return (size_t)(range < page ? range : page) * geometry->heads *
           (dim_k > dim_v ? dim_k : dim_v) * page_value_bytes(fetch->dtype);
}

/* To the next part, layer or run. */
static void advance(struct fetch *fetch) {
    if (fetch->part == PAGE_K && fetch->parts & 1u << PAGE_V) {
        fetch->part = PAGE_V;
        return;
    }
    fetch->part = fetch->parts & 1u << PAGE_K ? PAGE_K : PAGE_V;
    if (++fetch->layer < fetch->end_layer)
        return;
    fetch->level_tokens[fetch->run_level - PAGE_LEVEL_MIN] += fetch->run_end - fetch->token;
    fetch->run_level = PAGE_LEVEL_MIN;
    fetch->layer = fetch->first_layer;
    fetch->token = fetch->run_end;
    fetch->run_end = 0;
}

bool fetch_is_done(const struct fetch *fetch) {
    return fetch->token >= fetch->end || fetch->parts == 0;
}

static struct fetch_piece piece_of(const struct fetch *fetch, enum page_part part) {
    uint32_t tokens = (uint32_t)(fetch->run_end - fetch->token);
    return (struct fetch_piece){
        .first = fetch->token,
        .tokens = tokens,
        .layer = fetch->layer,
        .part = part,
        .bytes = (size_t)tokens * fetch->geometry.heads *
                 geometry_head_dim(&fetch->geometry, part) * page_value_bytes(fetch->dtype),
    };
}

/* What comes next: K and V of a layer, if both are wanted and have room, or one of them. */
static size_t choose_pieces(const struct fetch *fetch, const struct fetch_room *room,
                            struct fetch_piece pieces[GEOMETRY_PARTS]) {
    pieces[0] = piece_of(fetch, fetch->part);
    if (fetch->part == PAGE_V || !(fetch->parts & 1u << PAGE_V))
        return 1;
    pieces[1] = piece_of(fetch, PAGE_V);
    return pieces[0].bytes + room->gap_bytes + pieces[1].bytes <= room->bytes ? 2 : 1;
}

/* STORE_OK if the source's bytes are in memory, else what comes of loading them. */
static int load(struct store *store, const struct fetch *fetch, const struct source *source) {
    struct disk_tier *tier = &store->disk;
    if (source->chunk) { /* by itself, so that it comes soonest */
        int status = disk_tier_load_chunk(tier, source->chunk, &fetch->geometry);
        return status == STORE_OK ? STORE_MORE : status; /* it has come: look again */
    }
    for (int i = 0; i < CHUNKS_AHEAD && source->ahead[i]; i++)
        if (disk_tier_load_chunk(tier, source->ahead[i], &fetch->geometry) == STORE_FULL)
            break;
    return STORE_OK;
}

static int read_pieces(struct fetch *fetch, const struct source *source,
                       const struct fetch_room *room, void *workspace,
                       struct fetch_piece pieces[GEOMETRY_PARTS], size_t *count) {
    /* A run keeps its end while its layers are sent, whatever becomes of the slices meanwhile. */
    if (fetch->run_end == 0)
        fetch->run_end = source->end < fetch->end ? source->end : fetch->end;
    *count = choose_pieces(fetch, room, pieces);
    int status = source->end >= fetch->run_end
                     ? read_source(fetch, source, room, pieces, *count, workspace)
                     : STORE_MISS;
    if (status == STORE_OK)
        count_pieces(fetch, source, pieces, *count);
    return status;
}

int fetch_next(struct store *store, struct fetch *fetch, const struct fetch_room *room,
               void *workspace, struct fetch_piece pieces[GEOMETRY_PARTS], size_t *count) {
    struct source source;
    if (fetch_is_done(fetch))
        return STORE_OK;
    if (!(fetch->parts & 1u << fetch->part))
        fetch->part = PAGE_V;
    int status = hold(store, fetch, &source);
    if (status != STORE_OK)
        return status;
    *count = 0;
    status = load(store, fetch, &source);
    if (status == STORE_OK)
        status = read_pieces(fetch, &source, room, workspace, pieces, count);
    bool lost = source.chunk && status == STORE_MISS;
    source_release(&source);
    if (lost)
        return note_lost(store, fetch);
    for (size_t i = 0; status == STORE_OK && i < *count; i++)
        advance(fetch);
    return status == STORE_OK ? STORE_MORE : status;
}
