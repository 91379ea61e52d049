"""Any causal language model that transformers can open, as a judge (models.py says what that is)."""

import pathlib

import kvquantd
import numpy as np
import torch
from models import Judge
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

PREFILL_BLOCK_TOKENS = 512


class TransformersJudge(Judge):
    """In float32 on a processor, in the model's own dtype on an accelerator."""

    def __init__(self, name):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = "auto" if self.device == "cuda" else torch.float32
        path = pathlib.Path(name)
        where = {"pretrained_model_name_or_path": name}
        if path.suffix == ".gguf":
            where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        self.model = AutoModelForCausalLM.from_pretrained(**where, dtype=dtype)
        self.model.to(self.device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(**where)
        self.name = path.stem if path.exists() else name
        self.geometry = geometry_of(self.model.config)
        self.described = (f"{self.model.num_parameters() / 1e6:.0f} M parameters, "
                          f"{self.model.dtype} arithmetic".replace("torch.", ""))

    def encode(self, text):
        return self.tokenizer(text, verbose=False)["input_ids"]

    @torch.inference_mode()
    def prefill(self, ids):
        cache = DynamicCache()
        for first in range(0, len(ids), PREFILL_BLOCK_TOKENS):
            self._forward(ids[first:first + PREFILL_BLOCK_TOKENS], cache, logits_to_keep=1)
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        return [np.stack([part[0].swapaxes(0, 1).half().cpu().numpy() for part in parts])
                for parts in zip(*layers)]

    @torch.inference_mode()
    def logits_in_runs(self, k, v, runs):
        cache = DynamicCache()
        for i, parts in enumerate(zip(k, v)):
            cache.update(*map(self._tensor, parts), i)
        return np.concatenate([self._forward(ids, cache).logits[0].float().cpu().numpy()
                               for ids in runs])

    def _forward(self, ids, cache, **options):
        return self.model(torch.tensor([ids], device=self.device), past_key_values=cache,
                          use_cache=True, **options)

    def _tensor(self, part):
        """[batch, heads, tokens, head_dim] of one layer's K or V."""
        whole = torch.from_numpy(np.ascontiguousarray(part.swapaxes(0, 1))[None])
        return whole.to(self.device, self.model.dtype)


def geometry_of(config):
    config = config.get_text_config(decoder=True)
    other = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    if other:
        raise SystemExit(f"layers of the kinds {', '.join(other)} do not keep K and V of all tokens")
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = (getattr(config, "head_dim", None)
                or config.hidden_size // config.num_attention_heads)
    rope = getattr(config, "rope_parameters", None) or {}
    plain = rope.get("rope_type", "default") == "default" and "rope_theta" in rope
    dims = int(head_dim * rope.get("partial_rotary_factor", 1))
    return kvquantd.Geometry(
        layers=config.num_hidden_layers, heads=heads, head_dim=head_dim, dtype="float16",
        rope=kvquantd.Rope(theta=rope["rope_theta"], pairing="half", dims=dims) if plain else None)
