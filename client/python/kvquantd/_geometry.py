"""What a model's cache looks like, and its translation from and to kvq.h."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional, Union

from ._kvq import ffi, lib

DTYPES = {
    "f16": lib.KVQ_F16,
    "bf16": lib.KVQ_BF16,
    "f32": lib.KVQ_F32,
    "fp8_e4m3": lib.KVQ_FP8_E4M3,
    "fp8_e5m2": lib.KVQ_FP8_E5M2,
    "int8": lib.KVQ_INT8,
}
DTYPE_NAMES = {number: name for name, number in DTYPES.items()}
DTYPE_ALIASES = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
}
PAIRINGS = {
    "none": lib.KVQ_PAIRING_NONE,
    "interleaved": lib.KVQ_PAIRING_INTERLEAVED,
    "half": lib.KVQ_PAIRING_HALF,
}
PAIRING_NAMES = {number: name for name, number in PAIRINGS.items()}
LEVELS = {"exact": lib.KVQ_LEVEL_EXACT, "fast8": lib.KVQ_LEVEL_FAST8}
LEVEL_NAMES = {number: name for name, number in LEVELS.items()}

Level = Union[int, str]


@dataclasses.dataclass(frozen=True)
class Rope:
    """The rotary embedding that K carries. pairing: "interleaved" or "half"."""

    theta: float
    pairing: str
    dims: int
    scaling: float = 1.0

    def __post_init__(self) -> None:
        if self.pairing not in ("interleaved", "half"):
            raise ValueError(f'pairing is "interleaved" or "half", not {self.pairing!r}')


@dataclasses.dataclass(frozen=True)
class Geometry:
    """heads are KV heads; head_dim_v: None as head_dim, 0 without V; dtype: "f16", "bf16", "f32",
    "fp8_e4m3", "fp8_e5m2" or "int8", or as numpy and torch call them: "float16", "bfloat16",
    "float32", "float8_e4m3fn", "float8_e5m2". The scales of int8 are the caller's to keep."""

    layers: int
    heads: int
    head_dim: int
    head_dim_v: Optional[int] = None
    dtype: str = "f16"
    rope: Optional[Rope] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", DTYPE_ALIASES.get(self.dtype, self.dtype))
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if isinstance(self.rope, Mapping):
            object.__setattr__(self, "rope", Rope(**self.rope))
        if self.head_dim_v is None:
            object.__setattr__(self, "head_dim_v", self.head_dim)


def geometry_from(given: Union[Geometry, Mapping[str, Any]]) -> Geometry:
    return given if isinstance(given, Geometry) else Geometry(**given)


def geometry_to_c(geometry: Geometry) -> Any:
    c = ffi.new("struct kvq_geometry *")
    c.layers, c.heads = geometry.layers, geometry.heads
    c.head_dim_k, c.head_dim_v = geometry.head_dim, geometry.head_dim_v
    c.dtype = DTYPES[geometry.dtype]
    if geometry.rope:
        c.rope.pairing = PAIRINGS[geometry.rope.pairing]
        c.rope.theta, c.rope.dims = geometry.rope.theta, geometry.rope.dims
        c.rope.scaling = geometry.rope.scaling
    return c


def geometry_from_c(c: Any) -> Geometry:
    rope = None
    if c.rope.pairing != lib.KVQ_PAIRING_NONE:
        pairing = PAIRING_NAMES[c.rope.pairing]
        rope = Rope(c.rope.theta, pairing, c.rope.dims, c.rope.scaling or 1.0)
    dtype = DTYPE_NAMES[c.dtype]
    return Geometry(c.layers, c.heads, c.head_dim_k, c.head_dim_v, dtype, rope)


def level_to_c(level: Level) -> int:
    if isinstance(level, str) and level not in LEVELS and not level.isdigit():
        raise ValueError(f'a level is "exact", "fast8" or 0 to 5, not {level!r}')
    return LEVELS[level] if level in LEVELS else int(level)


def level_from_c(number: int) -> Level:
    return LEVEL_NAMES.get(number, number)
