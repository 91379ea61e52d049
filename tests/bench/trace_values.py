"""K and V of a trace's blocks: a page of a real model, its tokens in an order that the block's id draws.

So every block takes the bits of real values, and is told from any other by its values.
"""

import pathlib

import kvquantd
import numpy as np

SAMPLE = pathlib.Path(__file__).resolve().parents[1] / "samples" / "smollm2-layer12.f16"
PAGE_TOKENS, HEADS, HEAD_DIM = 128, 3, 64  # of the sample
LAYERS = 2
BLOCK_BYTES = 2 * LAYERS * PAGE_TOKENS * HEADS * HEAD_DIM * 2
LOOKED_AT = slice(5, PAGE_TOKENS, 31)  # tokens of a block; the first 4 of a session are kept exactly


def geometry():
    return kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=HEAD_DIM, dtype="float16")


def token_ids(blocks):
    """Of the blocks' tokens: no two blocks have one in common."""
    first = np.array(blocks, np.uint32)[:, None] * PAGE_TOKENS
    return (first + np.arange(PAGE_TOKENS, dtype=np.uint32)).ravel()


def room(blocks):
    """K and V of so many blocks, to be filled."""
    shape = (LAYERS, blocks * PAGE_TOKENS, HEADS, HEAD_DIM)
    return np.empty(shape, np.float16), np.empty(shape, np.float16)


class Values:
    def __init__(self):
        self.pages = np.fromfile(SAMPLE, "<f2").reshape(2, PAGE_TOKENS, HEADS, HEAD_DIM)
        pages = self.pages.astype(np.float32)
        self.deviations = (pages - pages.mean(axis=1, keepdims=True)).std(axis=(1, 2, 3))

    @staticmethod
    def orders(block):
        random = np.random.Generator(np.random.PCG64(block))
        return [random.permutation(PAGE_TOKENS) for _ in range(LAYERS)]

    def fill(self, blocks, pair):
        """Writes the blocks' K and V to the beginning of pair; returns just those."""
        for index, block in enumerate(blocks):
            tokens = slice(index * PAGE_TOKENS, (index + 1) * PAGE_TOKENS)
            for layer, order in enumerate(self.orders(block)):
                for page, out in zip(self.pages, pair):
                    np.take(page, order, axis=0, out=out[layer, tokens], mode="clip")
        return [part[:, :len(blocks) * PAGE_TOKENS] for part in pair]

    def others(self, blocks, pair):
        """How many of the blocks are not what pair holds: their K is off by more than its deviation.
        (At level 5 half of it is lost; another block is off by 1.4 times the deviation.)"""
        k = pair[0][:, :len(blocks) * PAGE_TOKENS].reshape(LAYERS, len(blocks), PAGE_TOKENS, HEADS, HEAD_DIM)
        found = k[:, :, LOOKED_AT].astype(np.float32)
        orders = np.array([self.orders(block) for block in blocks])[:, :, LOOKED_AT].swapaxes(0, 1)
        off = np.sqrt(np.square(found - self.pages[0][orders]).mean(axis=(0, 2, 3, 4)))
        return int((off > self.deviations[0]).sum())

    def decibels(self, blocks, pair):
        """What is left of K and of V in pair: energy over squared error; infinite if nothing is lost."""
        kept = []
        for true, found in zip(self.fill(blocks, room(len(blocks))), pair):
            true, found = true.astype(np.float32), found[:, :true.shape[1]].astype(np.float32)
            error = np.square(found - true).sum(dtype=float)
            energy = np.square(true).sum(dtype=float)
            kept.append(10 * np.log10(energy / error) if error else np.inf)
        return kept
