"""A drop-in for transformers' DynamicCache whose old tokens are kept compressed."""

from __future__ import annotations

from typing import Any, Iterable, Optional

from transformers.cache_utils import DynamicCache, DynamicLayer  # type: ignore[import-not-found]

from ._daemon import DaemonLayer, Held
from ._layer import CompressedLayer, unique_nbytes
from ._levels import Levels, PairOrLevel, levels_of, pair_from_c, steps_of
from ._scratch import Scratch

DEFAULT_LEVELS: Levels = {64: (2, 3), 512: 3, 4096: 4}
PAGE_TOKENS = 128


class CompressedDynamicCache(DynamicCache):  # type: ignore[misc]
    """For `model.generate(past_key_values=CompressedDynamicCache(config=model.config))`.

    `levels` says which level a token is kept at once so many have come after it, or which two, of K
    and of V; older tokens at coarser ones. Those that are younger than the first age stay as they
    are, float32 as float16 where its values allow that. Tokens are coded `page_tokens` at a time (a
    power of two, at most 128), so that up to so many more may still be as they are. `cache.levels`
    reads it back.

    K and V that update() returns are in a scratch that all layers share, and hold until the next
    layer's update. `cache.layers[i].keys` and iteration restore into memory of their own.

    Layers with a sliding window, recurrent state and the like are transformers' own, uncompressed:
    `uncompressed_layers` names them. `config` tells which they are. Without a config all layers
    are compressed.

    With `socket` (a path, or host:port) old tokens are in the daemon there instead of this process: each
    layer's are fetched at each step, and deleted when the cache is. That takes one sequence, a config, and
    at most two ages, with one level for K and V each; such a cache cannot be copied or saved. A daemon that goes away takes the old tokens
    with it: update() raises its kvquantd.Error.

    Works on the CPU, on float16, bfloat16 and float32. ValueError: levels or shapes that cannot be;
    TypeError: another dtype.
    """

    layers: list[Any]

    def __init__(
        self,
        ddp_cache_data: Optional[Iterable[Any]] = None,
        config: Optional[Any] = None,
        *,
        levels: Levels = DEFAULT_LEVELS,
        page_tokens: int = PAGE_TOKENS,
        socket: Optional[str] = None,
    ) -> None:
        if not 1 <= page_tokens <= 128 or page_tokens & (page_tokens - 1):
            raise ValueError(f"page_tokens is a power of two from 1 to 128, not {page_tokens}")
        super().__init__(config=config)
        count = len(self.layers)
        self._scratch = Scratch(steps_of(levels), page_tokens, count, not _shares_layers(config))
        if socket is not None and not count:
            raise ValueError("with a socket a config is needed, which tells how many layers there are")
        self._held = None if socket is None else Held(socket, self._scratch.steps)
        self.layers = [
            self._compressed(index) if type(layer) is DynamicLayer else layer
            for index, layer in enumerate(self.layers)
        ]
        if not self.layers:
            self.layer_class_to_replicate = self._next_layer
        for index, pair in enumerate(ddp_cache_data or ()):
            if pair[0] is not None:
                self.update(pair[0], pair[1], index)

    def _compressed(self, index: int) -> CompressedLayer:
        if self._held is not None:
            return DaemonLayer(self._scratch, index, self._held)
        return CompressedLayer(self._scratch, index)

    def _next_layer(self) -> CompressedLayer:
        return self._compressed(len(self.layers))

    @property
    def _compressed_layers(self) -> list[CompressedLayer]:
        return [layer for layer in self.layers if isinstance(layer, CompressedLayer)]

    @property
    def levels(self) -> dict[int, PairOrLevel]:
        """By age in tokens, as given."""
        return levels_of(self._scratch.steps)

    @property
    def page_tokens(self) -> int:
        return self._scratch.page_tokens

    @property
    def uncompressed_layers(self) -> list[int]:
        """The layers that are transformers' own."""
        return [i for i, layer in enumerate(self.layers) if not isinstance(layer, CompressedLayer)]

    @property
    def nbytes(self) -> int:
        """Of memory that the cache holds: pages, newest tokens with the free room behind them,
        tables, and the tensors of layers that are not compressed. What sequences of a batch share
        counts once."""
        pages = [part for layer in self._compressed_layers for part in layer.page_rows()]
        own = sum(layer.own_nbytes for layer in self._compressed_layers)
        others = sum(_tensors_nbytes(self.layers[index]) for index in self.uncompressed_layers)
        return unique_nbytes(pages) + own + others

    @property
    def scratch_nbytes(self) -> int:
        """Of memory that is held beside nbytes: what layers are restored into, and the codec's."""
        return self._scratch.nbytes

    @property
    def daemon_nbytes(self) -> int:
        """Of memory that the daemon holds for this cache."""
        return 0 if self._held is None else int(self._held.info().get("stored_bytes", 0))

    @property
    def tokens_by_level(self) -> dict[Optional[PairOrLevel], int]:
        """Of the first compressed layer's sequences; None: tokens that are as they came."""
        for layer in self._compressed_layers:
            if isinstance(layer, DaemonLayer):
                return layer.tokens_held()
            return {
                None if levels is None else pair_from_c(levels): tokens
                for levels, tokens in layer.tokens_at().items()
            }
        return {}

    def settle(self) -> None:
        """Codes the newest tokens too, at the first of the levels: for a cache that is set aside.
        It can go on at any time; they stay coded."""
        for layer in self._compressed_layers:
            layer.settle()


def _tensors_nbytes(layer: Any) -> int:
    tensors = {id(value): value for value in vars(layer).values() if hasattr(value, "nbytes")}
    return sum(int(tensor.nbytes) for tensor in tensors.values())


def _shares_layers(config: Optional[Any]) -> bool:
    """Whether layers use what update() of another has returned: it must then outlast that."""
    if config is None:
        return False
    decoder = config.get_text_config(decoder=True)
    return bool(
        getattr(decoder, "num_kv_shared_layers", 0) or getattr(decoder, "kv_sharing_modes", None)
    )
