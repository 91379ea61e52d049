"""A session as one client sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence

from . import _report
from ._errors import WrongFirst
from ._geometry import Geometry, Level, geometry_from_c, level_from_c
from ._kvq import ffi, lib
from ._values import new_values, values_of

if TYPE_CHECKING:
    from ._client import Client

_AT_END = 2**64 - 1


class Session:
    """Tokens 0 to `tokens` of one sequence. Comes from Client.open().

    tokens, version and level are what the daemon last said.
    """

    def __init__(self, client: Client, state: Any) -> None:
        self._client = client
        self._state = state
        self.geometry: Geometry = geometry_from_c(state.geometry)
        self.created: bool = bool(state.created)

    @property
    def name(self) -> str:
        return ffi.string(self._state.session).decode()

    @property
    def model(self) -> str:
        return ffi.string(self._state.model).decode()

    @property
    def tokens(self) -> int:
        return self._state.tokens

    @property
    def version(self) -> int:
        return self._state.version

    @property
    def level(self) -> Level:
        return level_from_c(self._state.level)

    def __repr__(self) -> str:
        return f"<kvquantd.Session {self.name!r}: {self.tokens} tokens>"

    def append(
        self,
        k: Any,
        v: Any = None,
        first: Optional[int] = None,
        token_ids: Optional[Sequence[int]] = None,
        *,
        settle: bool = False,
    ) -> int:
        """Appends tokens, all or nothing, and returns the session's length after that.

        k, v: [layers, tokens, heads, head_dim], or a list of such without the first dimension, a
        layer each; any strides, and without a copy where rows of head_dim values are whole. v is
        None for a model without V. first: the first token's position, which must be the session's
        length (WrongFirst says what it is); None: `tokens`. With settle the call returns when all
        is coded at the session's level. At the memory limit it waits, then raises Full.
        """
        geometry = self.geometry
        k_values = values_of(k, geometry, geometry.layers, geometry.head_dim, "k")
        options = ffi.new("struct kvq_append_options *")
        options.size = ffi.sizeof("struct kvq_append_options")
        kept = [k_values, k_values.fill(options.k)]
        if geometry.head_dim_v and v is None:
            raise ValueError("v is missing")
        if geometry.head_dim_v:
            v_values = values_of(v, geometry, geometry.layers, geometry.head_dim_v, "v")
            if v_values.tokens != k_values.tokens:
                raise ValueError(f"k has {k_values.tokens} tokens, v {v_values.tokens}")
            kept += [v_values, v_values.fill(options.v)]
        elif v is not None:
            raise ValueError("the geometry has no V")
        if token_ids is not None and len(token_ids) != k_values.tokens:
            raise ValueError(f"{len(token_ids)} token_ids for {k_values.tokens} tokens")
        if k_values.tokens == 0:
            return self.tokens
        options.first = _AT_END if first is None else first
        options.tokens = k_values.tokens
        options.settle = settle
        with self._client._lock:
            try:
                self._client._call(lib.kvq_append, self._state, options)
            except WrongFirst as error:
                error.tokens = self._state.tokens
                raise
        return self.tokens

    def fetch(
        self,
        tokens: Optional[range] = None,
        layers: Optional[range] = None,
        out: Optional[tuple[Any, Any]] = None,
        *,
        if_version: Optional[int] = None,
    ) -> tuple[Any, Any]:
        """Returns (k, v) of a range of tokens (None: all there are now) and layers (None: all).

        They are new numpy arrays, [layers, tokens, heads, head_dim] in the session's dtype (bfloat16
        through ml_dtypes where it is installed, else as uint16); v is None for a model without V.
        Or those of out, (k, v): arrays, tensors or lists as in append(), undefined until this
        returns; one of them may be None, and is not fetched. Miss: a part of it is not there.
        VersionChanged: the session is no longer at if_version.
        """
        geometry = self.geometry
        if tokens is None:
            self.refresh()
            tokens = range(0, self.tokens)
        layers = range(0, geometry.layers) if layers is None else layers
        _check_range(tokens, "tokens")
        _check_range(layers, "layers")
        if out is None:
            dims = (geometry.head_dim, geometry.head_dim_v or 0)
            out_k, out_v = (new_values(geometry, len(layers), len(tokens), dim) for dim in dims)
        else:
            out_k, out_v = out
        if len(tokens) == 0 or len(layers) == 0:
            return out_k, out_v
        options = ffi.new("struct kvq_fetch_options *")
        options.size = ffi.sizeof("struct kvq_fetch_options")
        options.first, options.end = tokens.start, tokens.stop
        options.first_layer, options.end_layer = layers.start, layers.stop
        options.if_version = if_version or 0
        kept = [self._target(out_k, len(layers), len(tokens), geometry.head_dim, "k", options.k)]
        if out_v is not None:
            dim_v = geometry.head_dim_v or 0
            kept += [self._target(out_v, len(layers), len(tokens), dim_v, "v", options.v)]
        with self._client._lock:
            self._client._call(lib.kvq_fetch, self._state, options, ffi.NULL)
        return out_k, out_v

    def _target(
        self, out: Any, layers: int, tokens: int, head_dim: int, what: str, c: Any
    ) -> Any:
        """Fills c, a struct kvq_target; returns what must stay alive while it is used."""
        if out is None:
            return None
        values = values_of(out, self.geometry, layers, head_dim, f"out {what}", writable=True)
        if values.tokens != tokens:
            raise ValueError(f"out {what} has room for {values.tokens} tokens, not {tokens}")
        return values, values.fill(c)

    def refresh(self) -> None:
        """Learns the session's present length and version."""
        now = ffi.new("struct kvq_session_state *")
        with self._client._lock:
            self._client._call(lib.kvq_find, ffi.string(self._state.session), now)
            for field in ("tokens", "tail_tokens", "version"):
                setattr(self._state, field, getattr(now, field))

    def info(self) -> dict[str, Any]:
        """Tokens, bytes, ratio, loss and levels, as `kvq info --json` has them."""
        info = ffi.new("struct kvq_session_info *")
        with self._client._lock:
            self._client._call(lib.kvq_info, ffi.string(self._state.session), info)
            return _report.session_info(info)

    def delete(self) -> int:
        """Deletes the session and returns the bytes that are free by that."""
        return self._client.delete(self.name)


def _check_range(given: range, what: str) -> None:
    if given.step != 1 or given.start < 0 or given.stop < given.start:
        raise ValueError(f"{what} is no plain range: {given}")
