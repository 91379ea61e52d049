"""Where the values of an array, a tensor or a buffer stand, so that they are used there.

All give the same picture: an address and strides for [layers, tokens, heads, head_dim]. What has no
rows of head_dim values next to each other is copied before it is sent, and refused as `out`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Sequence

import numpy as np

from ._geometry import Geometry
from ._kvq import ffi

# Names of dtypes of numpy (ml_dtypes among them) and torch that hold values of ours.
ACCEPTED: dict[str, tuple[str, ...]] = {
    "f16": ("float16",),
    "bf16": ("bfloat16", "uint16"),
    "f32": ("float32",),
    "fp8_e4m3": ("float8_e4m3fn", "uint8"),
    "fp8_e5m2": ("float8_e5m2", "uint8"),
    "int8": ("int8",),
}


def numpy_dtype(dtype: str) -> Any:
    """What numpy lacks is ml_dtypes' where that is installed, else an unsigned integer."""
    names = ACCEPTED[dtype]
    if len(names) == 1:
        return np.dtype(names[0])
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(names[1])
    return np.dtype(getattr(ml_dtypes, names[0]))


@dataclasses.dataclass
class Block:
    """Values at an address; strides in bytes. owner keeps them alive."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: Any

    def rows_are_whole(self, value_bytes: int) -> bool:
        pairs = [(n, s) for n, s in zip(self.shape, self.strides) if n > 1]
        last = self.shape[-1] <= 1 or self.strides[-1] == value_bytes
        return last and all(stride != 0 for _, stride in pairs)


def _is_torch(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "torch" and hasattr(values, "data_ptr")


def _check_dtype(name: str, dtype: str, what: str) -> None:
    if name not in ACCEPTED[dtype]:
        raise TypeError(f"{what} holds {name}, not {' or '.join(ACCEPTED[dtype])}")


def _block_of_torch(values: Any, dtype: str, what: str) -> Block:
    if values.device.type != "cpu":
        raise TypeError(f"{what} is on {values.device}; move it to the cpu")
    _check_dtype(str(values.dtype).partition(".")[2], dtype, what)
    strides = tuple(stride * values.element_size() for stride in values.stride())
    return Block(values.data_ptr(), tuple(values.shape), strides, values)


def _array_of(values: Any, dtype: str, shape: tuple[int, ...], what: str, writable: bool) -> Any:
    """A view of values; flat bytes are taken to be packed, as many tokens as they hold."""
    if isinstance(values, np.ndarray):
        return values
    view = memoryview(values)
    if view.ndim == 1 and view.format in ("B", "b", "c"):
        row_bytes = numpy_dtype(dtype).itemsize * int(np.prod([n for n in shape if n >= 0]))
        if view.nbytes % max(row_bytes, 1):
            raise ValueError(f"{what} has {view.nbytes} bytes, no whole number of tokens")
        return np.frombuffer(view, numpy_dtype(dtype)).reshape(shape)
    if writable and view.readonly:
        raise ValueError(f"{what} is read-only")
    return np.asarray(view)


def _block_of_array(array: Any, dtype: str, what: str) -> Block:
    _check_dtype(array.dtype.name, dtype, what)
    if not array.dtype.isnative:
        raise TypeError(f"{what} is big-endian")
    address = array.__array_interface__["data"][0]
    return Block(address, array.shape, array.strides, array)


def _block(values: Any, dtype: str, shape: tuple[int, ...], what: str, writable: bool) -> Block:
    """shape has -1 for the dimension that may be any, the tokens."""
    if _is_torch(values):
        block = _block_of_torch(values, dtype, what)
    else:
        array = _array_of(values, dtype, shape, what, writable)
        if writable and not array.flags.writeable:
            raise ValueError(f"{what} is read-only")
        block = _block_of_array(array, dtype, what)
    matches = len(block.shape) == len(shape) and all(
        wanted in (-1, there) for wanted, there in zip(shape, block.shape)
    )
    if not matches:
        expected = str(list(shape)).replace("-1", "tokens")
        raise ValueError(f"{what} has shape {list(block.shape)}, not {expected}")
    if block.rows_are_whole(numpy_dtype(dtype).itemsize):
        return block
    if writable:
        raise ValueError(f"{what} has strides {block.strides}: its rows of values are not whole")
    if _is_torch(values):
        return _block_of_torch(values.contiguous(), dtype, what)
    return _block_of_array(np.ascontiguousarray(array), dtype, what)


@dataclasses.dataclass
class Values:
    """K or V of some layers; fill() writes a struct kvq_source or kvq_target."""

    tokens: int
    blocks: list[Block]
    is_list: bool

    def fill(self, c: Any) -> Any:
        """Returns what must stay alive as long as c is used."""
        first = self.blocks[0]
        token, head = (n > 1 and s for n, s in zip(first.shape[-3:-1], first.strides[-3:-1]))
        c.token_stride, c.head_stride = int(token), int(head)
        if self.is_list:
            pointers = [ffi.cast("void *", block.address) for block in self.blocks]
            c.layers = layers = ffi.new("void *[]", pointers)
            return layers
        c.block = ffi.cast("void *", first.address)
        c.layer_stride = first.strides[0] if first.shape[0] > 1 else 0
        return first


def _alike(blocks: Sequence[Block]) -> bool:
    return all((b.shape, b.strides) == (blocks[0].shape, blocks[0].strides) for b in blocks)


def values_of(
    values: Any, geometry: Geometry, layers: int, head_dim: int, what: str, writable: bool = False
) -> Values:
    """values: [layers, tokens, heads, head_dim], or a list of [tokens, heads, head_dim]."""
    dtype, shape = geometry.dtype, (-1, geometry.heads, head_dim)
    if not isinstance(values, (list, tuple)):
        block = _block(values, dtype, (layers, *shape), what, writable)
        return Values(block.shape[1], [block], False)
    if len(values) != layers:
        raise ValueError(f"{what} has {len(values)} layers, not {layers}")
    blocks = [_block(v, dtype, shape, f"{what}[{i}]", writable) for i, v in enumerate(values)]
    if len({block.shape for block in blocks}) > 1:
        raise ValueError(f"{what}: its layers have different shapes")
    if not _alike(blocks):
        if writable:
            raise ValueError(f"{what}: its layers have different strides")
        # One call has one set of strides.
        packed = [np.ascontiguousarray(v) if not _is_torch(v) else v.contiguous() for v in values]
        blocks = [_block(v, dtype, shape, what, False) for v in packed]
    return Values(blocks[0].shape[0], blocks, True)


def new_values(geometry: Geometry, layers: int, tokens: int, head_dim: int) -> Optional[Any]:
    if head_dim == 0:
        return None
    return np.empty((layers, tokens, geometry.heads, head_dim), numpy_dtype(geometry.dtype))
