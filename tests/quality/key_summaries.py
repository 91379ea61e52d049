"""Summaries of keys in NumPy, as proto/page/SUMMARY.md has them, and others that they are compared with.

Keys are [tokens, heads, head_dim] of one layer; what a summary stands for is [blocks, heads, head_dim].
"""

import numpy as np

CHUNK_TOKENS = 128
BLOCK_TOKENS = 4
BITS = 3
STEP_DEVIATIONS = {2: 1.0, 3: 0.6, 4: 0.34}  # about the best of a Gaussian


def block_means(keys, block_tokens=BLOCK_TOKENS):
    blocks = len(keys) // block_tokens
    shape = blocks, block_tokens, *keys.shape[1:]
    return keys[:blocks * block_tokens].reshape(shape).mean(1, dtype=np.float32)


def coded_chunk(means, bits):
    """Block means of a chunk, coded around their own mean: one centre and one step a channel, at 8
    bits each with a scale a head."""
    centre = means.mean(0)
    step = np.float32(STEP_DEVIATIONS[bits]) * means.std(0)
    centre = np.rint(centre / (unit := scale_of(np.abs(centre), 127))) * unit
    step = np.maximum(np.rint(step / (unit := scale_of(step, 255))), 1) * unit
    half = 1 << (bits - 1)
    codes = (np.floor((means - centre) / step) + half).clip(0, 2 * half - 1)
    return centre + (codes - (half - np.float32(0.5))) * step


def scale_of(values, largest):
    scale = (values.max(-1, keepdims=True) / largest).astype(np.float16).astype(np.float32)
    return np.maximum(scale, np.float32(2.0 ** -24))


def summary(keys, bits=BITS):
    """What the daemon keeps: the mean of each block of 4 tokens."""
    return np.concatenate([coded_chunk(block_means(keys[first:first + CHUNK_TOKENS]), bits)
                           for first in range(0, len(keys), CHUNK_TOKENS)
                           if first + BLOCK_TOKENS <= len(keys)])


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
