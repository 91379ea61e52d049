"""What llama.cpp writes of the K and V of a sequence: taken apart, and put together again.

The layout is that of llama_kv_cache::state_write in llama.cpp's src/llama-kv-cache.cpp, in the byte
order of the machine. Nothing of it says how long it is or which model wrote it, so that every number
is checked against the bytes that are there, and what is in doubt is not understood.
"""

from __future__ import annotations

import contextlib
import dataclasses
import struct
from typing import Any, Optional, Union

import numpy as np

Buffer = Union[bytes, bytearray, memoryview]
LAYERS_MAX = 4096
F32, F16, BF16, Q8_0 = 0, 1, 30, 8
FLOAT_BYTES = {F32: 4, F16: 2, BF16: 2}
TYPE_NAMES = {F32: "f32", F16: "f16", BF16: "bf16", Q8_0: "q8_0", 2: "q4_0", 3: "q4_1", 6: "q5_0",
              7: "q5_1", 20: "iq4_nl"}
FLAG_BYTES = 8  # that newer versions write before K; where one is set it is not known what it means
CELL = np.dtype([("position", "=i4"), ("sequences", "=u4"), ("sequence", "=i4")])


class NotUnderstood(ValueError):
    """It is no such state, or one of a kind that is not known here."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a token has of K or V in each layer. type: GGML's number."""

    type: int
    row_bytes: int

    @property
    def name(self) -> str:
        return TYPE_NAMES.get(self.type, f"GGML type {self.type}")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a state is written, but for its tokens. streams: how many the context has, of which one
    holds everything. v: None where the model keeps no V."""

    streams: int
    stream: int
    sequence: int
    layers: int
    v_transposed: bool
    k: Rows
    v: Optional[Rows]
    flag_bytes: int = 0

    def bytes_of(self, tokens: int) -> int:
        """How many a state of so many tokens has."""
        head = 4 + 4 * self.streams + CELL.itemsize * tokens + 8 + self.flag_bytes
        rows = self.layers * (12 + tokens * self.k.row_bytes)
        if self.v:
            rows += self.layers * (12 + tokens * self.v.row_bytes)
        return head + rows


@dataclasses.dataclass(frozen=True)
class State:
    """k, v: a layer each, uint8 [tokens, row_bytes], views of the state where it lies; in the order
    of the tokens' positions, which are 0 to tokens."""

    layout: Layout
    tokens: int
    k: list[Any]
    v: list[Any]


class _Reader:
    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data).cast("B")
        self.offset = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.offset

    def skip(self, count: int) -> int:
        """Returns where so many bytes begin, all of which are there."""
        if not 0 <= count <= self.left:
            raise NotUnderstood("it ends too early")
        self.offset += count
        return self.offset - count

    def numbers(self, form: str) -> tuple[int, ...]:
        form = f"={form}"
        return struct.unpack_from(form, self._data, self.skip(struct.calcsize(form)))

    def array(self, dtype: Any, count: int) -> Any:
        dtype = np.dtype(dtype)
        start = self.skip(count * dtype.itemsize)
        return np.frombuffer(self._data[start : self.offset], dtype)


def parse(data: Buffer) -> State:
    """A state that ends where data ends. NotUnderstood: it is not one, has gaps, or holds the tokens
    of several sequences or caches."""
    try:
        return _parse(data, 0)
    except NotUnderstood as error:
        with contextlib.suppress(NotUnderstood):
            return _parse(data, FLAG_BYTES)
        raise error


def _parse(data: Buffer, flag_bytes: int) -> State:
    reader = _Reader(data)
    (streams,) = reader.numbers("I")
    filled, found = None, None
    if not 1 <= streams <= reader.left // 4:
        raise NotUnderstood(f"{streams} streams")
    for stream in range(streams):
        (cells,) = reader.numbers("I")
        if cells and found:
            raise NotUnderstood("several streams hold tokens")
        if cells:
            filled, found = stream, _parse_stream(reader, cells, flag_bytes)
    if reader.left:
        raise NotUnderstood(f"{reader.left} bytes more than one cache has")
    if filled is None or found is None:
        raise NotUnderstood("no tokens")
    sequence, transposed, k, v, tokens = found
    layout = Layout(streams, filled, sequence, len(k[1]), transposed, k[0], v[0], flag_bytes)
    return State(layout, tokens, k[1], v[1])


def _parse_stream(
    reader: _Reader, cells: int, flag_bytes: int
) -> tuple[int, bool, Any, Any, int]:
    cell = reader.array(CELL, cells)
    if (cell["sequences"] != 1).any() or (cell["sequence"] != cell["sequence"][0]).any():
        raise NotUnderstood("cells of several sequences")
    order = _order(cell["position"])
    transposed, layers = reader.numbers("II")
    if transposed > 1 or not 1 <= layers <= LAYERS_MAX:
        raise NotUnderstood(f"{layers} layers, V {transposed}")
    if reader.array(np.uint8, flag_bytes).any():
        raise NotUnderstood("flags that are not known here")
    k = _parse_rows(reader, layers, cells, order)
    v: tuple[Optional[Rows], list[Any]] = (None, [])
    if reader.left and transposed:
        v = _parse_transposed(reader, layers, cells, order)
    elif reader.left:
        v = _parse_rows(reader, layers, cells, order)
    return int(cell["sequence"][0]), bool(transposed), k, v, cells


def _order(positions: Any) -> Any:
    """Where the tokens lie, in their order; None: as they come."""
    expected = np.arange(len(positions))
    if (positions == expected).all():
        return None
    order = np.argsort(positions, kind="stable")
    if (positions[order] != expected).any():
        raise NotUnderstood("its positions have gaps")
    return order


def _same(found: Optional[Rows], rows: Rows) -> Rows:
    if found not in (None, rows):
        raise NotUnderstood("layers of different shapes")
    return rows


def _parse_rows(reader: _Reader, layers: int, cells: int, order: Any) -> tuple[Rows, list[Any]]:
    found, values = None, []
    for _ in range(layers):
        found = _same(found, Rows(*reader.numbers("iQ")))
        if found.row_bytes == 0 or found.row_bytes % FLOAT_BYTES.get(found.type, 1):
            raise NotUnderstood(f"rows of {found.row_bytes} bytes of {found.name}")
        block = reader.array(np.uint8, cells * found.row_bytes).reshape(cells, found.row_bytes)
        values.append(block if order is None else block[order])
    assert found
    return found, values


def _parse_transposed(reader: _Reader, layers: int, cells: int, order: Any) -> tuple[Rows, list[Any]]:
    """Here every channel has its values of all tokens side by side."""
    found, values = None, []
    for _ in range(layers):
        kind, element_bytes, channels = reader.numbers("iII")
        if FLOAT_BYTES.get(kind) != element_bytes or channels == 0:
            raise NotUnderstood(f"transposed V of GGML type {kind}")
        found = _same(found, Rows(kind, channels * element_bytes))
        block = reader.array(f"u{element_bytes}", channels * cells).reshape(channels, cells).T
        block = block if order is None else block[order]
        values.append(np.ascontiguousarray(block).view(np.uint8))
    assert found
    return found, values


class Writer:
    """A state of so many tokens, written behind what precedes it. k, v: as State's, to be filled;
    finish() then says what it has become."""

    def __init__(self, layout: Layout, tokens: int, before: bytes = b"") -> None:
        self._layout, self._tokens = layout, tokens
        self._data = bytearray(len(before) + layout.bytes_of(tokens))
        self._offset = 0
        self._put(before)
        self._numbers("I", layout.streams)
        for stream in range(layout.streams):
            self._numbers("I", tokens if stream == layout.stream else 0)
            if stream == layout.stream:
                self._write_cells()
                self.k = self._write_rows(layout.k)
                self._write_v()

    def _put(self, data: bytes) -> None:
        self._data[self._offset : self._offset + len(data)] = data
        self._offset += len(data)

    def _numbers(self, form: str, *numbers: int) -> None:
        self._put(struct.pack(f"={form}", *numbers))

    def _write_cells(self) -> None:
        cells = np.zeros(self._tokens, CELL)
        cells["position"] = np.arange(self._tokens)
        cells["sequences"], cells["sequence"] = 1, self._layout.sequence
        self._put(cells.tobytes())
        self._numbers("II", self._layout.v_transposed, self._layout.layers)
        self._put(bytes(self._layout.flag_bytes))

    def _room(self, count: int) -> Any:
        start, self._offset = self._offset, self._offset + count
        return np.frombuffer(self._data, np.uint8, count, start)

    def _write_rows(self, rows: Rows) -> list[Any]:
        views = []
        for _ in range(self._layout.layers):
            self._numbers("iQ", rows.type, rows.row_bytes)
            views.append(self._room(self._tokens * rows.row_bytes).reshape(self._tokens, -1))
        return views

    def _write_v(self) -> None:
        rows, self._channels = self._layout.v, []
        if rows is None:
            self.v: list[Any] = []
        elif not self._layout.v_transposed:
            self.v = self._write_rows(rows)
        else:
            self.v = [np.empty((self._tokens, rows.row_bytes), np.uint8)
                      for _ in range(self._layout.layers)]
            element_bytes = FLOAT_BYTES[rows.type]
            for _ in range(self._layout.layers):
                self._numbers("iII", rows.type, element_bytes, rows.row_bytes // element_bytes)
                self._channels.append(self._room(self._tokens * rows.row_bytes))

    def finish(self) -> bytearray:
        for channels, values in zip(self._channels, self.v):
            wide = np.dtype(f"u{FLOAT_BYTES[self._layout.v.type]}") if self._layout.v else None
            channels.view(wide).reshape(-1, self._tokens)[:] = values.view(wide).T
        return self._data
