#include "daemon/store/prefix.h"

#include <string.h>

#include "daemon/store/error.h"
#include "daemon/store/prefix_node.h"
#include "daemon/store/session.h"

static const struct token_ids nothing;

void prefix_init(struct prefix_index *index, struct budget *budget) {
    *index = (struct prefix_index){.budget = budget};
    pthread_mutex_init(&index->lock, NULL);
}

void prefix_deinit(struct prefix_index *index) {
    pthread_mutex_destroy(&index->lock);
}

/* --- where sessions stand --- */

static uint64_t end_of(const struct prefix_node *node) {
    return node->text.first + node->text.count;
}

static void list(struct session *session) {
    struct prefix_place *place = &session->prefix;
    place->listed = true;
    place->previous = NULL;
    place->next = place->node->sessions;
    if (place->next)
        place->next->prefix.previous = session;
    place->node->sessions = session;
    atomic_fetch_add(&place->index->full_bytes, place->node->chain_bytes);
}

static void unlist(struct session *session) {
    struct prefix_place *place = &session->prefix;
    *(place->previous ? &place->previous->prefix.next : &place->node->sessions) = place->next;
    if (place->next)
        place->next->prefix.previous = place->previous;
    place->listed = false;
    atomic_fetch_sub(&place->index->full_bytes, place->node->chain_bytes);
}

/* Moves the session to a node, or with NULL or a root to nowhere. */
static void move(struct prefix_index *index, struct session *session, struct prefix_node *node) {
    struct prefix_place *place = &session->prefix;
    struct prefix_node *old = place->node;
    bool listed = old ? place->listed : session->listed;
    if (node && !node->parent)
        node = NULL;
    if (node)
        node->holders++;
    if (old) {
        if (listed)
            unlist(session);
        old->holders--;
    }
    *place = (struct prefix_place){
        .index = index, .node = node, .tokens = node ? end_of(node) : 0, .cuts = place->cuts};
    if (node && listed)
        list(session);
    if (old)
        prefix_prune(index, old);
}

static struct prefix_key key_of(const struct session *session) {
    return (struct prefix_key){.tenant = session->tenant,
                               .model = session->model,
                               .model_bytes = session->model_bytes,
                               .geometry = &session->geometry};
}

/* The node at the end of these ids behind a node, or NULL at the memory limit, when all that was
 * made is gone again, the first node too if nobody needs it. */
static struct prefix_node *add_behind(struct prefix_index *index, struct prefix_node *node,
                                      struct token_ids rest, size_t page_tokens) {
    while (rest.count > 0) {
        bool fills = node->parent && node->text.count < page_tokens;
        const struct token_ids *before = fills ? &node->text : &nothing;
        struct token_ids more = token_ids_head(&rest, page_tokens - before->count);
        struct prefix_node *parent = fills ? node->parent : node;
        struct prefix_node *next = fills ? prefix_add_child(index, parent, before, &more)
                                         : prefix_add_child(index, parent, &more, &nothing);
        if (!next) {
            prefix_prune(index, node);
            return NULL;
        }
        node = next;
        rest = token_ids_behind(&rest, more.count);
    }
    return node;
}

int prefix_extend(struct prefix_index *index, struct session *session,
                  const struct token_ids *text) {
    if (text->first != session->prefix.tokens || text->count == 0)
        return STORE_OK;
    struct prefix_key key = key_of(session);
    pthread_mutex_lock(&index->lock);
    struct prefix_node *node = session->prefix.node;
    if (!node) {
        struct prefix_root *root = prefix_find_root(index, &key);
        node = root ? &root->node : NULL;
    }
    if (node)
        node = add_behind(index, node, *text, session->page_tokens);
    if (node)
        move(index, session, node);
    pthread_mutex_unlock(&index->lock);
    return node ? STORE_OK : STORE_FULL;
}

/* The node of its first tokens; where there is no memory for one within a page, that before. */
static struct prefix_node *node_at(struct prefix_index *index, struct prefix_node *node,
                                   uint64_t tokens) {
    while (node->parent && node->text.first >= tokens)
        node = node->parent;
    if (!node->parent || end_of(node) <= tokens)
        return node;
    struct token_ids head = token_ids_head(&node->text, tokens - node->text.first);
    struct prefix_node *cut = prefix_add_child(index, node->parent, &head, &nothing);
    return cut ? cut : node->parent;
}

void prefix_cut(struct session *session, uint64_t tokens) {
    struct prefix_index *index = session->prefix.index;
    if (session->prefix.tokens <= tokens)
        return;
    pthread_mutex_lock(&index->lock);
    move(index, session, node_at(index, session->prefix.node, tokens));
    session->prefix.cuts++;
    pthread_mutex_unlock(&index->lock);
}

void prefix_fork(const struct session *source, struct session *target, uint64_t tokens) {
    struct prefix_index *index = source->prefix.index;
    if (source->prefix.tokens == 0)
        return;
    pthread_mutex_lock(&index->lock);
    struct prefix_node *node = node_at(index, source->prefix.node, tokens);
    if (node->parent) {
        node->holders++;
        target->prefix =
            (struct prefix_place){.index = index, .node = node, .tokens = end_of(node)};
    }
    pthread_mutex_unlock(&index->lock);
}

void prefix_enter(struct session *session) {
    struct prefix_index *index = session->prefix.index;
    if (!session->prefix.node)
        return;
    pthread_mutex_lock(&index->lock);
    list(session);
    pthread_mutex_unlock(&index->lock);
}

void prefix_leave(struct session *session) {
    struct prefix_index *index = session->prefix.index;
    if (!session->prefix.node)
        return;
    pthread_mutex_lock(&index->lock);
    move(index, session, NULL);
    pthread_mutex_unlock(&index->lock);
}

void prefix_bytes(const struct session *session, uint64_t *all, uint64_t *unique) {
    const struct prefix_place *place = &session->prefix;
    *all = *unique = 0;
    if (!place->node)
        return;
    pthread_mutex_lock(&place->index->lock);
    *all = place->node->chain_bytes;
    for (const struct prefix_node *node = place->node;
         node && node->holders + node->child_count <= 1; node = node->parent)
        *unique += node->bytes;
    pthread_mutex_unlock(&place->index->lock);
}

void prefix_each(const struct session *session,
                 void (*take)(void *context, const struct token_ids *page), void *context) {
    const struct prefix_place *place = &session->prefix;
    if (!place->node)
        return;
    pthread_mutex_lock(&place->index->lock);
    for (const struct prefix_node *node = place->node; node->parent; node = node->parent)
        take(context, &node->text);
    pthread_mutex_unlock(&place->index->lock);
}

/* --- match --- */

/* Below a root: the session, not referenced, that agrees in the most tokens. */
static struct session *match_below(struct prefix_root *root, const struct token_ids *text,
                                   uint64_t *tokens) {
    size_t page_tokens = geometry_page_tokens(root->key.geometry), common = page_tokens;
    const struct prefix_node *node = &root->node, *best = node;
    struct token_ids rest = *text;
    struct session *session = NULL;
    while (best && common == page_tokens && rest.count > 0) {
        struct token_ids page = token_ids_head(&rest, page_tokens);
        best = prefix_find_child(node, &page, &common);
        node = best ? best : node;
        *tokens = best ? node->text.first + common : end_of(node);
        rest = token_ids_behind(&rest, page.count);
    }
    /* One that is just being forked stands there and cannot be found yet. */
    for (; node->parent && !(session = prefix_any_session(node)); node = node->parent)
        *tokens = node->text.first;
    return session;
}

struct session *prefix_match(struct prefix_index *index, const struct prefix_key *key,
                             const struct token_ids *text, struct prefix_match *match) {
    struct session *found = NULL;
    *match = (struct prefix_match){0};
    pthread_mutex_lock(&index->lock);
    for (struct prefix_root *root = prefix_next_root(index->roots, key); root;
         root = prefix_next_root(root->next, key)) {
        uint64_t agreed = 0;
        struct session *session = match_below(root, text, &agreed);
        if (!session || agreed <= match->tokens)
            continue;
        found = session;
        *match = (struct prefix_match){agreed, session->prefix.cuts};
    }
    if (found)
        session_ref(found);
    pthread_mutex_unlock(&index->lock);
    return found;
}
