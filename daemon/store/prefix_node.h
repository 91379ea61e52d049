/* The nodes of the prefix index; all with its lock held. */
#ifndef DAEMON_STORE_PREFIX_NODE_H
#define DAEMON_STORE_PREFIX_NODE_H

#include "daemon/store/prefix.h"

struct prefix_node {
    struct prefix_node *parent;    /* NULL: a root */
    struct prefix_node **children; /* sorted by token_ids_compare() */
    size_t child_count, child_capacity;
    size_t holders;           /* sessions that stand here, */
    struct session *sessions; /* and those of them that can be found */
    struct {
        struct chunk *first, *last;
    } offers;
    uint64_t bytes, chain_bytes; /* of the budget; with all parents' */
    struct token_ids text;       /* in the node's own memory; of a root none */
};

struct prefix_root {
    struct prefix_node node;
    struct prefix_root *next;
    struct geometry geometry;
    struct prefix_key key; /* model and geometry are the root's own */
};

/* The root itself, or the next behind it, that this key means; NULL behind the last. */
struct prefix_root *prefix_next_root(struct prefix_root *root, const struct prefix_key *key);

/* The root of this key, made if there is none. NULL at the memory limit. */
struct prefix_root *prefix_find_root(struct prefix_index *index, const struct prefix_key *key);

/* The parent's child of these tokens, of which `more` stand behind `text`; made if there is none.
 * NULL at the memory limit. */
struct prefix_node *prefix_add_child(struct prefix_index *index, struct prefix_node *parent,
                                     const struct token_ids *text, const struct token_ids *more);

/* The child that agrees with the text in the most tokens, and in how many; NULL if none does. */
struct prefix_node *prefix_find_child(const struct prefix_node *parent,
                                      const struct token_ids *text, size_t *common);

/* A session that can be found at this node or below, or NULL. */
struct session *prefix_any_session(const struct prefix_node *top);

/* Frees the node, and those before it, as far as nobody needs them. */
void prefix_prune(struct prefix_index *index, struct prefix_node *node);

#endif
