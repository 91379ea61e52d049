"""A session as one client sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Optional, Sequence, Union, overload

from . import _calls, _recall, _recall_keys, _transfer
from ._calls import Attachment
from ._duration import Duration
from ._geometry import Geometry, Level, geometry_from_c, level_from_c
from ._kvq import ffi
from ._policy import Policy
from ._recall import Range, Recalled
from ._recall_keys import RecalledKeys
from ._transfer import Fetched

if TYPE_CHECKING:
    from ._client import Client


class SessionState:
    """What is known of a session. tokens, version and level are what the daemon last said."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.geometry: Geometry = geometry_from_c(state.geometry)
        self.created: bool = bool(state.created)

    @property
    def name(self) -> str:
        return str(ffi.string(self._state.session).decode())

    @property
    def model(self) -> str:
        return str(ffi.string(self._state.model).decode())

    @property
    def tokens(self) -> int:
        return int(self._state.tokens)

    @property
    def version(self) -> int:
        return int(self._state.version)

    @property
    def level(self) -> Level:
        return level_from_c(self._state.level)

    @property
    def min_snr_db(self) -> Optional[float]:
        return self._state.min_snr_db or None

    def __repr__(self) -> str:
        return f"<kvquantd.{type(self).__name__} {self.name!r}: {self.tokens} tokens>"


class Session(SessionState):
    """Tokens 0 to `tokens` of one sequence. Comes from Client.open() and fork().

    Every call raises Miss if the daemon has no such session, ConnectionLost and Deadline as kvq.h
    says, and what else stands at each.
    """

    def __init__(self, client: Client, state: Any) -> None:
        super().__init__(state)
        self._client = client

    def append(
        self,
        k: Any,
        v: Any = None,
        first: Optional[int] = None,
        token_ids: Optional[Sequence[int]] = None,
        *,
        salts: Optional[Iterable[tuple[int, int, bytes]]] = None,
        settle: bool = False,
    ) -> int:
        """Appends tokens, all or nothing, and returns the session's length after that.

        k, v: [layers, tokens, heads, head_dim], or a list of such without the first dimension, a
        layer each; any strides, and without a copy where rows of head_dim values are whole. v is
        None for a model without V. first: the first token's position, which must be the session's
        length (WrongFirst says what it is); None: `tokens`. token_ids: integers, one a token, by
        which Client.match() finds the session and others may share it; salts: (first, tokens, bytes)
        each, see Salt. A session has ids up to the first append without. With settle the call returns when all
        is coded at the session's level. At the memory limit it waits, then raises Full. Busy:
        somebody else is appending. Error "too_large": more than ever fits: append fewer tokens at a
        time.
        """
        call = _transfer.append(self._state, self.geometry, k, v, first, token_ids, salts, settle)
        return self._client._run(call) if call else self.tokens

    def fetch(
        self,
        tokens: Optional[range] = None,
        layers: Optional[range] = None,
        out: Optional[tuple[Any, Any]] = None,
        *,
        dtype: Optional[str] = None,
        if_version: Optional[int] = None,
        within: Optional[Duration] = None,
    ) -> Fetched:
        """Returns (k, v) of a range of tokens (None: all there are now) and layers (None: all).

        They are new numpy arrays, [layers, tokens, heads, head_dim] in dtype, one of Geometry's (None:
        the session's; bfloat16 and 8-bit floats through ml_dtypes where it is installed, else as
        uint16 and uint8); v is None for a model without V.
        Or those of out, (k, v): arrays, tensors or lists as in append(), undefined until this
        returns; one of them may be None, and is not fetched. The pair has attributes that say at
        which levels and with which loss the values were kept: see Fetched.

        Miss: a part of it is not there, or not all is here within so many seconds (or a timedelta).
        VersionChanged: the session is no longer at if_version. Unsupported: the session's values are
        not given in dtype; "f16", "bf16" and "f32" are always possible.
        """
        if tokens is None:
            self.refresh()
            tokens = range(0, self.tokens)
        state, geometry = self._state, self.geometry
        call = _transfer.fetch(state, geometry, tokens, layers, out, dtype, if_version, within)
        return self._client._run(call)

    def fork(
        self, name: str, tokens: Optional[int] = None, *, if_version: Optional[int] = None
    ) -> Session:
        """Makes a new session of the first tokens (None: all that the daemon has), copying none.

        It has this one's model, geometry, level, policy and sharing; from then on both go their own ways. Exists:
        there is a session of that name. Miss: there are fewer tokens. VersionChanged: the session
        is no longer at if_version.
        """
        forked = self._client._run(_calls.fork(self._state, name, tokens, if_version))
        return Session(self._client, forked)

    def truncate(self, tokens: int) -> int:
        """Keeps the first tokens, drops the rest, and returns the session's length after that.

        Miss: there are fewer. Busy: somebody is appending.
        """
        return self._client._run(_calls.truncate(self._state, tokens))

    def age(self, level: Level, *, settle: bool = True) -> dict[str, Any]:
        """Brings the session to a coarser level: what is stored and what is appended from now on.

        Returns level, stored_bytes_before and stored_bytes; with settle when all is coded at the
        level, else at once. Invalid: it is finer than the session's.
        """
        return self._client._run(_calls.age(self._state, level, settle))

    def policy(self, change: Optional[Policy] = None) -> Policy:
        """Changes what is given of how the session is kept, and returns how that is now.

        What is coarser already stays so. Invalid: newest_level would be coarser, or floor finer,
        than the session's level.
        """
        return self._client._run(_calls.policy(self._state, change))

    def attach(self, name: str, data: Any, *, if_version: Optional[int] = None) -> None:
        """Keeps a small blob with the session: a sampler's state, token ids, an engine's own state.

        name: 1 to 255 bytes of UTF-8; what has it is replaced. data: bytes or another contiguous
        buffer, of at most 16 MiB. It is kept exactly, for as long as the session has a token, or from
        the start had none. A fork has those of its source; one of fewer tokens those that were put
        when there were no more. Invalid: the name or the size cannot be. Unsupported: the session
        has 64 others. Full: the memory limit is reached. VersionChanged: the session is no longer at
        if_version. DiskFailed: it is attached, but would not outlast a loss of power.
        """
        self._client._run(_calls.attach(self._state, name, data, if_version))

    def attachment(self, name: str, *, if_version: Optional[int] = None) -> Attachment:
        """Returns what is attached under this name: bytes, with `tokens`, the session's length when it
        was put. Miss: nothing is. VersionChanged: the session is no longer at if_version."""
        return self._client._run(_calls.attachment(self._state, name, if_version))

    def attachments(self) -> list[dict[str, Any]]:
        """name, bytes, stored_bytes and tokens of each attachment, by name."""
        return self._client._run(_calls.attachments(self._state))

    def detach(self, name: str, *, if_version: Optional[int] = None) -> int:
        """Deletes an attachment and returns the bytes that are free by that. Miss: there was none.
        VersionChanged: the session is no longer at if_version."""
        return self._client._run(_calls.detach(self._state, name, if_version))

    def index(
        self,
        embeddings: Any,
        ranges: Sequence[Range],
        labels: Optional[Sequence[Optional[str]]] = None,
        metadata: Optional[Sequence[Any]] = None,
        metric: str = "cosine",
        *,
        if_version: Optional[int] = None,
    ) -> int:
        """Lets ranges of tokens be found by embeddings; returns how many entries it replaced.

        embeddings: [n, dim], dim up to 4096, float32 or float16 (anything else becomes float32).
        ranges: for each a range, or (first, end). labels: each at most 255 bytes; what has one takes the place
        of the session's entry of that label; None or "": none. metadata: bytes or str, each at most
        1024 bytes. metric: "cosine", or "inner", the dot product. An entry goes with the first of its tokens
        that is truncated or evicted; a fork has those of its tokens. It leaves the session's version
        as it is. More than 16 MiB go in steps, each whole or not at all.

        Invalid: a vector is not finite, or zero under cosine, or two entries have one label. Miss:
        the session has not all of a range. Full: the memory limit is reached. VersionChanged: the
        session is no longer at if_version. DiskFailed: as of attach().
        """
        return self._client._run(
            _recall.index(self._state, embeddings, ranges, labels, metadata, metric, if_version)
        )

    def unindex(
        self,
        labels: Optional[Sequence[str]] = None,
        *,
        tokens: Optional[Range] = None,
        if_version: Optional[int] = None,
    ) -> int:
        """Deletes entries: those of these labels, or with a token in the range, or with neither all;
        returns how many. No recall finds them then, but for forks. VersionChanged: the session is no
        longer at if_version."""
        return self._client._run(_recall.unindex(self._state, labels, tokens, if_version))

    @overload
    def recall(
        self,
        query: Any,
        k: int = 8,
        *,
        metric: str = "cosine",
        min_score: Optional[float] = None,
        label: Optional[str] = None,
        tokens: Optional[Range] = None,
        newer_than: Optional[Duration] = None,
        merge: bool = False,
        fetch: bool = False,
        dtype: Optional[str] = None,
        layers: Optional[range] = None,
    ) -> Recalled: ...

    @overload
    def recall(
        self,
        *,
        queries: Any,
        k: int = 8,
        layers: Optional[Union[int, Range]] = None,
        tokens: Optional[Range] = None,
        fetch: bool = False,
        dtype: Optional[str] = None,
        if_version: Optional[int] = None,
    ) -> RecalledKeys: ...

    def recall(
        self, query: Any = None, k: int = 8, *, queries: Any = None, **options: Any
    ) -> Union[Recalled, RecalledKeys]:
        """With query, a vector: as Client.recall(), of this session alone. With queries: for each layer the
        k blocks of 4 tokens that these attend to most, as an estimate from summaries of the session's
        keys; the session was created with key_summaries (else Unsupported).

        queries: [layers, query_heads, head_dim of K], after RoPE and not yet divided by sqrt(head_dim);
        query_heads is a multiple of the KV heads, the first of them being those of the first KV head. layers:
        the range that they are of, or one layer; None: all. tokens: only blocks that lie wholly among
        these; the shares are of all that have a summary. The newest tokens, which are not coded yet,
        have none. k: 1 to 65536. With fetch K and V of the ranges come in the same call, in dtype or
        the session's own. Nothing is read from disk for the choice.

        Invalid: k, heads, layers or values that cannot be. Miss: the session is gone, or, with fetch, lost some
        of what was chosen meanwhile. VersionChanged: it is no longer at if_version."""
        if queries is None:
            return self._client.recall(query, k, sessions=[self.name], model=self.model, **options)
        if query is not None:
            raise ValueError("query finds embeddings, queries find keys: one of them is to be given")
        return self._client._run(_recall_keys.recall_keys(self._state, queries, k, **options))

    def pin(self, lease: Duration) -> None:
        """Keeps the session out of delete_many() and of whatever the daemon does to make room, for
        so many seconds (or a timedelta) from now."""
        self._client._run(_calls.pin(self._state, lease))

    def flush(self) -> None:
        """Returns when the session would outlast a loss of power as it is now.

        Unsupported: the daemon has no disk. DiskFailed: it is full or failed.
        """
        self._client._run(_calls.flush(self.name))

    def unpin(self) -> None:
        """Ends a pin; without one does nothing."""
        self._client._run(_calls.unpin(self._state))

    def refresh(self) -> None:
        """Learns the session's present length, version and level."""
        self._client._run(_calls.refresh(self._state))

    def info(self) -> dict[str, Any]:
        """Tokens, bytes, ratio, loss and levels, as `kvq info --json` has them."""
        return self._client._run(_calls.info(self._state))

    def delete(self) -> int:
        """Deletes the session and returns the bytes that are free by that."""
        return self._client.delete(self.name)
