"""Pages of K and V, made and made coarser by libkvq's codec."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch  # type: ignore[import-not-found]

from .._errors import error_of
from .._kvq import ffi, lib

DTYPES = {
    torch.float16: lib.KVQ_F16,
    torch.bfloat16: lib.KVQ_BF16,
    torch.float32: lib.KVQ_F32,
}
DTYPE_NAMES = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}  # as Geometry has them


def check(error: int) -> None:
    if error:
        raise error_of(error, ffi.string(lib.kvq_error_sentence(error)).decode())


def pointer(tensor: Any) -> Any:
    return ffi.cast("void *", tensor.data_ptr())


@dataclasses.dataclass
class Page:
    """Some tokens of a layer; `rows` has the bytes of K and V of each sequence. Of the tokens that
    were coded only the first `tokens` count."""

    levels: tuple[int, int]  # of K and of V, that were asked for
    tokens: int
    dtype: Any  # of what was coded
    rows: list[tuple[bytes, bytes]]

    def of_rows(self, rows: list[int]) -> Page:
        return dataclasses.replace(self, rows=[self.rows[row] for row in rows])


def _fill(values: Any, tensor: Any) -> None:
    """tensor: [heads, tokens, head_dim], whose last dimension is packed."""
    values.heads, values.tokens, values.head_dim = tensor.shape
    values.head_stride, values.token_stride = (
        stride * tensor.element_size() for stride in tensor.stride()[:2]
    )
    values.values, values.dtype = pointer(tensor), DTYPES[tensor.dtype]


class Coder:
    """What coding needs of memory, once for all layers."""

    def __init__(self) -> None:
        self._memory = torch.empty(lib.KVQ_PAGE_WORKSPACE_BYTES, dtype=torch.uint8)
        self.workspace = pointer(self._memory)
        self._room = ffi.new("char[]", 1)
        self._length = ffi.new("size_t *")

    @property
    def nbytes(self) -> int:
        return int(self._memory.nbytes) + len(self._room)

    def _make_room(self, room_bytes: int) -> None:
        if len(self._room) < room_bytes:
            self._room = ffi.new("char[]", room_bytes)

    def encode(
        self, tensor: Any, part: int, level: int, sinks: int, layer: int, layers: int
    ) -> bytes:
        """tensor: [heads, tokens, head_dim] of a dtype of DTYPES; sinks: how many of its first
        tokens are kept exact; layers: 0 where it is not known how many there are."""
        source = ffi.new("struct kvq_page_source *")
        _fill(source.values, tensor)
        source.part, source.level, source.sink_tokens = part, level, sinks
        source.layer, source.layers = layer, layers
        self._make_room(lib.kvq_page_bound_bytes(ffi.addressof(source, "values")))
        error = lib.kvq_page_encode(
            source, self.workspace, self._room, len(self._room), self._length
        )
        check(error)
        return bytes(ffi.buffer(self._room, self._length[0]))

    def decode(self, page: bytes, dtype: Any) -> Any:
        """All of its tokens, [heads, tokens, head_dim]."""
        info, values = ffi.new("struct kvq_page_info *"), ffi.new("struct kvq_page_values *")
        check(lib.kvq_page_info(page, len(page), info))
        tensor = torch.empty(info.heads, info.tokens, info.head_dim, dtype=dtype)
        _fill(values, tensor)
        check(lib.kvq_page_decode(page, len(page), 0, values, self.workspace))
        return tensor

    def age(self, page: bytes, level: int) -> bytes:
        """From a level from 0 on to a coarser one."""
        self._make_room(len(page))
        check(lib.kvq_page_age(page, len(page), level, self.workspace, self._room, self._length))
        return bytes(ffi.buffer(self._room, self._length[0]))

    def level_of(self, page: bytes) -> int:
        info = ffi.new("struct kvq_page_info *")
        check(lib.kvq_page_info(page, len(page), info))
        return int(info.level)
