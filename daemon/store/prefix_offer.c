/* Chunks that sessions offer to each other, at the nodes of their tokens. */
#include "daemon/store/prefix_node.h"
#include "daemon/store/session.h"

static void add(struct prefix_index *index, struct prefix_node *node, struct chunk *chunk) {
    struct chunk *last = node->offers.last;
    chunk->offer = (struct prefix_offer){.index = index, .node = node, .previous = last};
    *(last ? &last->offer.next : &node->offers.first) = chunk;
    node->offers.last = chunk;
}

/* Whether it holds all tokens of a page, and the node their ids. */
static bool is_page(const struct slice *slice, const struct prefix_node *node, size_t page_tokens) {
    return slice->first == 0 && slice->tokens == page_tokens &&
           slice->chunk->tokens == page_tokens && node->text.count == page_tokens &&
           node->text.first == slice->start;
}

bool prefix_offer(struct session *session, uint64_t from) {
    struct prefix_index *index = session->prefix.index;
    struct prefix_node *node = session->prefix.node;
    bool has_rivals = false;
    if (!node)
        return false;
    pthread_mutex_lock(&index->lock);
    for (size_t i = session->slice_count; i-- > 0 && session->slices[i].start >= from;) {
        const struct slice *slice = &session->slices[i];
        while (node->parent && node->text.first > slice->start)
            node = node->parent;
        if (!is_page(slice, node, session->page_tokens) || slice->chunk->offer.node)
            continue;
        has_rivals |= node->offers.first != NULL;
        add(index, node, slice->chunk);
    }
    pthread_mutex_unlock(&index->lock);
    return has_rivals;
}

void prefix_withdraw(struct chunk *chunk) {
    struct prefix_offer *offer = &chunk->offer;
    pthread_mutex_lock(&offer->index->lock);
    if (offer->node) {
        struct chunk *next = offer->next, *previous = offer->previous;
        *(previous ? &previous->offer.next : &offer->node->offers.first) = next;
        *(next ? &next->offer.previous : &offer->node->offers.last) = previous;
        offer->node = NULL;
    }
    pthread_mutex_unlock(&offer->index->lock);
}

size_t prefix_rivals(struct prefix_index *index, const struct chunk *chunk, struct chunk **rivals,
                     size_t most) {
    size_t count = 0;
    pthread_mutex_lock(&index->lock);
    const struct prefix_node *node = chunk->offer.node;
    for (struct chunk *rival = node ? node->offers.first : NULL;
         rival && rival != chunk && count < most; rival = rival->offer.next) {
        chunk_ref(rival);
        rivals[count++] = rival;
    }
    pthread_mutex_unlock(&index->lock);
    return count;
}
