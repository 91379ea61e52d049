"""One prompt, two continuations: the prompt's K and V are stored once.

    python fork.py [--socket PATH]

The values here are made up; in an inference worker they come from the model.
"""

import argparse

import kvquantd
import numpy as np

GEOMETRY = kvquantd.Geometry(layers=16, heads=8, head_dim=64, dtype="float16")
PROMPT_TOKENS, CONTINUATION_TOKENS = 2048, 64


def made_up(tokens, seed):
    """K and V of so many tokens: [layers, tokens, heads, head_dim] each."""
    shape = (2, GEOMETRY.layers, tokens, GEOMETRY.heads, GEOMETRY.head_dim)
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(np.float16)


def show(session):
    info = session.info()
    print(f"{session.name:8} {session.tokens:5} tokens, {info['stored_bytes'] / 2**20:5.2f} MiB, "
          f"{info['unique_bytes'] / 2**20:5.2f} MiB of it its own")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket")
    with kvquantd.connect(parser.parse_args().socket) as client:
        prompt = client.open("prompt", model="none", geometry=GEOMETRY, level=3, new=True)
        prompt.append(*made_up(PROMPT_TOKENS, seed=0), settle=True)
        answers = [prompt.fork(f"answer-{n}") for n in (1, 2)]
        for n, answer in enumerate(answers, start=1):
            answer.append(*made_up(CONTINUATION_TOKENS, seed=n), settle=True)
        for session in (prompt, *answers):
            show(session)
        # Another try from the middle of the first answer: take back half of it and go on.
        answers[0].truncate(PROMPT_TOKENS + CONTINUATION_TOKENS // 2)
        answers[0].append(*made_up(CONTINUATION_TOKENS // 2, seed=3))
        k, v = answers[0].fetch(tokens=range(PROMPT_TOKENS, answers[0].tokens))
        print(f"fetched the answer alone: K and V of {k.shape[1]} tokens, {k.nbytes + v.nbytes} bytes")
        for session in (prompt, *answers):
            session.delete()


if __name__ == "__main__":
    main()
