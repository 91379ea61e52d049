"""The model that judges: SmolLM2-135M in NumPy, unless another is named (model_transformers.py).

A judge has `name`, `geometry`, encode(text), prefill(ids) -> K and V, and logits_in_runs(k, v, runs):
what it says of each token of some runs that follow each other after a context whose cache is k, v.
K and V are [layers, tokens, heads, head_dim] in float16; what comes back may be any float.
"""

import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "client/python/examples"))
from resume import geometry_of, model_name, open_model  # noqa: E402
from smollm2 import Cache  # noqa: E402

SMOLLM2 = "SmolLM2-135M-Instruct"


class Judge:
    def logits(self, k, v, ids):
        """Of each token of one run after the context."""
        return self.logits_in_runs(k, v, [ids])


class SmolLM2Judge(Judge):
    described = "135 M parameters with 4-bit weights, float32 arithmetic"

    def __init__(self, work):
        self.model = open_model(work)
        self.name, self.geometry = model_name(self.model), geometry_of(self.model)
        self.cache = None

    def encode(self, text):
        return self.model.tokenizer.encode(text).ids

    def prefill(self, ids):
        cache = self._empty_cache(len(ids))
        self.model.forward([ids], cache)
        return cache.export(0)

    def logits_in_runs(self, k, v, runs):
        cache = self._empty_cache(k.shape[1] + sum(map(len, runs)))
        cache.store(0, k, v)
        return np.concatenate([self.model.logits(self.model.forward([ids], cache)[0])
                               for ids in runs])

    def _empty_cache(self, capacity):
        """The last one if it is as large: fresh memory takes longer than what is done in it."""
        if self.cache is None or self.cache.v.shape[-2] != capacity:
            self.cache = Cache(self.model, 1, capacity)
        self.cache.tokens = 0
        return self.cache


def open_judge(name, work):
    """`name`: SMOLLM2, a model that transformers finds under that name, or a GGUF file."""
    if name == SMOLLM2:
        return SmolLM2Judge(work)
    from model_transformers import TransformersJudge

    return TransformersJudge(name)
