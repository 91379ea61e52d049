"""The calls of kvq.h about sessions and the daemon, ready to be made by either kind of client."""

from __future__ import annotations

import dataclasses
from typing import (
    Any,
    Callable,
    Generic,
    Iterable,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

from . import _report
from ._duration import Duration, milliseconds
from ._errors import Error
from ._geometry import Geometry, Level, geometry_from, geometry_to_c, level_to_c
from ._kvq import ffi, lib
from ._policy import Policy, policy_from_c, policy_to_c
from ._token_ids import Match, ids_to_c, salts_to_c, sharing_to_c

T = TypeVar("T")


@dataclasses.dataclass
class Call(Generic[T]):
    """One call, without the client, which is its first argument.

    result() is asked for after success and before the client's next call, which ends what the
    library has lent out. explain() is given the exception of a call that failed.
    """

    function: Any
    arguments: tuple[Any, ...]
    result: Callable[[], T]
    kept: Any = None  # what the arguments point to
    explain: Callable[[Error], None] = lambda error: None


class Deleted(NamedTuple):
    """How many sessions were deleted, and the bytes that are free by that."""

    sessions: int
    freed_bytes: int


def text(string: str) -> Any:
    encoded = string.encode()
    if b"\0" in encoded:
        raise ValueError(f"{string!r} has a zero byte in it")
    return ffi.new("char[]", encoded)


def structure(name: str) -> Any:
    return ffi.new(f"struct {name} *")


def options_of(name: str) -> Any:
    options = structure(name)
    options.size = ffi.sizeof(f"struct {name}")
    return options


def nothing() -> None:
    return None


def ping() -> Call[None]:
    return Call(lib.kvq_ping, (), nothing)


def find(session: str) -> Call[Any]:
    state = structure("kvq_session_state")
    return Call(lib.kvq_find, (text(session), state), lambda: state)


_DURABILITIES = {
    None: lib.KVQ_DURABILITY_UNSET,
    "memory": lib.KVQ_IN_MEMORY,
    "disk": lib.KVQ_ON_DISK,
}


def durability_to_c(durability: Optional[str]) -> Any:
    if durability not in _DURABILITIES:
        raise ValueError(f'durability is "memory", "disk" or None, not {durability!r}')
    return _DURABILITIES[durability]


def open_session(
    session: str,
    model: str,
    geometry: Optional[Geometry],
    level: Optional[Level],
    min_snr_db: Optional[float],
    policy: Optional[Policy],
    sharing: Optional[str],
    durability: Optional[str],
    key_summaries: bool,
    new: bool,
) -> Call[Any]:
    state, options = structure("kvq_session_state"), options_of("kvq_open_options")
    kept = [text(session), text(model)]
    options.session, options.model = kept
    options.mode = lib.KVQ_OPEN_EXISTING
    if geometry is not None:
        kept.append(geometry_to_c(geometry))
        options.geometry = kept[-1]
        options.mode = lib.KVQ_OPEN_NEW if new else lib.KVQ_OPEN_OR_CREATE
    if level is not None:
        options.has_level, options.level = True, level_to_c(level)
    options.min_snr_db = min_snr_db or 0
    if policy is not None:
        kept.append(policy_to_c(policy))
        options.policy = kept[-1]
    options.sharing = sharing_to_c(sharing)
    options.durability = durability_to_c(durability)
    options.key_summaries = key_summaries
    return Call(lib.kvq_open, (options, state), lambda: state, kept)


def open_or_find(
    session: str,
    model: Optional[str],
    geometry: Optional[Union[Geometry, Mapping[str, Any]]],
    level: Optional[Level],
    min_snr_db: Optional[float],
    policy: Optional[Policy],
    sharing: Optional[str],
    durability: Optional[str],
    key_summaries: bool,
    new: bool,
) -> Call[Any]:
    """Without a model it is found, whosever it is."""
    if model is not None:
        known = None if geometry is None else geometry_from(geometry)
        return open_session(
            session, model, known, level, min_snr_db, policy, sharing, durability, key_summaries, new
        )
    if geometry is not None or new:
        raise ValueError("a session is created for a model: name it")
    return find(session)


def match(
    token_ids: Sequence[int],
    model: str,
    salts: Optional[Iterable[tuple[int, int, bytes]]],
    geometry: Optional[Union[Geometry, Mapping[str, Any]]],
) -> Call[Match]:
    found, options = structure("kvq_match"), options_of("kvq_match_options")
    name = text(model)
    options.model = name
    options.token_ids, options.tokens, ids = ids_to_c(token_ids)
    options.salts, options.salt_count, held = salts_to_c(salts)
    kept = [name, ids, held]
    if geometry is not None:
        kept.append(geometry_to_c(geometry_from(geometry)))
        options.geometry = kept[-1]
    return Call(lib.kvq_match, (options, found), lambda: Match(found), kept)


def refresh(state: Any) -> Call[None]:
    now = structure("kvq_session_state")

    def learn() -> None:
        for field in ("tokens", "tail_tokens", "version", "level"):
            setattr(state, field, getattr(now, field))

    return Call(lib.kvq_find, (state.session, now), learn, state)


def fork(state: Any, name: str, tokens: Optional[int], if_version: Optional[int]) -> Call[Any]:
    if tokens is not None and tokens < 1:
        raise ValueError(f"a fork has at least 1 token, not {tokens}: open an empty session instead")
    forked, options = structure("kvq_session_state"), options_of("kvq_fork_options")
    target = text(name)
    options.target, options.tokens, options.if_version = target, tokens or 0, if_version or 0
    return Call(lib.kvq_fork, (state, options, forked), lambda: forked, target)


def truncate(state: Any, tokens: int) -> Call[int]:
    return Call(lib.kvq_truncate, (state, tokens), lambda: int(state.tokens))


def age(state: Any, level: Level, settle: bool) -> Call[dict[str, Any]]:
    aged = structure("kvq_aged")

    def learn() -> dict[str, Any]:
        state.level = aged.level
        return _report.aged(aged)

    return Call(lib.kvq_age, (state.session, level_to_c(level), settle, aged), learn, state)


def policy(state: Any, change: Optional[Policy]) -> Call[Policy]:
    now = structure("kvq_policy")
    given = ffi.NULL if change is None else policy_to_c(change)
    return Call(lib.kvq_policy, (state.session, given, now), lambda: policy_from_c(now), state)


def flush(session: Optional[str]) -> Call[int]:
    sessions = ffi.new("uint64_t *")
    name = ffi.NULL if session is None else text(session)
    return Call(lib.kvq_flush, (name, sessions), lambda: int(sessions[0]), name)


class Attachment(bytes):
    """What was attached, as bytes, and how many tokens the session had then."""

    tokens: int


def attach(state: Any, name: str, data: Any, if_version: Optional[int]) -> Call[None]:
    options, result = options_of("kvq_attachment_put_options"), structure("kvq_attachment_result")
    kept: list[Any] = [text(name), ffi.from_buffer(data)]
    options.name, options.bytes = kept
    options.byte_count, options.if_version = len(kept[1]), if_version or 0

    def learn() -> None:
        state.version = result.version

    return Call(lib.kvq_attachment_put, (state.session, options, result), learn, [state, kept])


def _attachment_options(name: str, if_version: Optional[int]) -> tuple[Any, Any]:
    options, kept = options_of("kvq_attachment_options"), text(name)
    options.name, options.if_version = kept, if_version or 0
    return options, kept


def attachment(state: Any, name: str, if_version: Optional[int]) -> Call[Attachment]:
    options, kept = _attachment_options(name, if_version)
    found = structure("kvq_attachment")

    def got() -> Attachment:
        copied = Attachment(ffi.buffer(found.bytes, found.byte_count))
        copied.tokens = int(found.tokens)
        return copied

    return Call(lib.kvq_attachment_get, (state.session, options, found), got, [state, kept])


def detach(state: Any, name: str, if_version: Optional[int]) -> Call[int]:
    options, kept = _attachment_options(name, if_version)
    result = structure("kvq_attachment_result")

    def learn() -> int:
        state.version = result.version
        return int(result.bytes)

    return Call(lib.kvq_attachment_delete, (state.session, options, result), learn, [state, kept])


def attachments(state: Any) -> Call[list[dict[str, Any]]]:
    found = structure("kvq_attachment_list")
    return Call(
        lib.kvq_attachment_list, (state.session, found), lambda: _report.attachments(found), state
    )


def pin(state: Any, lease: Duration) -> Call[None]:
    lease_ms = milliseconds(lease, "a pin's lease")
    if lease_ms == 0:
        raise ValueError("a pin's lease is longer than nothing; unpin() ends it")
    return Call(lib.kvq_pin, (state.session, lease_ms), nothing, state)


def unpin(state: Any) -> Call[None]:
    return Call(lib.kvq_pin, (state.session, 0), nothing, state)


def info(state: Any) -> Call[dict[str, Any]]:
    found = structure("kvq_session_info")
    return Call(lib.kvq_info, (state.session, found), lambda: _report.session_info(found), state)


def delete(session: str) -> Call[int]:
    freed = ffi.new("uint64_t *")
    return Call(lib.kvq_delete, (text(session), freed), lambda: int(freed[0]))


def delete_many(
    prefix: Optional[str],
    model: Optional[str],
    idle: Optional[Duration],
    age: Optional[Duration],
    pinned_too: bool,
    dry_run: bool,
) -> Call[Deleted]:
    if model == "":
        raise ValueError("no model's name is empty")
    deleted, options = structure("kvq_deleted"), options_of("kvq_delete_many_options")
    kept = [ffi.NULL if given is None else text(given) for given in (prefix, model)]
    options.prefix, options.model = kept
    options.idle_ms = 0 if idle is None else milliseconds(idle, "idle")
    options.age_ms = 0 if age is None else milliseconds(age, "age")
    options.pinned_too, options.dry_run = pinned_too, dry_run
    return Call(
        lib.kvq_delete_many,
        (options, deleted),
        lambda: Deleted(deleted.sessions, deleted.freed_bytes),
        kept,
    )


class SessionsPage(NamedTuple):
    sessions: list[dict[str, Any]]
    after_id: int  # where the next page begins
    more: bool


def list_sessions(after_id: int, all_tenants: bool = False) -> Call[SessionsPage]:
    page = structure("kvq_session_list")

    def learn() -> SessionsPage:
        sessions = [_report.session_info(page.sessions[i]) for i in range(page.count)]
        return SessionsPage(sessions, sessions[-1]["id"] if sessions else after_id, bool(page.more))

    listing = lib.kvq_list_all if all_tenants else lib.kvq_list
    return Call(listing, (after_id, 0, page), learn)


def control(state: Optional[str], memory: Optional[int]) -> Call[dict[str, Any]]:
    if state not in (None, *_report.STATES[1:]):
        raise ValueError(f"state is one of {', '.join(_report.STATES[1:])}")
    options, now = options_of("kvq_control_options"), structure("kvq_control")
    options.state = 0 if state is None else _report.STATES.index(state)
    options.limit_bytes = memory or 0
    return Call(lib.kvq_control, (options, now), lambda: _report.control(now))


def stats() -> Call[dict[str, Any]]:
    found = structure("kvq_stats")
    return Call(lib.kvq_stats, (found,), lambda: _report.status(found))
