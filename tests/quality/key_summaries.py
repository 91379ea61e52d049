"""Summaries of keys in NumPy, that the daemon's are compared with, and the attention they let expect.

Keys are [tokens, heads, head_dim] of one layer; what a summary stands for is [blocks, heads, head_dim].
"""

import numpy as np

BLOCK_TOKENS = 4


def block_means(keys, block_tokens=BLOCK_TOKENS):
    blocks = len(keys) // block_tokens
    shape = blocks, block_tokens, *keys.shape[1:]
    return keys[:blocks * block_tokens].reshape(shape).mean(1, dtype=np.float32)


def bounds(keys, block_tokens):
    """Least and largest value of each channel, as in Quest (ICML 2024), uncoded."""
    blocks = len(keys) // block_tokens
    shape = blocks, block_tokens, *keys.shape[1:]
    grouped = keys[:blocks * block_tokens].reshape(shape)
    return grouped.min(1), grouped.max(1)


def products(queries, vectors):
    """[query_heads, n, head_dim] with [blocks, heads, head_dim]: [query_heads, n, blocks]. Query heads
    of one group share a KV head."""
    heads = vectors.shape[1]
    grouped = queries.reshape(heads, -1, queries.shape[-1])
    return (grouped @ vectors.transpose(1, 2, 0)).reshape(*queries.shape[:2], -1)


def attention_to(exponents):
    """Of exponents [query_heads, n, blocks]: the share of attention of each block, and of the heads
    the one that attends to it most."""
    shares = np.exp(exponents - exponents.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return shares.max(0)


def estimate(queries, vectors):
    return attention_to(products(queries, vectors))


def upper_bound(queries, least, largest):
    positive, negative = np.maximum(queries, 0), np.minimum(queries, 0)
    return attention_to(products(positive, largest) + products(negative, least))
