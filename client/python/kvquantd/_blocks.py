"""Blocks: tokens that a host knows by keys of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Mapping, Optional, Sequence, TypeVar, Union

from ._calls import Call, options_of, structure, text
from ._duration import Duration, milliseconds
from ._errors import Exists
from ._geometry import Geometry, Level, geometry_from, geometry_to_c, level_to_c
from ._kvq import ffi, lib
from ._policy import Policy, policy_to_c
from ._transfer import source_of
from ._values import new_values, values_of

if TYPE_CHECKING:
    from ._client import Client

_KEYS_MAX = 512  # kvq.h's
GET_LEASE = 10.0  # between asking for lengths and getting what has them

Pair = tuple[Any, Any]
T = TypeVar("T")


def open_blocks(
    model: str,
    geometry: Geometry,
    level: Optional[Level],
    min_snr_db: Optional[float],
    policy: Optional[Policy],
) -> Call[Any]:
    blocks, options = structure("kvq_blocks"), options_of("kvq_blocks_options")
    kept: list[Any] = [text(model), geometry_to_c(geometry)]
    options.model, options.geometry = kept
    if level is not None:
        options.has_level, options.level = True, level_to_c(level)
    options.min_snr_db = min_snr_db or 0
    if policy is not None:
        kept.append(policy_to_c(policy))
        options.policy = kept[-1]
    return Call(lib.kvq_blocks, (options, blocks), lambda: blocks, kept)


def _fill_key(c: Any, key: bytes) -> Any:
    """Returns what must stay alive while c is used."""
    memory = ffi.from_buffer(key)
    c.bytes, c.byte_count = memory, len(memory)
    return memory


def _keys_to_c(keys: Sequence[bytes]) -> tuple[Any, Any]:
    c = ffi.new("struct kvq_key[]", len(keys))
    return c, [_fill_key(c[i], key) for i, key in enumerate(keys)]


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """No call takes more."""
    for first in range(0, len(items), _KEYS_MAX):
        yield items[first : first + _KEYS_MAX]


def put(
    blocks: Any,
    geometry: Geometry,
    key: bytes,
    k: Any,
    v: Any,
    parent: Optional[bytes],
    position: int,
) -> Call[bool]:
    options = options_of("kvq_block_put_options")
    tokens, kept = source_of(geometry, k, v, options)
    kept += [_fill_key(options.key, key), blocks]
    if parent is not None:
        kept.append(_fill_key(options.parent, parent))
    options.tokens, options.first_position = tokens, position
    return Call(lib.kvq_block_put, (blocks, options), lambda: True, kept)


def control(
    blocks: Any, keys: Sequence[bytes], action: int, lease: Optional[Duration] = None
) -> Call[list[int]]:
    options = options_of("kvq_block_control_options")
    key_array, kept = _keys_to_c(keys)
    options.keys, options.count, options.action = key_array, len(keys), action
    if lease is not None:
        options.lease_ms = milliseconds(lease, "a lease")
    tokens = ffi.new("uint32_t[]", max(len(keys), 1))
    return Call(
        lib.kvq_block_control,
        (blocks, options, tokens),
        lambda: list(tokens[0 : len(keys)]),
        [kept, key_array, blocks],
    )


def _targets(
    geometry: Geometry, values: Sequence[Any], tokens: int, head_dim: int, what: str
) -> tuple[Any, Any]:
    c = ffi.new("struct kvq_target[]", len(values))
    kept = []
    for i, one in enumerate(values):
        target = values_of(one, geometry, geometry.layers, head_dim, what, writable=True)
        if target.tokens != tokens:
            raise ValueError(f"{what} has room for {target.tokens} tokens, not {tokens}")
        kept.append((target, target.fill(c[i])))
    return c, kept


def get(
    blocks: Any,
    geometry: Geometry,
    keys: Sequence[bytes],
    tokens: int,
    out: Optional[Sequence[Pair]],
) -> Call[list[Optional[Pair]]]:
    dims = (geometry.head_dim, geometry.head_dim_v or 0)
    pairs: Sequence[Pair] = out if out is not None else [
        (
            new_values(geometry, geometry.layers, tokens, dims[0]),
            new_values(geometry, geometry.layers, tokens, dims[1]),
        )
        for _ in keys
    ]
    options = options_of("kvq_block_get_options")
    key_array, kept_keys = _keys_to_c(keys)
    options.keys, options.count, options.tokens = key_array, len(keys), tokens
    kept = [key_array, kept_keys, blocks]
    kept += _targets(geometry, [k for k, _ in pairs], tokens, dims[0], "out k")
    options.k = kept[-2]
    if dims[1]:
        kept += _targets(geometry, [v for _, v in pairs], tokens, dims[1], "out v")
        options.v = kept[-2]
    hits = ffi.new("bool[]", max(len(keys), 1))

    def got() -> list[Optional[Pair]]:
        return [pair if hit else None for pair, hit in zip(pairs, hits[0 : len(keys)])]

    return Call(lib.kvq_block_get, (blocks, options, hits, ffi.NULL), got, kept)


def gets(
    blocks: Any,
    geometry: Geometry,
    keys: Sequence[bytes],
    lengths: Sequence[int],
    out: Optional[Sequence[Pair]],
) -> Iterator[tuple[Call[list[Optional[Pair]]], Sequence[int]]]:
    """Calls that get them all, and which keys each is about; those of length 0 are in none."""
    if out is not None and len(out) != len(keys):
        raise ValueError(f"out has {len(out)} pairs for {len(keys)} keys")
    for tokens in sorted(set(lengths) - {0}):
        for where in batches([i for i, length in enumerate(lengths) if length == tokens]):
            pairs = None if out is None else [out[i] for i in where]
            yield get(blocks, geometry, [keys[i] for i in where], tokens, pairs), where


def blocks_of(
    model: str,
    geometry: Union[Geometry, Mapping[str, Any]],
    level: Optional[Level],
    min_snr_db: Optional[float],
    policy: Optional[Policy],
) -> tuple[Geometry, Call[Any]]:
    known = geometry_from(geometry)
    return known, open_blocks(model, known, level, min_snr_db, policy)


class Blocks:
    """The blocks of a model and geometry: tokens under keys of 1 to 64 bytes. Comes from
    Client.blocks().

    A key stands for its block's tokens and all before them; what else changes K and V, as a rank or
    an adapter, belongs into it or into the model. Where a call takes keys, any number will do.
    """

    def __init__(self, client: Client, geometry: Geometry, blocks: Any) -> None:
        self.geometry = geometry
        self._client, self._blocks = client, blocks

    def put(
        self, key: bytes, k: Any, v: Any = None, parent: Optional[bytes] = None, position: int = 0
    ) -> bool:
        """Stores a block; False if there is one of this key, which stays as it is.

        k, v: [layers, tokens, heads, head_dim], as Session.append() takes them. parent: the key of
        the block before it, with which it is then kept: together they fill pages, so that small
        blocks take no more memory than large ones. position: of its first token in the sequence;
        without a parent that is there it says whether these are a sequence's first tokens, which
        are kept exact. At the memory limit it waits, then raises Full. Busy: somebody else is just
        putting it.
        """
        try:
            return self._client._run(
                put(self._blocks, self.geometry, key, k, v, parent, position)
            )
        except Exists:
            return False

    def get(
        self,
        keys: Sequence[bytes],
        tokens: Optional[int] = None,
        out: Optional[Sequence[Pair]] = None,
    ) -> list[Optional[Pair]]:
        """(k, v) of each block, [layers, tokens, heads, head_dim], or None where it is not there.

        tokens: that each block has; one of another length is not there. None: whatever each has,
        which is asked first. out: pairs of arrays to be filled, one a key, for which tokens is
        needed; those of blocks that are not there are undefined then.
        """
        got: list[Optional[Pair]] = [None] * len(keys)
        if tokens is not None:
            lengths = [tokens] * len(keys)
        elif out is not None:
            raise ValueError("with out, tokens says how many each block has")
        else:
            lengths = self.exists(keys, lease=GET_LEASE)
        for call, where in gets(self._blocks, self.geometry, keys, lengths, out):
            pairs = self._client._run(call)
            for i, pair in zip(where, pairs):
                got[i] = pair
        return got

    def _control(
        self, keys: Sequence[bytes], action: int, lease: Optional[Duration] = None
    ) -> list[int]:
        tokens: list[int] = []
        for some in batches(keys):
            lengths = self._client._run(control(self._blocks, some, action, lease))
            tokens += lengths
        return tokens

    def exists(self, keys: Sequence[bytes], lease: Optional[Duration] = None) -> list[int]:
        """How many tokens each block has, 0 where it is not there.

        lease, in seconds or a timedelta: those that are there stay for so long, however short
        memory is.
        """
        return self._control(keys, lib.KVQ_BLOCK_EXISTS, lease)

    def touch(self, keys: Sequence[bytes], lease: Optional[Duration] = None) -> list[int]:
        """The same; those that are there count as used, so that others are evicted before them."""
        return self._control(keys, lib.KVQ_BLOCK_TOUCH, lease)

    def delete(self, keys: Sequence[bytes]) -> list[int]:
        """Deletes blocks and returns how many tokens each had, 0 where it was not there.

        They would not come back from the daemon's disk. DiskFailed: they might, for it failed.
        """
        return self._control(keys, lib.KVQ_BLOCK_DELETE)
