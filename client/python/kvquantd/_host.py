"""What the adapters to inference engines share: K and V in an engine's memory, keys of blocks, and calls
that are misses where the daemon does not serve them."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence, Union

import numpy as np

from ._blocks import Blocks, Pair
from ._breaker import Breaker
from ._client import Client
from ._duration import Duration
from ._errors import Busy
from ._geometry import Geometry, Level
from ._values import new_values, numpy_dtype

Part = Union[bytes, str, int]

RUN_BYTES = 64 << 20  # of values, at most, that have to be moved by one deadline
LEASE = 30.0  # between an engine's look-up and its load


class Heads(NamedTuple):
    """KV heads of a model, as a tensor-parallel rank has them."""

    first: int
    number: int


def heads_of_rank(heads: int, rank: int, degree: int) -> Heads:
    """As engines share out a model's heads: each rank has as many, or one that several ranks have."""
    if not 0 <= rank < degree or (heads % degree and degree % heads):
        raise ValueError(f"rank {rank} of {degree} has no share of {heads} heads")
    return Heads(rank * heads // degree, max(1, heads // degree))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an engine's memory holds the K and V of some tokens of a rank.

    heads: the model's KV heads, over all ranks. axes: P (K, then V), L (layers), T (tokens), H (heads)
    and D (the values of a head), from the slowest to the fastest. Without P there is K alone, or what
    stands for both, as MLA's latent.
    """

    layers: int
    heads: int
    head_dim: int
    dtype: str = "bfloat16"
    axes: str = "PLTHD"

    def __post_init__(self) -> None:
        if self.axes[-1:] != "D" or sorted(self.axes.replace("P", "", 1)) != sorted("LTHD"):
            raise ValueError(f"axes are L, T, H, perhaps P, in any order, then D; not {self.axes!r}")
        self.geometry(self.heads)

    def geometry(self, heads: int) -> Geometry:
        head_dim_v = self.head_dim if "P" in self.axes else 0
        return Geometry(self.layers, heads, self.head_dim, head_dim_v, self.dtype)

    @property
    def value_type(self) -> Any:
        """numpy's dtype of the values, or of their bits."""
        return numpy_dtype(self.geometry(1).dtype)

    def token_bytes(self, heads: int) -> int:
        parts = self.axes.count("P") + 1
        return parts * self.layers * heads * self.head_dim * int(self.value_type.itemsize)

    def values(self, memory: Any) -> Any:
        """Bytes of an engine as an array."""
        return np.frombuffer(memory, np.uint8).view(self.value_type)

    def pair(self, values: Any, heads: int) -> Pair:
        """K and V, or None, as views of values: [layers, tokens, heads, head_dim]. ValueError: it is no
        whole number of tokens."""
        sizes = {"P": 2, "L": self.layers, "T": -1, "H": heads, "D": self.head_dim}
        shaped = values.reshape([sizes[axis] for axis in self.axes])
        k_and_v = shaped.transpose([self.axes.index(axis) for axis in "PLTHD" if axis in self.axes])
        return (k_and_v[0], k_and_v[1]) if "P" in self.axes else (k_and_v, None)


def key_of(*parts: Part) -> bytes:
    """A key that stands for these and nothing else."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        encoded = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.digest()


@dataclasses.dataclass(frozen=True)
class Block:
    """Some tokens' K and V of a rank, where they stand: [layers, tokens, heads, head_dim], as numpy's.

    key: the same for all ranks. parent: the key of the block before it, where that is known.
    """

    key: bytes
    heads: Heads
    k: Any
    v: Any = None
    parent: Optional[bytes] = None
    position: int = 0

    @property
    def tokens(self) -> int:
        return int(self.k.shape[1])

    @property
    def nbytes(self) -> int:
        return int(self.k.nbytes) + (0 if self.v is None else int(self.v.nbytes))


def _runs(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """All, in their order; those of a run are alike, and as many as one deadline is for."""
    first, run_bytes = 0, 0
    for i, block in enumerate(blocks):
        alike = (block.tokens, block.heads) == (blocks[first].tokens, blocks[first].heads)
        if i > first and (not alike or run_bytes + block.nbytes > RUN_BYTES):
            yield blocks[first:i]
            first, run_bytes = i, 0
        run_bytes += block.nbytes
    if blocks:
        yield blocks[first:]


class Cut:
    """Some heads of a block that are stored under a key of their own, and where they are fetched to."""

    def __init__(self, block: Block, shard: Heads, geometry: Geometry) -> None:
        self.key = key_of(block.key, *shard)
        first, own = shard.first, block.heads.first
        low, high = max(first, own), min(first + shard.number, own + block.heads.number)
        inner, outer = slice(low - own, high - own), slice(low - first, high - first)
        parts = [part for part in (block.k, block.v) if part is not None]
        wanted = [part[:, :, inner] for part in parts]
        self._copies: list[tuple[Any, Any]] = []
        if high - low < shard.number:
            room: list[Any] = [
                new_values(geometry, geometry.layers, block.tokens, geometry.head_dim) for _ in parts
            ]
            self._copies = [(to, came[:, :, outer]) for to, came in zip(wanted, room)]
            wanted = room
        self.out: Pair = (wanted[0], wanted[1] if len(wanted) > 1 else None)

    def finish(self) -> None:
        for to, came in self._copies:
            to[...] = came


class Store:
    """An engine's blocks in the daemon.

    model: a string that no other weights, tokenizer or adapters have. level: as of Client.blocks().
    degrees: of tensor parallelism at which others may have stored what is looked for; each costs
    another look-up where a block is not there. lease: seconds for which what an engine was told to be
    there stays. socket, deadline, retry_after: as of Breaker; a call moves RUN_BYTES at a time, each
    with that deadline, and ends with the first that the daemon does not serve.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        model: str,
        level: Optional[Level] = None,
        degrees: Sequence[int] = (),
        lease: Duration = LEASE,
        socket: Optional[str] = None,
        deadline: Duration = 2.0,
        retry_after: Duration = 5.0,
    ) -> None:
        self.layout = layout
        self.breaker = Breaker(socket, deadline=deadline, retry_after=retry_after)
        self._model, self._level, self._lease = model, level, lease
        self._sizes = [heads_of_rank(layout.heads, 0, degree).number for degree in degrees]
        self._opened: dict[int, Any] = {}

    def close(self) -> None:
        self.breaker.close()

    def put(self, blocks: Sequence[Block]) -> list[bool]:
        """Whether each is there now."""
        return self._each_run(blocks, self._put, writes=True)

    def get(self, blocks: Sequence[Block]) -> list[bool]:
        """Fills those that are there; what stands in the others is undefined."""
        return self._each_run(blocks, self._get)

    def exists(self, keys: Sequence[bytes], heads: Heads) -> list[bool]:
        """Which are there, and stay for the lease."""
        nowhere = [False] * len(keys)
        return self.breaker.run(lambda client: self._exists(client, keys, heads), nowhere)

    def delete(self, keys: Sequence[bytes], heads: Heads) -> list[bool]:
        """Which were there as this rank has them; those that are there otherwise stay."""

        def delete(client: Client) -> list[bool]:
            gone = self._blocks(client, heads.number).delete([key_of(key, *heads) for key in keys])
            return [tokens > 0 for tokens in gone]

        return self.breaker.run(delete, [False] * len(keys))

    def _each_run(
        self,
        blocks: Sequence[Block],
        work: Callable[[Client, Sequence[Block]], list[bool]],
        writes: bool = False,
    ) -> list[bool]:
        done: list[bool] = []
        for run in _runs(blocks):
            did = self.breaker.run(lambda client: work(client, run), writes=writes)
            if did is None:
                break
            done += did
        return done + [False] * (len(blocks) - len(done))

    def _blocks(self, client: Client, heads: int) -> Blocks:
        geometry = self.layout.geometry(heads)
        if heads not in self._opened:
            opened = client.blocks(self._model, geometry, level=self._level)
            self._opened[heads] = opened._blocks
        return Blocks(client, geometry, self._opened[heads])

    def _shards(self, heads: Heads) -> Iterator[list[Heads]]:
        """The ways in which these may have been stored."""
        for size in dict.fromkeys([heads.number, *self._sizes]):
            first = heads.first // size * size
            yield [Heads(at, size) for at in range(first, heads.first + heads.number, size)]

    def _put(self, client: Client, blocks: Sequence[Block]) -> list[bool]:
        to = self._blocks(client, blocks[0].heads.number)
        return [self._put_one(to, block) for block in blocks]

    def _put_one(self, to: Blocks, block: Block) -> bool:
        key, parent = key_of(block.key, *block.heads), None
        if block.parent is not None:
            parent = key_of(block.parent, *block.heads)
        try:
            to.put(key, block.k, block.v, parent, block.position)
        except Busy:
            return False
        return True

    def _get(self, client: Client, blocks: Sequence[Block]) -> list[bool]:
        got = [False] * len(blocks)
        for shards in self._shards(blocks[0].heads):
            left = [i for i, there in enumerate(got) if not there]
            for i, there in zip(left, self._get_as(client, [blocks[i] for i in left], shards)):
                got[i] = there
        return got

    def _get_as(
        self, client: Client, blocks: Sequence[Block], shards: Sequence[Heads]
    ) -> Iterator[bool]:
        source = self._blocks(client, shards[0].number)
        cuts = [[Cut(block, shard, source.geometry) for shard in shards] for block in blocks]
        flat = [cut for of_block in cuts for cut in of_block]
        if not flat:
            return
        came = source.get([cut.key for cut in flat], blocks[0].tokens, [cut.out for cut in flat])
        for i, of_block in enumerate(cuts):
            there = None not in came[i * len(shards) : (i + 1) * len(shards)]
            for cut in of_block if there else ():
                cut.finish()
            yield there

    def _exists(self, client: Client, keys: Sequence[bytes], heads: Heads) -> list[bool]:
        there = [False] * len(keys)
        for shards in self._shards(heads):
            left = [i for i, known in enumerate(there) if not known]
            asked = [key_of(keys[i], *shard) for i in left for shard in shards]
            tokens = self._blocks(client, shards[0].number).exists(asked, lease=self._lease)
            for at, i in enumerate(left):
                there[i] = all(tokens[at * len(shards) : (at + 1) * len(shards)])
        return there
