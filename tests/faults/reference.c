#include "tests/faults/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/page/compact.h"
#include "proto/page/convert.h"
#include "tests/faults/documents.h"
#include "tests/faults/values.h"

enum { LARGE = 400 };

void reference_init(struct reference *reference) {
    *reference = (struct reference){.workspace = aligned_alloc(64, PAGE_WORKSPACE_BYTES),
                                    .encoded = malloc(2 * PAGE_VALUES_MAX * sizeof(float)),
                                    .decoded = malloc(PAGE_VALUES_MAX * sizeof(float)),
                                    .rows = malloc(PAGE_VALUES_MAX * sizeof(float)),
                                    .numbers = malloc(PAGE_VALUES_MAX * sizeof(float))};
}

void reference_deinit(struct reference *reference) {
    for (int i = 0; i < REFERENCE_SESSIONS; i++)
        reference_cut(&reference->sessions[i], 0);
    for (struct reference_offer *offer = reference->offers, *next; offer; offer = next) {
        next = offer->next;
        free(offer);
    }
    free(reference->workspace);
    free(reference->encoded);
    free(reference->decoded);
    free(reference->rows);
    free(reference->numbers);
}

/* --- tokens --- */

static void group_unref(struct reference_group *group) {
    if (--group->references > 0)
        return;
    for (int i = 0; i < REFERENCE_PAGES; i++)
        free((void *)group->pages[i].page);
    free(group);
}

static bool is_offered(const struct reference *reference, const struct reference_group *group) {
    const struct reference_offer *offer = reference->offers;
    while (offer && (offer->tokens != group->tokens || offer->geometry != group->geometry ||
                     offer->min_snr_db != group->min_snr_db ||
                     memcmp(offer->stamps, group->stamps, sizeof offer->stamps) != 0))
        offer = offer->next;
    return offer != NULL;
}

static void note_offer(struct reference *reference, const struct reference_group *group) {
    if (group->sharing == SESSION_SHARES_NOTHING || is_offered(reference, group))
        return;
    struct reference_offer *offer = calloc(1, sizeof *offer);
    offer->next = reference->offers;
    offer->geometry = group->geometry;
    offer->tokens = group->tokens;
    offer->min_snr_db = group->min_snr_db;
    memcpy(offer->stamps, group->stamps, sizeof offer->stamps);
    reference->offers = offer;
}

/* The session's tokens first .. first + tokens - 1 are coded together. */
static void make_group(struct reference *reference, struct reference_session *session,
                       uint32_t first, uint32_t tokens) {
    struct reference_group *group = calloc(1, sizeof *group);
    group->references = group->tokens = tokens;
    group->geometry = session->geometry;
    group->min_snr_db = session->policy.min_snr_db;
    group->sharing = session->sharing;
    uint32_t sinks = first < PAGE_SINK_TOKENS ? PAGE_SINK_TOKENS - first : 0;
    group->sink_tokens = sinks < tokens ? sinks : tokens;
    for (uint32_t i = 0; i < tokens; i++) {
        struct reference_token *token = &session->tokens[first + i];
        group->stamps[i] = token->stamp;
        token->group = group;
        token->row = i;
    }
    note_offer(reference, group);
}

void reference_append(struct reference *reference, struct reference_session *session,
                      uint64_t first_stamp, uint32_t tokens, bool settle) {
    uint32_t page = geometry_page_tokens(session->geometry);
    uint32_t first = session->token_count - session->tail_tokens;
    for (uint32_t i = 0; i < tokens; i++)
        session->tokens[session->token_count++] =
            (struct reference_token){.stamp = first_stamp + i};
    for (; session->token_count - first >= page; first += page)
        make_group(reference, session, first, page);
    session->tail_tokens = session->token_count - first;
    if (!settle || session->tail_tokens == 0)
        return;
    make_group(reference, session, first, session->tail_tokens);
    session->tail_tokens = 0;
}

static void cut_entries(struct reference_session *session, uint32_t tokens) {
    for (int i = 0; i < REFERENCE_ENTRIES; i++)
        session->entries[i].exists &=
            session->entries[i].first + session->entries[i].tokens <= tokens;
}

void reference_cut(struct reference_session *session, uint32_t tokens) {
    uint32_t coded = session->token_count - session->tail_tokens;
    if (tokens == 0 && session->token_count > 0)
        memset(session->attachments, 0, sizeof session->attachments);
    cut_entries(session, tokens);
    while (session->token_count > tokens) {
        struct reference_token *token = &session->tokens[--session->token_count];
        if (token->group)
            group_unref(token->group);
    }
    session->tail_tokens = tokens > coded ? tokens - coded : 0;
    if (session->id_tokens > tokens)
        session->id_tokens = tokens;
}

void reference_fork(const struct reference_session *source, struct reference_session *target,
                    uint32_t tokens) {
    uint32_t coded = source->token_count - source->tail_tokens;
    target->geometry = source->geometry;
    target->model = source->model;
    target->policy = source->policy;
    target->sharing = source->sharing;
    target->key_summaries = source->key_summaries;
    target->on_disk = source->on_disk;
    target->loosened = source->loosened;
    target->id_tokens = source->id_tokens < tokens ? source->id_tokens : tokens;
    for (int i = 0; i < REFERENCE_ATTACHMENTS; i++) {
        target->attachments[i] = source->attachments[i];
        target->attachments[i].exists &=
            tokens == source->token_count || source->attachments[i].tokens <= tokens;
    }
    memcpy(target->entries, source->entries, sizeof target->entries);
    cut_entries(target, tokens);
    target->token_count = tokens;
    target->tail_tokens = tokens > coded ? tokens - coded : 0;
    for (uint32_t i = 0; i < tokens; i++) {
        target->tokens[i] = source->tokens[i];
        if (target->tokens[i].group)
            target->tokens[i].group->references++;
    }
}

bool reference_has_attachments(const struct reference_session *session) {
    bool any = false;
    for (int i = 0; i < REFERENCE_ATTACHMENTS; i++)
        any |= session->attachments[i].exists;
    return any;
}

void reference_copy(const struct reference_session *source, struct reference_session *target) {
    *target = *source;
    for (uint32_t i = 0; i < source->token_count; i++)
        if (source->tokens[i].group)
            source->tokens[i].group->references++;
}

/* --- values --- */

static struct page_strides strides_of(const struct geometry *geometry, enum page_part part,
                                      uint32_t tokens, bool heads_first) {
    size_t head_dim = geometry_head_dim(geometry, part);
    if (heads_first)
        return (struct page_strides){.token = head_dim, .head = tokens * head_dim};
    return (struct page_strides){.token = geometry->heads * head_dim, .head = head_dim};
}

/* Tokens that came as they are: their values, converted. */
static bool is_as_it_came(const struct geometry *geometry, const struct reference_piece *piece,
                          const struct reference_token *tokens) {
    uint32_t head_dim = geometry_head_dim(geometry, piece->part);
    struct page_strides strides =
        strides_of(geometry, piece->part, piece->tokens, piece->heads_first);
    size_t value_bytes = page_value_bytes(geometry->dtype), to = page_value_bytes(piece->dtype);
    char row[VALUES_ROW_MAX * sizeof(float)], converted[VALUES_ROW_MAX * sizeof(float)];
    for (uint32_t i = 0; i < piece->tokens; i++) {
        values_make(geometry, tokens[i].stamp, piece->layer, piece->part, row);
        for (uint32_t head = 0; head < geometry->heads; head++) {
            const char *got =
                (const char *)piece->values + (i * strides.token + head * strides.head) * to;
            page_convert_row(geometry->dtype, row + head * head_dim * value_bytes, piece->dtype,
                             converted, head_dim);
            if (memcmp(got, converted, head_dim * to) != 0)
                return false;
        }
    }
    return true;
}

/* A search for a coding of a group's page that gives what the store gave. */
struct search {
    struct reference *reference;
    struct reference_group *group;
    const struct reference_piece *piece;
    uint32_t row;
    int bound; /* the coarsest level that the owners allow */
    const uint64_t *stamps;
    double min_snr_db;
};

static bool gives(const struct search *search, struct page_bytes page) {
    const struct reference_piece *piece = search->piece;
    struct page_target target = {.first = search->row,
                                 .tokens = piece->tokens,
                                 .dtype = piece->dtype,
                                 .values = search->reference->decoded,
                                 .strides = strides_of(search->group->geometry, piece->part,
                                                       piece->tokens, piece->heads_first)};
    return page_decode(page.page, page.bytes, &target, search->reference->workspace) == PAGE_OK &&
           memcmp(target.values, piece->values, piece->bytes) == 0;
}

static struct page_bytes *last_seen(const struct search *search) {
    return &search->group->pages[search->piece->layer * GEOMETRY_PARTS + search->piece->part];
}

/* Keeps the page if it is right. */
static bool try(const struct search *search, struct page_bytes page) {
    if (!gives(search, page))
        return false;
    struct page_bytes *seen = last_seen(search);
    free((void *)seen->page);
    seen->page = memcpy(malloc(page.bytes), page.page, page.bytes);
    seen->bytes = page.bytes;
    return true;
}

/* Codes rows as the group's page, at the level. */
static struct page_bytes code(const struct search *search, const void *rows, int level, void *out) {
    const struct reference_group *group = search->group;
    enum page_part part = search->piece->part;
    struct page_source source = {
        .shape = geometry_shape(group->geometry, part, group->tokens),
        .part = part,
        .level = level,
        .snr_db = search->min_snr_db,
        .sink_tokens = group->sink_tokens,
        .values = rows,
        .strides = strides_of(group->geometry, part, group->tokens, false),
        .layer = search->piece->layer,
        .layers = group->geometry->layers,
    };
    size_t written = 0;
    if (page_encode(&source, search->reference->workspace, out, page_bound_bytes(&source.shape),
                    &written, NULL) != PAGE_OK)
        abort();
    return (struct page_bytes){out, written};
}

/* The page as it is, or made coarser from its integers. */
static bool try_aged(const struct search *search, struct page_bytes page, int level) {
    bool found = try(search, page);
    char *aged = malloc(page.bytes);
    for (int to = level + 1; to <= search->bound && !found; to++) {
        size_t written;
        found = page_age(page, to, search->reference->workspace, aged, page.bytes, &written,
                         NULL) == PAGE_OK &&
                try(search, (struct page_bytes){aged, written});
    }
    free(aged);
    return found;
}

/* Codes these rows at each level that may be, and makes what comes of it coarser. */
static bool try_levels(const struct search *search, const void *rows, int finest) {
    bool found = false;
    for (int level = finest; level <= search->bound && !found; level++)
        found = try_aged(search, code(search, rows, level, search->reference->encoded), level);
    return found;
}

/* From the values themselves, or from what fast8 had left of them. */
static bool search_values(const struct search *search) {
    struct reference *reference = search->reference;
    const struct reference_group *group = search->group;
    enum page_part part = search->piece->part;
    size_t row_bytes = geometry_part_bytes(group->geometry, part, 1);
    for (uint32_t i = 0; i < group->tokens; i++)
        values_make(group->geometry, search->stamps[i], search->piece->layer, part,
                    (char *)reference->rows + i * row_bytes);
    if (try_levels(search, reference->rows, PAGE_EXACT))
        return true;
    if (search->bound <= PAGE_FAST8)
        return false;
    struct page_bytes fast = code(search, reference->rows, PAGE_FAST8, reference->encoded);
    struct page_target target = {
        .tokens = group->tokens,
        .dtype = group->geometry->dtype,
        .values = reference->rows,
        .strides = strides_of(group->geometry, part, group->tokens, false),
    };
    return page_decode(fast.page, fast.bytes, &target, reference->workspace) == PAGE_OK &&
           try_levels(search, reference->rows, 0);
}

static bool are_same_tokens(const struct reference_group *group,
                            const struct reference_offer *offer) {
    uint32_t i = 0;
    while (i < group->tokens && document_same(group->stamps[i], offer->stamps[i]))
        i++;
    return group->geometry == offer->geometry && group->tokens == offer->tokens &&
           i == group->tokens;
}

/* By ids a session shares what another worker computed, or another session was promised more of. */
static bool search_all(struct search *search) {
    const struct reference_group *group = search->group;
    bool found = search_values(search);
    for (const struct reference_offer *offer = search->reference->offers;
         offer && !found && group->sharing == SESSION_SHARES_IDS; offer = offer->next) {
        search->stamps = offer->stamps;
        search->min_snr_db = offer->min_snr_db;
        found = are_same_tokens(group, offer) && search_values(search);
    }
    return found;
}

/* Where value number `index` of a token stands in a piece. */
static size_t place_of(const struct geometry *geometry, const struct reference_piece *piece,
                       uint32_t token, size_t index) {
    size_t head_dim = geometry_head_dim(geometry, piece->part);
    struct page_strides strides =
        strides_of(geometry, piece->part, piece->tokens, piece->heads_first);
    return token * strides.token + index / head_dim * strides.head + index % head_dim;
}

/* Where a tail was coded at fast8 in between nobody knows how often, and of how many tokens: what
 * came is as near to the values as the level lets it be. */
static bool is_near(struct reference *reference, const struct geometry *geometry,
                    const struct reference_piece *piece, const struct reference_token *tokens,
                    int level) {
    size_t count = (size_t)geometry->heads * geometry_head_dim(geometry, piece->part);
    float *got = reference->decoded, *expected = reference->numbers;
    double error = 0, energy = 0;
    page_convert_row(piece->dtype, piece->values, PAGE_F32, got, count * piece->tokens);
    for (uint32_t i = 0; i < piece->tokens; i++) {
        values_make(geometry, tokens[i].stamp, piece->layer, piece->part, reference->rows);
        page_convert_row(geometry->dtype, reference->rows, PAGE_F32, expected, count);
        for (size_t j = 0; j < count; j++) {
            if (!(fabsf(expected[j]) < LARGE)) /* too large for some dtypes, or no number */
                continue;
            double difference = (double)got[place_of(geometry, piece, i, j)] - (double)expected[j];
            error += difference * difference;
            energy += (double)expected[j] * (double)expected[j];
        }
    }
    double most = level > PAGE_FAST8 ? 0.05 + 0.03 * (1 << level) : 0.05;
    if (page_is_compact(piece->dtype))
        most += 0.3;
    return error <= most * most * energy;
}

static int floor_of(const struct reference_session *session) {
    int floor = session->policy.floor;
    return floor > session->loosened ? floor : session->loosened;
}

/* What is shared is no coarser than the strictest floor of those who have it; but by ids a session
 * may have left them for others' that are as good. */
static int coarsest_allowed(const struct reference *reference, const struct reference_group *group,
                            const struct reference_session *owner) {
    int bound = PAGE_LEVEL_MAX;
    if (group->sharing == SESSION_SHARES_IDS)
        return floor_of(owner);
    for (int i = 0; i < REFERENCE_SESSIONS; i++) {
        const struct reference_session *session = &reference->sessions[i];
        for (uint32_t t = 0; t < session->token_count; t++)
            if (session->tokens[t].group == group && floor_of(session) < bound)
                bound = floor_of(session);
    }
    return bound;
}

bool reference_allows(struct reference *reference, const struct reference_session *session,
                      const struct reference_piece *piece) {
    const struct reference_token *tokens = &session->tokens[piece->first];
    int floor = floor_of(session);
    bool may_be_near = reference->tails_at_fast8 && floor > PAGE_EXACT;
    if (!tokens->group || floor == PAGE_EXACT)
        return is_as_it_came(session->geometry, piece, tokens) ||
               (may_be_near && is_near(reference, session->geometry, piece, tokens, PAGE_FAST8));
    struct search search = {.reference = reference,
                            .group = tokens->group,
                            .piece = piece,
                            .row = tokens->row,
                            .stamps = tokens->group->stamps,
                            .min_snr_db = tokens->group->min_snr_db,
                            .bound = coarsest_allowed(reference, tokens->group, session)};
    const struct page_bytes *seen = last_seen(&search);
    return (seen->page && gives(&search, *seen)) || search_all(&search) ||
           (may_be_near && is_near(reference, session->geometry, piece, tokens, floor));
}

bool reference_is_near(struct reference *reference, const struct geometry *geometry,
                       const struct reference_token *tokens, const struct reference_piece *piece,
                       int level) {
    return is_as_it_came(geometry, piece, tokens) ||
           (level > PAGE_EXACT && is_near(reference, geometry, piece, tokens, level));
}
