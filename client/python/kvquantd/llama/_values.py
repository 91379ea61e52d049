"""What the daemon keeps of a state's rows: which values, at which level, and the way there and back."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

import numpy as np

from .._geometry import Geometry, Level
from ._state import BF16, F16, F32, Q8_0, Layout, Rows

DTYPES = {F32: "f32", F16: "f16", BF16: "bf16"}
NUMPY = {F32: np.float32, F16: np.float16, BF16: np.uint16}
HEAD_DIM_MAX = 128
Q8_BLOCK = np.dtype([("scale", "<f2"), ("values", "i1", 32)])


@dataclasses.dataclass(frozen=True)
class Coding:
    """what: "values", as they are; "values of q8_0", in float16, given back in its blocks; or "rows": bytes that
    are kept exactly, since their values are coded by GGML already or cannot be given at a level."""

    what: str
    geometry: Geometry
    level: Level


def coding_of(layout: Layout, level: Level, heads: Optional[int] = None) -> Coding:
    """heads: of K and V; None: as many as give heads of a common size."""
    rows = [layout.k] + ([layout.v] if layout.v else [])
    types = {each.type for each in rows}
    if len(types) == 1 and types <= DTYPES.keys():
        what, dtype = "values", DTYPES[layout.k.type]
    elif Q8_0 in types and types <= {Q8_0, F16} and level != "exact":
        what, dtype = "values of q8_0", "f16"
    else:
        dims = [each.row_bytes for each in rows] + [0]
        return Coding("rows", Geometry(layout.layers, 1, dims[0], dims[1], "int8"), "exact")
    counts = [values_in(each) for each in rows]
    heads = heads if heads and not any(count % heads for count in counts) else _heads(counts)
    dims = [count // heads for count in counts] + [0]
    return Coding(what, Geometry(layout.layers, heads, dims[0], dims[1], dtype), level)


def _heads(counts: list[int]) -> int:
    common, dim = int(np.gcd.reduce(counts)), 1
    while dim < HEAD_DIM_MAX and common % (2 * dim) == 0:
        dim *= 2
    return common // dim


def values_in(rows: Rows) -> int:
    """How many a token has in a layer."""
    if rows.type == Q8_0:
        return rows.row_bytes // Q8_BLOCK.itemsize * 32
    return rows.row_bytes // np.dtype(NUMPY[rows.type]).itemsize


def kept(coding: Coding, rows: Rows, values: Any) -> Any:
    """values: uint8 [tokens, row_bytes]. Returns [tokens, heads, head_dim]."""
    if coding.what == "rows":
        return values.view(np.int8)[:, None]
    if rows.type == Q8_0:
        blocks = np.ascontiguousarray(values).view(Q8_BLOCK)
        wide = blocks["scale"][..., None].astype(np.float32) * blocks["values"]
        return wide.astype(np.float16).reshape(len(values), coding.geometry.heads, -1)
    return _as_heads(coding, rows, values)


def _as_heads(coding: Coding, rows: Rows, values: Any) -> Any:
    return values.view(NUMPY[rows.type]).reshape(len(values), coding.geometry.heads, -1)


def target(coding: Coding, rows: Rows, values: Any) -> Any:
    """Where a fetch may write for give_back() to have it: values itself, where it has what is kept."""
    if coding.what == "rows":
        return values.view(np.int8)[:, None]
    if rows.type == Q8_0:
        shape = len(values), coding.geometry.heads, values_in(rows) // coding.geometry.heads
        return np.empty(shape, np.float16)
    return _as_heads(coding, rows, values)


def give_back(coding: Coding, rows: Rows, fetched: Any, values: Any) -> None:
    """fetched: target()'s. Writes values where they are not there by that."""
    if coding.what != "values of q8_0" or rows.type != Q8_0:
        return
    wide = fetched.astype(np.float32).reshape(len(values), -1, 32)
    scale = (np.abs(wide).max(axis=-1) / 127).astype(np.float16)
    blocks = np.empty(scale.shape, Q8_BLOCK)
    blocks["scale"] = scale
    divisor = np.where(scale == 0, 1, scale.astype(np.float32))
    blocks["values"] = np.clip(np.rint(wide / divisor[..., None]), -127, 127)
    values[:] = blocks.view(np.uint8).reshape(values.shape)
