"""One layer of a CompressedDynamicCache: old tokens in pages, the newest as they are."""

from __future__ import annotations

import inspect
import sys
from typing import Any, Optional

import torch  # type: ignore[import-not-found]
from transformers.cache_utils import DynamicLayer  # type: ignore[import-not-found]

from .._kvq import ffi, lib
from ._levels import Pair, is_coarser, levels_at
from ._pages import DTYPES, Page, check, pointer
from ._scratch import Scratch, restored

# transformers 5 says how many tokens to remove, 4 how many to keep; both take -n for n fewer.
CROP_REMOVES = "tokens_to_remove" in inspect.signature(DynamicLayer.crop).parameters

ROOM_TOKENS = 16  # a tail's room is a multiple of it


class CompressedLayer(DynamicLayer):  # type: ignore[misc]
    """K and V [rows, heads, tokens, head_dim] of float16, bfloat16 or float32 on the CPU."""

    def __init__(self, scratch: Scratch, index: int) -> None:
        super().__init__()
        self._scratch, self._index = scratch, index
        self._forget()

    def _forget(self) -> None:
        self.is_initialized = False
        self._pages: list[Page] = []
        self._paged: int = 0  # tokens in pages
        self._tail: list[Any] = []  # K and V [rows, heads, room, head_dim]
        self._tail_dtype: Any = None
        self._c = ffi.new("struct kvq_layer *")
        self._added = ffi.new("struct kvq_layer_values[2]")
        self._kept: Any = None  # what _c points to

    # ---- What transformers calls ----

    def lazy_initialization(self, key_states: Any, value_states: Optional[Any] = None) -> None:
        """Takes rows, heads and dims from K and V of the first tokens. transformers 4 gives K only."""
        value_states = key_states if value_states is None else value_states
        if key_states.device.type != "cpu":
            raise ValueError(f"K and V are on {key_states.device}; this cache works on the cpu")
        if key_states.dtype not in DTYPES:
            raise TypeError(f"K and V are {key_states.dtype}, not float16, bfloat16 or float32")
        rows, heads, _, head_dim = key_states.shape
        dims = head_dim, value_states.shape[-1]
        if lib.kvq_page_tokens(heads, *dims) == 0:
            raise ValueError(f"a token of {heads} heads of {max(dims)} values is too large for a page")
        self.dtype, self.device = key_states.dtype, key_states.device
        self._rows, self._heads, self._dims = rows, heads, dims
        self._c.rows, self._c.heads, self._c.head_dim = rows, heads, dims
        self._c.dtype = DTYPES[self.dtype]
        wide = self.dtype == torch.float32
        self._make_tail(torch.float16 if wide else self.dtype, 0)
        self.is_initialized = True

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Adds K and V [rows, heads, new tokens, head_dim]; returns those of all tokens, which hold
        until the next layer's update: they are in the scratch. Of the first tokens they are what was
        given. Gradients flow through the new tokens only."""
        if not self.is_initialized or (self._length() == 0 and self._dims[1] != value_states.shape[-1]):
            self.lazy_initialization(key_states, value_states)
        added = self._check_shapes(key_states, value_states)
        before, count = self._length(), added[0].shape[-2]
        self._make_room(count)
        if before == 0:
            self._add(added, count)
            whole = key_states, value_states
        elif key_states.requires_grad or value_states.requires_grad:
            past = self._restored()
            self._add(added, count)
            whole = tuple(torch.cat(pair, -2) for pair in zip(past, (key_states, value_states)))
        else:
            whole = self._step(added, before, count)
        if self._c.tail_tokens >= self._scratch.steps[0][0] + self._scratch.page_tokens:
            self._code(self._scratch.steps[0][0])
        return whole

    def get_seq_length(self, *args: Any) -> int:
        return self._length() if self.is_initialized else 0

    def crop(self, count: int) -> None:
        if CROP_REMOVES and count > 0:
            raise ValueError(f"crop() takes how many tokens to remove as a negative number, not {count}")
        length = self.get_seq_length()
        if count < 0 or CROP_REMOVES:
            count += length
        if count < length:
            self._keep(max(count, 0))

    def reset(self) -> None:
        self._forget()

    def reorder_cache(self, beam_idx: Any) -> None:
        self._select(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.get_seq_length() > 0:
            self._select(torch.arange(self._rows).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Any) -> None:
        if self.get_seq_length() > 0:
            self._select(torch.arange(self._rows)[indices])

    def offload(self) -> None:
        """Nothing: what it holds is on the CPU."""

    def prefetch(self) -> None:
        """Nothing, likewise."""

    # Each use restores into memory of its own.
    @property
    def keys(self) -> Any:
        return self._restored()[0] if self.is_initialized else None

    @keys.setter
    def keys(self, value: None) -> None:
        self._refuse(value)

    @property
    def values(self) -> Any:
        return self._restored()[1] if self.is_initialized else None

    @values.setter
    def values(self, value: None) -> None:
        self._refuse(value)

    @staticmethod
    def _refuse(value: Any) -> None:
        if value is not None:
            raise AttributeError("keys and values are restored from pages: use update() or reset()")

    # ---- Saving ----

    def __getstate__(self) -> dict[str, Any]:
        kept = ("is_initialized", "_scratch", "_index", "_pages", "_tail_dtype")
        state = {name: getattr(self, name) for name in kept}
        if self.is_initialized:
            tail = [part[:, :, : self._c.tail_tokens].clone() for part in self._tail]
            state |= {"_rows": self._rows, "_heads": self._heads, "_dims": self._dims,
                      "dtype": self.dtype, "device": self.device, "tail": tail}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        pages, tail = state["_pages"], state.pop("tail", None)
        self._forget()
        self.__dict__.update(state)
        self._pages = [Page(**vars(page)) for page in pages]
        if tail is not None:
            self._c.rows, self._c.heads, self._c.head_dim = self._rows, self._heads, self._dims
            self._c.dtype = DTYPES[self.dtype]
            self._take_tail(tail, tail[0].shape[2])
            self._pages_changed()

    # ---- Sizes ----

    @property
    def shape(self) -> tuple[int, int, int, tuple[int, int], Any]:
        """(rows, tokens, heads, head_dim of K and V, dtype)"""
        return self._rows, self._length(), self._heads, self._dims, self.dtype

    def page_rows(self) -> list[bytes]:
        """The bytes of all pages; those that rows share more than once."""
        return [part for page in self._pages for row in page.rows for part in row]

    @property
    def own_nbytes(self) -> int:
        """Everything but pages: the tail with its free room, and the tables."""
        tables = ffi.sizeof("struct kvq_layer") + ffi.sizeof(self._added)
        tables += sum(ffi.sizeof(array) for array in self._kept or ())
        return int(tables + sum(part.nbytes for part in self._tail))

    def tokens_at(self) -> dict[Optional[Pair], int]:
        """Tokens of a row by levels of K and V; None: as they are."""
        counts: dict[Optional[Pair], int] = {}
        for page in self._pages:
            counts[page.levels] = counts.get(page.levels, 0) + page.tokens
        if self._c.tail_tokens:
            counts[None] = int(self._c.tail_tokens)
        return counts

    # ---- Adding ----

    def _length(self) -> int:
        return int(self._paged + self._c.tail_tokens)

    def _check_shapes(self, key_states: Any, value_states: Any) -> list[Any]:
        count = key_states.shape[-2]
        for given, dim in zip((key_states, value_states), self._dims):
            expected = self._rows, self._heads, count, dim
            if tuple(given.shape) != expected or given.dtype != self.dtype:
                raise ValueError(
                    f"K or V is {given.dtype} {list(given.shape)}, not {self.dtype} {list(expected)}"
                )
        return [given if given.stride(-1) == 1 or given.shape[-1] == 1 else given.contiguous()
                for given in (key_states, value_states)]

    def _fill_added(self, added: list[Any]) -> None:
        for c, given in zip(self._added, added):
            row, head, token, _ = given.stride()
            width = given.element_size()
            c.values = pointer(given)
            c.row_stride, c.head_stride, c.token_stride = row * width, head * width, token * width

    def _add(self, added: list[Any], count: int) -> None:
        self._fill_added(added)
        error = lib.kvq_layer_add(self._c, count, self._added)
        if error == lib.KVQ_TOO_LARGE:
            self._widen_tail()
            error = lib.kvq_layer_add(self._c, count, self._added)
        check(error)

    def _step(self, added: list[Any], before: int, count: int) -> tuple[Any, Any]:
        room = self._scratch.room_for(self.dtype, self._rows, self._heads, self._dims, before + count)
        self._fill_added(added)
        workspace = self._scratch.coder.workspace
        error = lib.kvq_layer_step(self._c, count, self._added, room.pointers, workspace)
        if error == lib.KVQ_TOO_LARGE:
            self._widen_tail()
            error = lib.kvq_layer_step(self._c, count, self._added, room.pointers, workspace)
        check(error)
        return room.keys, room.values

    def _restored(self) -> tuple[Any, Any]:
        shape = self._rows, self._heads, self._length()
        room = restored((), [torch.empty(*shape, dim, dtype=self.dtype) for dim in self._dims])
        check(lib.kvq_layer_restore(self._c, room.pointers, self._scratch.coder.workspace))
        return room.keys, room.values

    # ---- The tail ----

    def _make_tail(self, dtype: Any, room: int) -> None:
        shape = self._rows, self._heads, room
        self._tail = [torch.empty(*shape, dim, dtype=dtype) for dim in self._dims]
        self._tail_dtype = dtype
        self._c.tail_dtype, self._c.tail_room, self._c.tail_tokens = DTYPES[dtype], room, 0
        self._c.tail = [pointer(part) for part in self._tail]

    def _take_tail(self, parts: list[Any], room: int) -> None:
        """The tail is these tokens now, with room for so many."""
        count = parts[0].shape[2]
        self._make_tail(self._tail_dtype, room)
        for old, new in zip(parts, self._tail):
            new[:, :, :count] = old
        self._c.tail_tokens = count

    @property
    def tail_first(self) -> int:
        """The position of the tail's first token."""
        return self._paged

    def tail(self) -> list[Any]:
        """K and V [rows, heads, tokens, head_dim]."""
        return self._tail_from(0)

    def _tail_from(self, first: int) -> list[Any]:
        return [part[:, :, first : self._c.tail_tokens] for part in self._tail]

    def _make_room(self, count: int) -> None:
        needed = self._c.tail_tokens + count
        if needed > self._c.tail_room:
            self._take_tail(self._tail_from(0), tail_room(needed))

    def _widen_tail(self) -> None:
        """Values beyond float16: the tail keeps the model's own dtype from now on."""
        parts, room = self._tail_from(0), self._c.tail_room
        self._tail_dtype = self.dtype
        self._take_tail(parts, room)

    # ---- Pages ----

    @property
    def _page_limit(self) -> int:
        """Tokens in a page."""
        return int(min(self._scratch.page_tokens, lib.kvq_page_tokens(self._heads, *self._dims)))

    def _code(self, left: int, whole_pages: bool = True) -> None:
        """Codes the tail's oldest tokens, page by page, until at most `left` and what is no whole
        page are in it."""
        limit = self._page_limit
        first, end = 0, int(self._c.tail_tokens) - left
        while first < end and (end - first >= limit or not whole_pages):
            count = min(limit, end - first)
            self._pages.append(self._page(first, count))
            first += count
        rest = self._tail_from(first)
        self._take_tail(rest, tail_room(rest[0].shape[2]))
        self._age()
        self._pages_changed()

    def _page(self, first: int, count: int) -> Page:
        age = int(self._c.tail_tokens) - first - count  # of the newest token in it
        levels = levels_at(self._scratch.steps, age)
        sinks = 0 if self._pages else min(count, lib.KVQ_PAGE_SINK_TOKENS)
        rows = [
            tuple(
                self._encode(part[row, :, first : first + count], number, levels[number], sinks)
                for number, part in enumerate(self._tail)
            )
            for row in range(self._rows)
        ]
        return Page(levels, count, self._tail_dtype, rows)  # type: ignore[arg-type]

    def _encode(self, tensor: Any, part: int, level: int, sinks: int) -> bytes:
        layers = self._scratch.layers
        return self._scratch.coder.encode(tensor, part, level, sinks, self._index, layers)

    def _age(self) -> None:
        """Brings pages to the levels of their age, that of the newest token in them."""
        age = sum(page.tokens for page in self._pages) + int(self._c.tail_tokens)
        for number, page in enumerate(self._pages):
            age -= page.tokens
            levels = levels_at(self._scratch.steps, age)
            if is_coarser(levels, page.levels):
                self._pages[number] = self._aged(page, levels, number == 0)

    def _aged(self, page: Page, levels: Pair, is_first: bool) -> Page:
        known: dict[int, bytes] = {}  # rows may share bytes

        def aged(stored: bytes, part: int) -> bytes:
            if levels[part] == page.levels[part]:
                return stored
            if id(stored) not in known:
                known[id(stored)] = self._aged_bytes(
                    stored, part, page.dtype, levels[part], is_first)
            return known[id(stored)]

        rows = [(aged(k, lib.KVQ_K), aged(v, lib.KVQ_V)) for k, v in page.rows]
        return Page(levels, page.tokens, page.dtype, rows)

    def _aged_bytes(self, stored: bytes, part: int, dtype: Any, level: int, is_first: bool) -> bytes:
        coder = self._scratch.coder
        if coder.level_of(stored) >= 0:
            return coder.age(stored, level)
        tensor = coder.decode(stored, dtype)
        sinks = min(tensor.shape[1], lib.KVQ_PAGE_SINK_TOKENS) if is_first else 0
        return self._encode(tensor, part, level, sinks)

    def _pages_changed(self) -> None:
        """Tells libkvq where the pages are."""
        self._paged = sum(page.tokens for page in self._pages)
        parts = self.page_rows()
        table = ffi.new("struct kvq_page_bytes[]", [(ffi.from_buffer(p), len(p)) for p in parts])
        tokens = ffi.new("uint32_t[]", [page.tokens for page in self._pages])
        self._c.page_count, self._c.pages, self._c.page_tokens = len(self._pages), table, tokens
        self._kept = table, tokens

    def settle(self) -> None:
        """Codes all that is in the tail, and frees it."""
        if self.is_initialized and self._c.tail_tokens:
            self._code(0, whole_pages=False)

    # ---- Changing what is there ----

    def _keep(self, length: int) -> None:
        """Of a page that is cut the rest stays coded, but does not count."""
        paged = self._paged
        self._c.tail_tokens = max(0, length - paged)
        while self._pages and paged > length:
            last = self._pages[-1]
            paged -= last.tokens
            self._pages.pop()
            if paged < length:
                self._pages.append(Page(last.levels, length - paged, last.dtype, last.rows))
                break
        self._pages_changed()

    def _select(self, indices: Any) -> None:
        """Sequences by their numbers, any as often as it is named. What they share is held once."""
        if not self.is_initialized:
            return
        rows = indices.tolist()
        tail = [part.index_select(0, indices.to(part.device)) for part in self._tail_from(0)]
        self._rows = self._c.rows = len(rows)
        self._pages = [page.of_rows(rows) for page in self._pages]
        self._take_tail(tail, self._c.tail_room)
        self._pages_changed()


def tail_room(tokens: int) -> int:
    """So much that a tail seldom moves, and little of it is free."""
    return -(-tokens // ROOM_TOKENS) * ROOM_TOKENS


def unique_nbytes(parts: list[bytes]) -> int:
    """With what Python itself takes for them; those that are shared once."""
    return sum(sys.getsizeof(part) for part in {id(part): part for part in parts}.values())
