"""What the layers of a cache have in common: its policy, the codec's memory, and the scratch that one
layer at a time is restored into."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch  # type: ignore[import-not-found]

from .._kvq import ffi
from ._levels import Steps
from ._pages import Coder, pointer

GROWTH = 1.25  # so that a longer past seldom needs a new buffer


class Restored(NamedTuple):
    """K and V [rows, heads, tokens, head_dim], and where they are as a void *[2]."""

    key: tuple[Any, ...]
    keys: Any
    values: Any
    pointers: Any


class Scratch:
    """With `shared` false every layer is restored into memory of its own."""

    def __init__(self, steps: Steps, page_tokens: int, layers: int, shared: bool) -> None:
        self.steps, self.page_tokens, self.layers, self.shared = steps, page_tokens, layers, shared
        self._begin()

    def _begin(self) -> None:
        self.coder = Coder()
        self._buffers = [torch.empty(0, dtype=torch.uint8)] * 2
        self._last: Optional[Restored] = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("steps", "page_tokens", "layers", "shared")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    @property
    def nbytes(self) -> int:
        return self.coder.nbytes + sum(int(buffer.nbytes) for buffer in self._buffers)

    def _buffer(self, part: int, nbytes: int) -> Any:
        if self._buffers[part].nbytes < nbytes:
            self._buffers[part] = torch.empty(int(nbytes * GROWTH), dtype=torch.uint8)
        return self._buffers[part][:nbytes]

    def room_for(self, dtype: Any, rows: int, heads: int, dims: tuple[int, int], tokens: int) -> Restored:
        """Memory for a layer; if it is shared, what was given before is this layer's now."""
        key = dtype, rows, heads, dims, tokens
        if self._last is not None and self._last.key == key:
            return self._last
        shapes = [(rows, heads, tokens, dim) for dim in dims]
        if not self.shared:
            return restored(key, [torch.empty(shape, dtype=dtype) for shape in shapes])
        count = rows * heads * tokens * dtype.itemsize
        parts = [self._buffer(part, count * dim).view(dtype).view(shape)
                 for part, (dim, shape) in enumerate(zip(dims, shapes))]
        self._last = restored(key, parts)
        return self._last


def restored(key: tuple[Any, ...], parts: list[Any]) -> Restored:
    keys, values = parts
    return Restored(key, keys, values, ffi.new("void *[2]", [pointer(keys), pointer(values)]))
