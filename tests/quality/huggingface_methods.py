"""Hugging Face's QuantizedCache, as transformers' own code, with each of its backends that is there.

A cache is filled by one prefill, all of which it quantises, and read as its next step reads it. Its
window of 128 tokens in 16 bits takes what comes after that, and is empty here.
"""

import importlib.util

import numpy as np

NAME = "Hugging Face's QuantizedCache"


class HuggingFaceCache:
    saves_engine_memory = True
    counted = "transformers' QuantizedCache: packed codes, scales and zero points or shifts in float16"
    axis = 0

    def __init__(self, geometry):
        self.geometry = geometry
        self.cache = None

    def encode(self, k, v):
        import torch
        from transformers import LlamaConfig, QuantizedCache

        self.cache = QuantizedCache(self.backend, LlamaConfig(num_hidden_layers=len(k)),
                                    nbits=self.bits, axis_key=self.axis, axis_value=self.axis)
        for i, parts in enumerate(zip(k, v)):
            self.cache.update(*(torch.from_numpy(np.ascontiguousarray(part.swapaxes(0, 1))[None])
                                for part in parts), i)
        return [[self.arrays(quantised) for quantised in (layer._quantized_keys,
                                                          layer._quantized_values)]
                for layer in self.cache.layers]

    def decode(self, stored):
        """Of the cache that holds the arrays."""
        import torch

        heads, head_dim = self.geometry.heads, self.geometry.head_dim
        nothing = torch.empty(1, heads, 0, head_dim, dtype=torch.float16)
        layers = [layer.update(nothing, nothing) for layer in self.cache.layers]
        return [np.stack([part[0].swapaxes(0, 1).numpy() for part in parts])
                for parts in zip(*layers)]


class Quanto(HuggingFaceCache):
    backend = "quanto"

    @staticmethod
    def arrays(tensor):
        return [tensor._data._data, tensor._scale, tensor._shift]


class Hqq(HuggingFaceCache):
    backend, axis = "hqq", 1  # the axis that transformers' documentation recommends

    @staticmethod
    def arrays(quantised):
        codes, meta = quantised
        return [codes, meta["scale"], meta["zero"]]


class Quanto4(Quanto):
    name, bits = "HF quanto, 4 bits", 4


class Quanto2(Quanto):
    name, bits = "HF quanto, 2 bits", 2


class Hqq4(Hqq):
    name, bits = "HF HQQ, 4 bits", 4


class Hqq2(Hqq):
    name, bits = "HF HQQ, 2 bits", 2


BACKENDS = {"optimum": [Quanto4, Quanto2], "hqq": [Hqq4, Hqq2]}


def available():
    """The methods whose packages are installed, and what is to be said of the others."""
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        return [], [f"{NAME}, which needs transformers and torch"]
    methods, left_out = [], []
    for package, of_backend in BACKENDS.items():
        if importlib.util.find_spec(package):
            methods += of_backend
        else:
            left_out.append(f"{NAME} with {of_backend[0].backend}, whose package is not installed")
    return methods, left_out
