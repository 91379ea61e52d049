"""A past of which a generating model sees what its queries ask for, and the rest coarsely or not at all."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch  # type: ignore[import-not-found]
from transformers import AttentionInterface  # type: ignore[import-not-found]
from transformers.integrations.sdpa_attention import sdpa_attention_forward  # type: ignore[import-not-found]
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask  # type: ignore[import-not-found]

from .._session import Session
from ._cache import CompressedDynamicCache
from ._daemon import DaemonLayer, Held
from ._layer import CompressedLayer
from ._levels import PairOrLevel
from ._scratch import Scratch
from ._session import _check_model

ATTENTION = "kvquantd_recall"
SINK_TOKENS = 4  # seen by every step
BLOCK_TOKENS = 4  # what key summaries tell apart


class RecallCache(CompressedDynamicCache):
    """For `model.generate(past_key_values=RecallCache(session, model))`: the long past is in a session of
    the daemon, opened with key_summaries=True, and each step of a generation asks it, layer by layer, for
    the tokens that its query attends to most.

        session = client.open("book", model=fingerprint, geometry=..., level=1, key_summaries=True)
        cache = RecallCache(session, model)
        model.generate(**inputs, past_key_values=cache)

    budget: how many of all tokens a step has as they are in the session, the first four and the newest
    `window` among them; these are as they came. The step does not see the others (rest=None, which
    loses least at equal bytes: `make recall-bench`), or sees them as this process holds them, in `cache.nbytes`,
    at a level (or two, of K and V) that rest names. Positions are kept in either case. What is read more than
    one token at a time, a prompt, sees everything.

    Tokens go to the session in pages once they are older than the window; `settle()` sends what is left. Tokens
    that the session has already are the past that the cache begins with. Nobody else may append to it.

    One sequence without padding, of a model whose layers all keep the K and V of every token, on the CPU;
    its attention becomes sdpa with recall, which leaves other caches as they are. ValueError: another model, or a
    session of another shape or without key summaries. kvquantd.Error, from update() or the model: the daemon
    or the session is gone.
    """

    def __init__(
        self,
        session: Session,
        model: Any,
        *,
        budget: float = 0.2,
        window: int = 256,
        rest: Optional[PairOrLevel] = None,
    ) -> None:
        if not 0 < budget <= 1:
            raise ValueError(f"budget is a part of all tokens, above 0 and at most 1, not {budget}")
        _check_model(model.config)
        _check_session(session, model.config)
        self._kept = Kept(session, budget)
        self._holds_rest = rest is not None
        levels = {window: session.level if rest is None else rest}
        super().__init__(config=model.config, levels=levels)
        self._held = self._kept
        model.set_attn_implementation(ATTENTION)
        self._load(model.dtype)

    def _compressed(self, index: int) -> CompressedLayer:
        layer = CoarseLayer if self._holds_rest else AbsentLayer
        return layer(self._scratch, index, self._kept)

    def _load(self, dtype: Any) -> None:
        """What the session has already, a layer at a time."""
        tokens, shape = self._kept.tokens, self._kept.session.geometry
        for index, layer in enumerate(self.layers if tokens else ()):
            k, v = (torch.empty(1, shape.heads, tokens, dim, dtype=dtype)
                    for dim in (shape.head_dim, shape.head_dim_v))
            self._kept.fetch(index, tokens, k, v)
            layer.update(k, v)


class Found(NamedTuple):
    """Ranges of tokens, and K and V [1, heads, tokens, head_dim] of them, one range behind the other."""

    ranges: list[range]
    k: Any
    v: Any


class Kept(Held):
    """The session of all tokens but the newest."""

    def __init__(self, session: Session, budget: float) -> None:
        session.refresh()
        self._session, self._pinned_until, self._budget = session, 0.0, budget
        self.layers: list[Any] = []
        self.tokens = session.tokens

    def append_first(self, count: int, settle: bool) -> None:
        """So many of the tails' oldest tokens, but for those that it has."""
        had = self.tokens - self.layers[0].tail_first
        if had >= count:
            return
        k, v = ([layer.tail()[part][0, :, max(had, 0) : count].transpose(0, 1).to(layer.dtype)
                 for layer in self.layers] for part in range(2))
        self.tokens = self.session.append(k, v, self.tokens, settle=settle)

    def _append(self, count: int, settle: bool) -> None:
        self.append_first(count, settle)
        for layer in self.layers:
            layer.taken(count)

    def recall(self, layer: int, query: Any, newest: int) -> Optional[Found]:
        """What a query [heads, head_dim] asks for of a layer, between the sinks and so many newest tokens."""
        length = self.layers[layer].get_seq_length()
        blocks = (int(self._budget * length) - SINK_TOKENS - newest) // BLOCK_TOKENS
        old = range(SINK_TOKENS, length - newest)
        if blocks < 1 or len(old) < BLOCK_TOKENS:
            return None
        [found] = self.session.recall(queries=query[None].float().numpy(), k=blocks, layers=layer, tokens=old,
                                      fetch=True, dtype="f32")
        k, v = (torch.from_numpy(part).to(query.dtype).transpose(0, 1)[None] for part in (found.k, found.v))
        return Found(found.ranges, k, v)


class CoarseLayer(CompressedLayer):
    """Holds old tokens coarsely; those that a step recalls are put in their place."""

    def __init__(self, scratch: Scratch, index: int, kept: Kept) -> None:
        super().__init__(scratch, index)
        self._held, self._number = kept, len(kept.layers)
        kept.layers.append(self)

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        keys.recalling = self if key_states.shape[-2] == 1 else None
        return keys, values

    def seen(self, query: Any, keys: Any, values: Any) -> tuple[Any, Any]:
        """K and V that a step of this query [1, heads, 1, head_dim] attends to; update() gave the rest."""
        found, first = self._held.recall(self._number, query[0, :, 0], int(self._c.tail_tokens)), 0
        if found is None:
            return keys, values
        for tokens in found.ranges:
            for whole, part in ((keys, found.k), (values, found.v)):
                whole[:, :, tokens.start : tokens.stop] = part[:, :, first : first + len(tokens)]
            first += len(tokens)
        return keys, values

    def _code(self, left: int, whole_pages: bool = True) -> None:
        """All layers' at once, when the last of them has got its tokens."""
        layers = self._held.layers
        if self is not layers[-1]:
            return
        count = int(self._c.tail_tokens) - left
        if whole_pages:
            count -= count % self._page_limit
        if count > 0:
            self._held.append_first(count, not whole_pages)
            for layer in layers:
                CompressedLayer._code(layer, left, whole_pages)

    def _keep(self, length: int) -> None:
        super()._keep(length)
        self._held.truncate(length)


class AbsentLayer(DaemonLayer):
    """Holds sinks and newest tokens; a step attends to these and to what it recalls."""

    _held: Kept

    def _forget(self) -> None:
        super()._forget()
        self._sinks: Optional[tuple[Any, Any]] = None

    def _keep(self, length: int) -> None:
        super()._keep(length)
        if length < SINK_TOKENS:
            self._sinks = None

    def _step(self, added: list[Any], before: int, count: int) -> tuple[Any, Any]:
        if count > 1 or self._paged < SINK_TOKENS:
            return super()._step(added, before, count)
        self._add(added, count)
        keys, values = (part.to(self.dtype) for part in self._tail_from(0))
        keys.recalling = self
        return keys, values

    def seen(self, query: Any, keys: Any, values: Any) -> tuple[Any, Any]:
        """K and V that a step of this query [1, heads, 1, head_dim] attends to; update() gave the newest."""
        found = self._held.recall(self._number, query[0, :, 0], keys.shape[2])
        past = [self._first_tokens()] + ([found[1:]] if found else [])
        keys, values = (torch.cat([*parts, newest], 2)
                        for newest, *parts in zip((keys, values), *past))
        return keys, values

    def _first_tokens(self) -> tuple[Any, Any]:
        if self._sinks is None:
            k, v = (torch.empty(1, self._heads, SINK_TOKENS, dim, dtype=self.dtype) for dim in self._dims)
            self._held.fetch(self._number, SINK_TOKENS, k, v)
            self._sinks = k, v
        return self._sinks


def attention(module: Any, query: Any, key: Any, value: Any, mask: Optional[Any], **kwargs: Any) -> Any:
    """sdpa; of one token with a RecallCache over what that recalls for it."""
    layer = getattr(key, "recalling", None)
    if layer is not None:
        key, value = layer.seen(query, key, value)
        mask = None  # all of it is past
    return sdpa_attention_forward(module, query, key, value, mask, **kwargs)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _check_session(session: Session, config: Any) -> None:
    shape, text = session.geometry, config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    if (shape.layers, shape.heads) != (text.num_hidden_layers, heads):
        raise ValueError(f"the session has another shape than the model: {shape.layers} layers of {shape.heads} "
                         f"heads, not {text.num_hidden_layers} of {heads}")
    if not session.info()["key_summaries"]:
        raise ValueError(f"session {session.name!r} was made without key_summaries: nothing can be recalled by them")
