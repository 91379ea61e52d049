"""Recall by keys: the tokens that the queries of each layer attend to most."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Optional, Union

import numpy as np

from ._calls import Call, options_of, structure
from ._geometry import DTYPE_NAMES, DTYPES
from ._kvq import ffi, lib
from ._recall import Range, ends
from ._values import numpy_dtype


@dataclasses.dataclass
class RecalledLayer:
    """What one layer's queries attend to most.

    ranges: of tokens, ascending, none touching the next. shares: for each the largest part of its
    attention, 0 to 1, that a query gives to a block of it, as an estimate. k, v: with fetch, [tokens,
    heads, head_dim], the ranges' one behind the other; else None.
    """

    layer: int
    ranges: list[range]
    shares: Any
    k: Any = None
    v: Any = None


class RecalledKeys(List[RecalledLayer]):
    """The layers asked for, in their order. version: the session's."""

    version: int = 0


def _layer_range(layers: Optional[Union[int, Range]]) -> tuple[int, int]:
    """End 0: all."""
    if layers is None:
        return 0, 0
    return (layers, layers + 1) if isinstance(layers, int) else ends(layers)


def _queries(queries: Any, state: Any, layers: int) -> Any:
    array = np.ascontiguousarray(np.asarray(queries), dtype=np.float32)
    geometry = state.geometry
    if array.ndim != 3 or array.shape[0] != layers or array.shape[2] != geometry.head_dim_k:
        raise ValueError(
            f"queries have shape {list(array.shape)}, not [{layers}, query_heads, {geometry.head_dim_k}]"
        )
    return array


def _values(address: Any, tokens: int, heads: int, head_dim: int, dtype: Any) -> Optional[Any]:
    """A copy: the library's memory ends with the client's next call."""
    if address == ffi.NULL or head_dim == 0:
        return None
    count = tokens * heads * head_dim * dtype.itemsize
    return np.frombuffer(bytearray(ffi.buffer(address, count)), dtype).reshape(tokens, heads, head_dim)


def _layer(found: Any, number: int, state: Any, dtype: Any) -> RecalledLayer:
    geometry, tokens = state.geometry, found.tokens
    rows = [found.ranges[i] for i in range(found.count)]
    return RecalledLayer(
        layer=number,
        ranges=[range(row.first, row.first + row.tokens) for row in rows],
        shares=np.array([row.share for row in rows], np.float32),
        k=_values(found.k, tokens, geometry.heads, geometry.head_dim_k, dtype),
        v=_values(found.v, tokens, geometry.heads, geometry.head_dim_v, dtype),
    )


def recall_keys(
    state: Any,
    queries: Any,
    k: int,
    *,
    layers: Optional[Union[int, Range]] = None,
    tokens: Optional[Range] = None,
    fetch: bool = False,
    dtype: Optional[str] = None,
    if_version: Optional[int] = None,
) -> Call[RecalledKeys]:
    if not 0 <= k < 1 << 32:
        raise ValueError(f"k is a number of blocks, not {k}")
    options, found = options_of("kvq_recall_keys_options"), structure("kvq_recalled_keys")
    options.first_layer, options.end_layer = _layer_range(layers)
    end_layer = options.end_layer or state.geometry.layers
    array = _queries(queries, state, end_layer - options.first_layer)
    options.queries = ffi.cast("float *", array.ctypes.data)
    options.query_heads, options.k = array.shape[1], k
    if tokens is not None:
        options.first, options.end = ends(tokens)
    options.fetch = fetch
    if dtype is not None:
        options.dtype = DTYPES[dtype]
    options.if_version = if_version or 0
    first_layer = options.first_layer

    def learn() -> RecalledKeys:
        values = numpy_dtype(DTYPE_NAMES[found.dtype]) if fetch else None
        recalled = RecalledKeys(
            _layer(found.layers[i], first_layer + i, state, values) for i in range(found.layer_count)
        )
        recalled.version = found.version
        return recalled

    return Call(lib.kvq_recall_keys, (state, options, found), learn, [array])
