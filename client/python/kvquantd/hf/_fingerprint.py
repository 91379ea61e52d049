"""What a session's `model` is for transformers: a string that other weights do not have."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
from typing import Any, Iterator, Optional

import torch  # type: ignore[import-not-found]

# Of a config: what may differ where K and V are the same.
IRRELEVANT = ("transformers_version", "_name_or_path", "_model_name_or_path", "use_cache", "_attn_implementation",
              "_attn_implementation_internal", "_attn_implementation_autoset", "output_attentions",
              "output_hidden_states", "return_dict", "return_dict_in_generate", "output_scores")
PADDING = ("padding", "truncation")  # of a tokenizer: what a call may have left there


def fingerprint(model: Any, tokenizer: Optional[Any] = None) -> str:
    """A string for `model=` of kvquantd.Client.open(), such as "llama-6f1c...", that is the same in every
    process and differs where these do:

    - the config, but for names, versions and what only generate() reads of it;
    - the weights: every byte of every parameter and saved buffer, with its name, shape and dtype;
    - the tokenizer's vocabulary, merges, normalisation and added tokens, where one is given;
    - adapters as PEFT has them: their weights, which of them are active, merged or disabled, and how they
      are scaled.

    It says nothing of hooks and of code that was changed. It reads all weights: have it once a process, and
    anew when they, or the active adapters, have changed. ValueError: weights that are not here (on "meta",
    as accelerate offloads them).
    """
    told = {
        "config": _config(model.config),
        "weights": _weights(model),
        "tokenizer": None if tokenizer is None else _tokenizer(tokenizer),
        "adapters": list(_adapters(model)),
    }
    return f"{model.config.model_type}-{_digest(_text(told).encode())}"


def _digest(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _config(config: Any) -> Any:
    return _without(config.to_dict(), IRRELEVANT)


def _without(values: Any, names: tuple[str, ...]) -> Any:
    """In all that is nested, too."""
    if isinstance(values, dict):
        return {str(key): _without(of, names) for key, of in values.items() if key not in names}
    if isinstance(values, (list, tuple)):
        return [_without(of, names) for of in values]
    return values


def _weights(model: Any) -> list[list[Any]]:
    named = sorted((name, tensor) for name, tensor in model.state_dict().items()
                   if isinstance(tensor, torch.Tensor))
    with concurrent.futures.ThreadPoolExecutor(torch.get_num_threads()) as pool:
        digests = list(pool.map(_tensor, *zip(*named)))
    return [[name, list(tensor.shape), str(tensor.dtype), digest]
            for (name, tensor), digest in zip(named, digests)]


def _tensor(name: str, tensor: Any) -> str:
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is on meta: give a fingerprint of your own")
    return _digest(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def _tokenizer(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python
        told = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        told = {key: of for key, of in json.loads(backend.to_str()).items() if key not in PADDING}
    return _digest(_text(told).encode())


def _adapters(model: Any) -> Iterator[list[Any]]:
    """Of each layer that has adapters what its weights do not say."""
    for name, module in model.named_modules():
        if hasattr(module, "active_adapters") and hasattr(module, "merged_adapters"):
            yield [name, list(module.active_adapters), list(module.merged_adapters),
                   bool(module.disable_adapters), dict(getattr(module, "scaling", {}))]
