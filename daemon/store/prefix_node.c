#include "daemon/store/prefix_node.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/store/chunk.h"
#include "daemon/store/tenant.h"

static bool reserve(struct prefix_index *index, uint64_t bytes) {
    if (!budget_reserve(index->budget, bytes))
        return false;
    atomic_fetch_add(&index->bytes, bytes);
    return true;
}

static void release(struct prefix_index *index, uint64_t bytes) {
    atomic_fetch_sub(&index->bytes, bytes);
    budget_release(index->budget, bytes);
}

static void *take(struct prefix_index *index, uint64_t bytes) {
    if (!reserve(index, bytes))
        return NULL;
    struct prefix_node *node = calloc(1, bytes);
    if (node)
        node->bytes = bytes;
    else
        release(index, bytes);
    return node;
}

static void give(struct prefix_index *index, struct prefix_node *node) {
    release(index, node->bytes + node->child_capacity * sizeof(struct prefix_node *));
    free(node->children);
    free(node);
}

/* --- roots --- */

static bool is_root_of(const struct prefix_root *root, const struct prefix_key *key) {
    const struct prefix_key *own = &root->key;
    return tenant_is(own->tenant, key->tenant) && own->model_bytes == key->model_bytes &&
           memcmp(own->model, key->model, key->model_bytes) == 0 &&
           (!key->geometry || geometry_equal(own->geometry, key->geometry));
}

struct prefix_root *prefix_next_root(struct prefix_root *root, const struct prefix_key *key) {
    while (root && !is_root_of(root, key))
        root = root->next;
    return root;
}

struct prefix_root *prefix_find_root(struct prefix_index *index, const struct prefix_key *key) {
    struct prefix_root *root = prefix_next_root(index->roots, key);
    if (root)
        return root;
    root = take(index, sizeof *root + key->model_bytes);
    if (!root)
        return NULL;
    char *model = (char *)(root + 1);
    memcpy(model, key->model, key->model_bytes);
    root->geometry = *key->geometry;
    root->key = *key;
    root->key.geometry = &root->geometry;
    root->key.model = model;
    root->node.chain_bytes = root->node.bytes;
    root->next = index->roots;
    index->roots = root;
    return root;
}

static void free_root(struct prefix_index *index, struct prefix_node *node) {
    struct prefix_root **link = &index->roots;
    while (&(*link)->node != node)
        link = &(*link)->next;
    *link = (*link)->next;
    give(index, node);
}

/* --- children --- */

/* Where the text stands, or would, among the children. */
static size_t find_place(const struct prefix_node *parent, const struct token_ids *text) {
    size_t low = 0, high = parent->child_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (token_ids_compare(&parent->children[middle]->text, text) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct prefix_node *prefix_find_child(const struct prefix_node *parent,
                                      const struct token_ids *text, size_t *common) {
    size_t place = find_place(parent, text), first = place > 0 ? place - 1 : 0;
    struct prefix_node *best = NULL;
    *common = 0;
    for (size_t i = first; i <= place && i < parent->child_count; i++) {
        size_t agreed = token_ids_common(&parent->children[i]->text, text);
        if (agreed <= *common)
            continue;
        *common = agreed;
        best = parent->children[i];
    }
    return best;
}

/* Takes over what both have, cut to the tokens of each. */
static void copy_text(struct prefix_node *node, const struct token_ids *text,
                      const struct token_ids *more) {
    struct salt *salts = (struct salt *)(node + 1);
    uint32_t *ids = (uint32_t *)(salts + text->salt_count + more->salt_count);
    node->text = (struct token_ids){.first = text->first,
                                    .count = text->count + more->count,
                                    .ids = ids,
                                    .salts = salts,
                                    .salt_count = text->salt_count + more->salt_count};
    const struct token_ids *sources[] = {text, more};
    for (int i = 0; i < 2; i++) {
        const struct token_ids *source = sources[i];
        if (source->count > 0)
            memcpy(ids, source->ids, source->count * sizeof *ids);
        ids += source->count;
        for (size_t j = 0; j < source->salt_count; j++, salts++) {
            *salts = source->salts[j];
            if (salts->first < source->first)
                salts->first = source->first;
            if (salts->end > source->first + source->count)
                salts->end = source->first + source->count;
        }
    }
}

static struct prefix_node *node_new(struct prefix_index *index, struct prefix_node *parent,
                                    const struct token_ids *text, const struct token_ids *more) {
    size_t salts = text->salt_count + more->salt_count, count = text->count + more->count;
    struct prefix_node *node =
        take(index, sizeof *node + salts * sizeof(struct salt) + count * sizeof *text->ids);
    if (!node)
        return NULL;
    copy_text(node, text, more);
    node->parent = parent;
    node->chain_bytes = parent->chain_bytes + node->bytes;
    return node;
}

static bool grow(struct prefix_index *index, struct prefix_node *parent) {
    size_t capacity = parent->child_capacity;
    if (parent->child_count < capacity)
        return true;
    size_t grown_capacity = capacity > 0 ? 2 * capacity : 1;
    uint64_t more_bytes = (grown_capacity - capacity) * sizeof(struct prefix_node *);
    if (!reserve(index, more_bytes))
        return false;
    struct prefix_node **grown =
        realloc(parent->children, grown_capacity * sizeof(struct prefix_node *));
    if (!grown) {
        release(index, more_bytes);
        return false;
    }
    parent->children = grown;
    parent->child_capacity = grown_capacity;
    return true;
}

static void move_children(struct prefix_node *parent, size_t from, size_t to) {
    memmove(parent->children + to, parent->children + from,
            (parent->child_count - from) * sizeof(struct prefix_node *));
}

struct prefix_node *prefix_add_child(struct prefix_index *index, struct prefix_node *parent,
                                     const struct token_ids *text, const struct token_ids *more) {
    struct prefix_node *node = node_new(index, parent, text, more);
    if (!node)
        return NULL;
    size_t place = find_place(parent, &node->text);
    struct prefix_node *there = place < parent->child_count ? parent->children[place] : NULL;
    if (there && token_ids_compare(&there->text, &node->text) == 0) {
        give(index, node);
        return there;
    }
    if (!grow(index, parent)) {
        give(index, node);
        return NULL;
    }
    move_children(parent, place, place + 1);
    parent->children[place] = node;
    parent->child_count++;
    return node;
}

static void remove_child(struct prefix_node *parent, const struct prefix_node *node) {
    size_t place = find_place(parent, &node->text);
    move_children(parent, place + 1, place);
    parent->child_count--;
}

/* --- walks --- */

/* The next node of the tree below `top`, each before its children. */
static const struct prefix_node *next_below(const struct prefix_node *top,
                                            const struct prefix_node *node) {
    if (node->child_count > 0)
        return node->children[0];
    for (; node != top; node = node->parent) {
        size_t place = find_place(node->parent, &node->text) + 1;
        if (place < node->parent->child_count)
            return node->parent->children[place];
    }
    return NULL;
}

struct session *prefix_any_session(const struct prefix_node *top) {
    for (const struct prefix_node *node = top; node; node = next_below(top, node))
        if (node->sessions)
            return node->sessions;
    return NULL;
}

static void withdraw_offers(struct prefix_node *node) {
    for (struct chunk *chunk = node->offers.first, *next; chunk; chunk = next) {
        next = chunk->offer.next;
        chunk->offer.node = NULL; /* not the index, which is read without its lock */
        chunk->offer.next = chunk->offer.previous = NULL;
    }
}

void prefix_prune(struct prefix_index *index, struct prefix_node *node) {
    while (node && node->holders == 0 && node->child_count == 0) {
        struct prefix_node *parent = node->parent;
        if (!parent) {
            free_root(index, node);
            return;
        }
        remove_child(parent, node);
        withdraw_offers(node);
        give(index, node);
        node = parent;
    }
}
