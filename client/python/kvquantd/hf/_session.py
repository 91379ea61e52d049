"""A chat whose K and V are in the daemon between its turns."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Sequence, TypeVar, Union

import numpy as np
import torch  # type: ignore[import-not-found]
from transformers.cache_utils import DynamicCache, DynamicLayer  # type: ignore[import-not-found]

from .._breaker import Breaker
from .._client import Client
from .._duration import Duration
from .._errors import Miss, VersionChanged
from .._geometry import Geometry, Level
from .._policy import Policy
from .._session import Session as Stored
from .._token_ids import Match, Salt
from ._cache import _shares_layers
from ._fingerprint import fingerprint as fingerprint_of
from ._layer import CompressedLayer
from ._pages import DTYPE_NAMES

T = TypeVar("T")
Ids = Union[Sequence[int], Any]

# Fewer than so many tokens of another session are not worth that its memory stays for them.
BORROWED_TOKENS_MIN = 32
ATTEMPTS = 3  # where others change what was found


class Restored(NamedTuple):
    """A cache for generate(past_key_values=...), and how many tokens it holds; 0: a miss."""

    cache: Any
    tokens: int


class Session:
    """A chat of a model, by name, that any process can go on with.

        session = kvquantd.hf.Session("chat-1", model, tokenizer)
        cache, tokens = session.restore(inputs["input_ids"])
        out = model.generate(**inputs, past_key_values=cache)
        session.save(out, cache)

    It is kept with its token ids: restore() finds the longest prefix of the prompt that this chat, or
    another of this model and level, has in the daemon, so that a history that was changed, and a new
    chat that begins as another, go on from what is the same. save() sends what is new and nothing else:
    what was found is a fork of what the daemon has, and is not coded again there.

    A daemon that is gone, frozen, full or slow is a miss: the model reads the whole prompt. See
    kvquantd.Breaker. So is a session of another fingerprint: see fingerprint().

    One sequence without padding, on layers that all keep the K and V of every token, of one shape. ValueError, at
    once: a model with a sliding window, recurrent state, an encoder, or layers that use another's K and V.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Optional[Any] = None,
        *,
        socket: Optional[str] = None,
        level: Level = 3,
        policy: Optional[Policy] = None,
        deadline: Duration = 5.0,
        breaker: Optional[Breaker] = None,
        fingerprint: Optional[str] = None,
        make_cache: Optional[Callable[[], Any]] = None,
    ) -> None:
        """level, policy: how the daemon keeps it, as in Client.open(). deadline: of restore() and of
        save(), seconds or a timedelta. make_cache: makes an empty cache that restore() fills; None: a
        DynamicCache of the model's config.

        What takes its time once a process is to be shared by its sessions: breaker, which stands for
        socket and deadline, and fingerprint, which stands for model and tokenizer:

            shared = {"breaker": kvquantd.Breaker(deadline=5), "fingerprint": fingerprint(model, tokenizer)}
            session = Session("chat-1", model, **shared)
        """
        _check_model(model.config)
        self.name = name
        self.fingerprint = fingerprint or fingerprint_of(model, tokenizer)
        self.breaker = breaker or Breaker(socket, deadline=deadline)
        self._level, self._policy = level, policy
        # Levels do not mix: what is kept coarser is no prefix of this.
        self._salt = f"level {level}".encode()
        self._make_cache = make_cache or (lambda: DynamicCache(config=model.config))
        self._dtype, self._device = model.dtype, model.device

    def restore(self, input_ids: Ids) -> Restored:
        """The longest prefix of these token ids that the daemon has, but for the last, which the model has
        to read: (cache, tokens). input_ids: [1, tokens] as generate() takes them, or a list.

        On a miss the cache is empty. ValueError: more than one sequence.
        """
        ids = _ids_of(input_ids)
        found = self.breaker.run(lambda client: self._fetch(client, ids)) if ids.size > 1 else None
        cache = self._make_cache()
        if found is None:
            return Restored(cache, 0)
        for index, (k, v) in enumerate(zip(*found)):
            cache.update(k[None].to(self._device), v[None].to(self._device), index)
        return Restored(cache, found[0].shape[2])

    def save(self, ids: Ids, cache: Any) -> int:
        """Stores the cache under the name, in place of what there was, and returns of how many tokens; 0: a
        miss, nothing or not all is stored. ids: those of all tokens in the cache, as generate() returns
        them, [1, tokens] or a list; one more, that was not read yet, is left out.

        The session of another model under this name is replaced. ValueError: more than one
        sequence, fewer ids than the cache has tokens, or layers of unlike shape.
        """
        given, exported = _ids_of(ids), Exported(cache)
        if given.size < exported.tokens:
            raise ValueError(f"the cache has {exported.tokens} tokens, and there are {given.size} ids")
        kept = given[: exported.tokens]
        work: Callable[[Client], int] = lambda client: self._store(client, kept, exported)
        return self.breaker.run(work, 0, writes=True) if exported.tokens else 0

    # ---- In a run of the breaker ----

    def _match(self, client: Client, ids: Any) -> Optional[Match]:
        found = client.match(ids, self.fingerprint, [Salt(0, len(ids), self._salt)])
        if found is None or (found[0] != self.name and found[1] < BORROWED_TOKENS_MIN):
            return None
        return found

    def _fetch(self, client: Client, ids: Any) -> Optional[tuple[Any, Any]]:
        """K and V [layers, heads, tokens, head_dim]."""

        def attempt() -> Optional[tuple[Any, Any]]:
            found = self._match(client, ids)
            if found is None:
                return None
            session = client.open(found[0], model=self.fingerprint)
            tokens = min(found[1], len(ids) - 1)
            shape, of = session.geometry, (session.geometry.layers, session.geometry.heads, tokens)
            k, v = (torch.empty(*of, dim, dtype=self._dtype) for dim in (shape.head_dim, shape.head_dim_v))
            out = k.transpose(1, 2), v.transpose(1, 2)
            session.fetch(range(tokens), out=out, dtype=DTYPE_NAMES[self._dtype], if_version=found.version)
            return k, v

        return _repeated(attempt)

    def _store(self, client: Client, ids: Any, exported: Exported) -> int:
        session = _repeated(lambda: self._begin(client, ids, exported.geometry))
        first = session.tokens
        new, salts = ids[first:], [Salt(first, len(ids) - first, self._salt)]
        session.append(*exported.since(first), first, new, salts=salts)
        stored = client.match(ids, self.fingerprint, [Salt(0, len(ids), self._salt)])
        if stored is None or stored[1] < len(ids):  # somebody else has written to it meanwhile
            client.delete(self.name)
            return 0
        return len(ids)

    def _begin(self, client: Client, ids: Any, geometry: Geometry) -> Stored:
        """The session of this name, with what there is of these ids and nothing else."""
        found = self._match(client, ids)
        source = None if found is None else client.open(found[0], model=self.fingerprint)
        if found is None or source is None:
            self._delete(client)
            return client.open(self.name, model=self.fingerprint, geometry=geometry,
                               level=self._level, policy=self._policy, new=True)
        if source.name == self.name:
            if source.tokens > found[1]:
                source.truncate(found[1])
            return source
        self._delete(client)
        session = source.fork(self.name, found[1], if_version=found.version)
        if self._policy is not None:
            session.policy(self._policy)
        return session

    def _delete(self, client: Client) -> None:
        try:
            client.delete(self.name)
        except Miss:
            pass


class Exported:
    """K and V of a cache as Session.append() takes them. ValueError: it is not one sequence in layers of
    one shape that keep every token."""

    def __init__(self, cache: Any) -> None:
        self._layers = list(cache.layers)
        kept = [layer for layer in self._layers if type(layer) in (DynamicLayer, CompressedLayer)]
        self.tokens = cache.get_seq_length() if self._layers else 0
        if len(kept) < len(self._layers):
            raise ValueError("the cache has layers that do not keep the K and V of every token")
        if self.tokens:
            self.geometry = self._geometry()

    def _geometry(self) -> Geometry:
        shapes = {_shape(layer) for layer in self._layers}
        if len(shapes) > 1:
            raise ValueError(f"the cache has layers of unlike shape: {shapes}")
        rows, _, heads, (dim_k, dim_v), dtype = shapes.pop()
        if rows != 1:
            raise ValueError(f"the cache has {rows} sequences, and a session is one")
        if dtype not in DTYPE_NAMES:
            raise ValueError(f"K and V are {dtype}, not float16, bfloat16 or float32")
        return Geometry(len(self._layers), heads, dim_k, dim_v, DTYPE_NAMES[dtype])

    def since(self, first: int) -> tuple[list[Any], list[Any]]:
        """K and V of the tokens from there on: lists of [tokens, heads, head_dim]."""
        k, v = zip(*(_since(layer, first) for layer in self._layers))
        return list(k), list(v)


def _shape(layer: Any) -> tuple[Any, ...]:
    """(sequences, tokens, heads, head_dim of K and V, dtype)"""
    if isinstance(layer, CompressedLayer):
        return layer.shape
    heads, tokens = layer.keys.shape[1:3]
    dims = layer.keys.shape[3], layer.values.shape[3]
    return layer.keys.shape[0], tokens, heads, dims, layer.keys.dtype


def _since(layer: Any, first: int) -> list[Any]:
    new = (part[0, :, first:].transpose(0, 1) for part in (layer.keys, layer.values))
    return [part.clone() if isinstance(layer, CompressedLayer) else part.cpu() for part in new]


def _ids_of(given: Ids) -> Any:
    """[tokens]"""
    ids = np.asarray(given.cpu() if isinstance(given, torch.Tensor) else given)
    if ids.ndim == 2 and ids.shape[0] != 1:
        raise ValueError(f"there are {ids.shape[0]} sequences, and a session is one")
    return ids.reshape(-1)


def _repeated(attempt: Callable[[], T]) -> T:
    for _ in range(ATTEMPTS - 1):
        try:
            return attempt()
        except VersionChanged:
            continue
    return attempt()


def _check_model(config: Any) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError("a model with an encoder keeps more than the K and V of its tokens")
    layers = DynamicCache(config=config).layers
    others = [index for index, layer in enumerate(layers) if type(layer) is not DynamicLayer]
    if others:
        raise ValueError(f"layers {others} have a window or a state: they do not keep every token")
    if _shares_layers(config):
        raise ValueError("some layers use the K and V of others")
