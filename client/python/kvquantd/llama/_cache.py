"""A cache for llama-cpp-python that keeps its states in the daemon."""

from __future__ import annotations

import struct
import weakref
from typing import Any, Optional, Sequence, Union

import llama_cpp  # type: ignore[import-not-found]
import numpy as np
from llama_cpp.llama_cache import BaseLlamaCache  # type: ignore[import-not-found]

from .._breaker import Breaker
from .._client import Client
from .._duration import Duration
from .._geometry import Level
from .._policy import Policy
from ._model import digest_of_files, digest_of_settings, files_of, model_name
from ._state import NotUnderstood
from ._store import Kept, Store

CONTEXT_SETTINGS = [
    "type_k", "type_v", "flash_attn_type", "swa_full", "rope_scaling_type", "rope_freq_base",
    "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow",
    "yarn_orig_ctx"]
NO_TOKEN = -1


class Cache(BaseLlamaCache):  # type: ignore[misc]
    """`llama.set_cache(Cache(llama))`: what the model has read is in the daemon, for this process and others.

    A prompt gets the longest prefix that any session of this model, at this level, begins with; what is
    stored of a new state is only the tokens that no session has. The daemon may be gone, frozen, full or slow:
    that is a miss, see kvquantd.Breaker. A daemon that others write to is trusted as far as its
    bytes go: what it has is given to llama.cpp.

    There is no len(): llama-cpp-python would take an empty cache for none.
    """

    def __init__(
        self,
        llama: Any,
        breaker: Union[Breaker, str, None] = None,
        *,
        level: Level = 3,
        model: Optional[str] = None,
        policy: Optional[Policy] = None,
        deadline: Duration = 5.0,
    ) -> None:
        """llama: the llama_cpp.Llama that it is for. breaker: or the daemon's socket, None: the usual
        places, then with deadline, for each state in seconds or a timedelta. level: "exact",
        "fast8" or 0 to 5. model: names the weights, the tokenizer and the adapters; None: by the
        contents of their files, which are read once for it. What changes K and V besides is added to
        it. policy: how new sessions are kept.

        ValueError: the model keeps the scores of all tokens (logits_all), which are not stored.
        """
        super().__init__()
        if llama._logits_all and llama.draft_model is None:
            raise ValueError("logits_all: the scores of restored tokens would not be there")
        if not isinstance(breaker, Breaker):
            breaker = Breaker(breaker, deadline=deadline)
        self.breaker = breaker
        self._llama = weakref.ref(llama)
        name = f"llama.cpp/{model or _weights(llama)}/{_settings(llama)}/level={level}"
        self._store = Store(name, level, _kv_heads(llama.metadata), policy)
        self._kept: Optional[Kept] = None
        self._hits = self._refused = 0

    @property
    def model(self) -> str:
        """What its sessions' model is called."""
        return self._store.model

    def __getitem__(self, key: Sequence[int]) -> Any:
        """A llama_cpp.LlamaState of the most of these tokens. KeyError: no session has more of them than the
        engine itself holds."""
        llama, ids = self._llama(), _ids(key)
        if llama is None or not _are_ids(ids):
            raise KeyError("not token ids")
        held = _common(llama.input_ids[: llama.n_tokens], ids)
        found = self.breaker.run(lambda client: self._store.get(client, ids, held))
        if found is None or found[0] > llama.n_ctx():
            raise KeyError("no session has more of these tokens")
        self._hits += 1
        tokens, state = found
        return _restored(llama, ids[:tokens], state)

    def __contains__(self, key: Sequence[int]) -> bool:
        """Whether a session begins as these tokens do."""
        ids = _ids(key)
        if not _are_ids(ids):
            return False
        return bool(self.breaker.run(lambda client: client.match(ids, self.model)))

    def __setitem__(self, key: Sequence[int], value: Any) -> None:
        """Stores what is new of a llama_cpp.LlamaState; of which tokens, it says itself."""
        ids = _ids(value.input_ids[: value.n_tokens])
        if not _are_ids(ids):
            self._refused += 1
            return
        before, body = _split(value.llama_state)
        try:
            kept = self.breaker.run(
                lambda client: self._store.put(client, ids, before, body), writes=True)
        except NotUnderstood:
            kept = None
        self._refused += kept is None
        self._kept = kept or self._kept

    @property
    def cache_size(self) -> int:
        """Bytes that the daemon has stored for this model, what sessions share counted once; 0 where
        it does not say."""
        return self.breaker.run(self._stored_bytes, 0)

    def _stored_bytes(self, client: Client) -> int:
        found = client.sessions()
        return sum(int(each["unique_bytes"]) for each in found if each["model"] == self.model)

    def report(self) -> dict[str, Any]:
        """What became of the last state that was stored, and how often what happened.

        how: as "values, level 3", "values of q8_0, level 3", "exact rows" or "whole"; why: it is
        kept whole. tokens; new_tokens: those that were sent. state_bytes: as llama.cpp has it;
        stored_bytes: of its session; ratio: of the two. None before there is any, or where the daemon does
        not say. hits; misses: as the breaker counts them; refused: states that are not stored.
        """
        kept = self._kept
        stored = kept and self.breaker.run(lambda client: _session_bytes(client, kept.session))
        return {
            "how": kept and kept.how, "why": kept and kept.why, "tokens": kept and kept.tokens,
            "new_tokens": kept and kept.new_tokens, "state_bytes": kept and kept.state_bytes,
            "stored_bytes": stored or None, "ratio": kept.state_bytes / stored if kept and stored else None,
            "hits": self._hits, "misses": self.breaker.misses, "refused": self._refused}


def _session_bytes(client: Client, name: str) -> int:
    session = client.open(name)
    attached: int = sum(each["stored_bytes"] for each in session.attachments())
    stored: int = session.info()["stored_bytes"]
    return max(stored, attached)


def _ids(given: Any) -> Any:
    return np.asarray(given, np.intc)


def _are_ids(ids: Any) -> bool:
    """Those of images and audio are negative, and say nothing of what is there."""
    return bool(ids.size and ids.min() >= 0)


def _common(a: Any, b: Any) -> int:
    count = min(len(a), len(b))
    differ = np.flatnonzero(a[:count] != b[:count])
    return int(differ[0]) if differ.size else count


def _split(state: Any) -> tuple[bytes, Any]:
    """The architecture's name, with its length before it, and the rest."""
    view = memoryview(state).cast("B")
    (length,) = struct.unpack_from("=I", view) if len(view) >= 4 else (0,)
    return bytes(view[: 4 + length]), view[4 + length :]


def _restored(llama: Any, ids: Any, state: Any) -> Any:
    """load_state() takes the token ids for all of the context, and copies the scores over as many rows:
    one zero stands for all, and takes no memory."""
    input_ids = np.full(llama.n_ctx(), NO_TOKEN, np.intc)
    input_ids[: len(ids)] = ids
    return llama_cpp.llama.LlamaState(
        input_ids=input_ids, scores=np.zeros((1, 1), np.single), n_tokens=len(ids),
        llama_state=state, llama_state_size=len(state), seed=llama._seed)


def _kv_heads(metadata: dict[str, str]) -> Optional[int]:
    arch = metadata.get("general.architecture", "")
    heads = metadata.get(f"{arch}.attention.head_count_kv", "")
    return int(heads) if heads.isdigit() else None


def _weights(llama: Any) -> str:
    adapters = [path for path in (llama.lora_path, llama.lora_base) if path]
    added = [digest_of_files(files_of(path)) for path in adapters]
    settings = digest_of_settings((added, llama.lora_scale)) if added else ""
    return model_name(llama.model_path) + (f"+{settings}" if settings else "")


def _settings(llama: Any) -> str:
    """Of what changes K and V, or how a state is written. Where positions are scaled by how long the
    context is, that too."""
    parameters = llama.context_params
    values = [getattr(parameters, name) for name in CONTEXT_SETTINGS]
    arch = llama.metadata.get("general.architecture", "")
    by_length = f"{arch}.rope.scaling.original_context_length" in llama.metadata
    context = llama.n_ctx() if by_length else None
    overrides = sorted((llama.kv_overrides or {}).items())
    return digest_of_settings((llama_cpp.LLAMA_SESSION_VERSION, values, overrides, context))
