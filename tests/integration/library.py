"""libkvq as C has it, in its blocking or its non-blocking form, for tests of both."""

import pathlib
import select
import time

from kvquantd._kvq import ffi, lib

CALL_SECONDS_MAX = 60
POLLIN = select.POLLIN


def name_of(code):
    return "ok" if code == 0 else ffi.string(lib.kvq_error_name(code)).decode()


def plain(value):
    """A C structure as Python values, to be compared."""
    kind = ffi.typeof(value) if isinstance(value, ffi.CData) else None
    if kind is None:
        return None if value != value else value  # NaN equals NaN here
    if kind.kind == "pointer":
        return ffi.string(value).decode() if kind.item.cname == "char" and value else None
    if kind.kind == "array":
        return ffi.string(value).decode() if kind.item.cname == "char" else [plain(one) for one in value]
    return {name: plain(getattr(value, name)) for name, _ in kind.fields}


class Library:
    """One client. Calls give the name of what they return; results are in what they were given."""

    def __init__(self, path, non_blocking=False, **options):
        self.non_blocking = non_blocking
        self.waits = 0
        self._path = ffi.new("char[]", str(path).encode())
        self._texts = {name: ffi.new("char[]", str(one).encode()) for name, one in options.items()
                       if isinstance(one, (str, pathlib.Path))}
        options = {**options, **self._texts, "non_blocking": non_blocking}
        given = ffi.new("struct kvq_connect_options *", options)
        given.size, given.socket = ffi.sizeof(given[0]), self._path
        opened = ffi.new("struct kvq_client **")
        code = lib.kvq_connect(given, opened)
        self.client = opened[0]
        self.connected = name_of(self.finish(code))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        lib.kvq_close(self.client)

    @property
    def message(self):
        return ffi.string(lib.kvq_client_message(self.client)).decode()

    def wait_once(self, seconds=CALL_SECONDS_MAX):
        events = lib.kvq_client_events(self.client)
        timeout_ms = lib.kvq_client_timeout_ms(self.client)
        assert events in (0, POLLIN) and (events or timeout_ms >= 0), "nothing would end this wait"
        poller = select.poll()
        poller.register(lib.kvq_client_fd(self.client), events)
        poller.poll(seconds * 1000 if timeout_ms < 0 else min(timeout_ms, seconds * 1000))

    def finish(self, code):
        end = time.monotonic() + CALL_SECONDS_MAX
        while code == lib.KVQ_AGAIN:
            assert self.non_blocking and time.monotonic() < end
            self.waits += 1
            self.wait_once()
            code = lib.kvq_step(self.client)
        if self.non_blocking:
            assert lib.kvq_client_events(self.client) == 0
            assert lib.kvq_client_timeout_ms(self.client) == -1
        return code

    def call(self, function, *arguments):
        return name_of(self.finish(getattr(lib, function)(self.client, *arguments)))

    def options(self, kind, **values):
        options = ffi.new(f"struct {kind} *", values)
        options.size = ffi.sizeof(options[0])
        return options

    def ping(self):
        return self.call("kvq_ping")

    def open(self, session, geometry, level=-2, mode=0, model="m"):
        """(name of the result, state). The options are gone before the call ends, as they may be."""
        state = ffi.new("struct kvq_session_state *")
        texts = [ffi.new("char[]", text.encode()) for text in (session, model)]
        shape = ffi.new("struct kvq_geometry *", geometry)
        options = self.options("kvq_open_options", session=texts[0], model=texts[1], geometry=shape,
                               has_level=True, level=level, mode=mode)
        code = lib.kvq_open(self.client, options, state)
        for memory in (*texts, shape, options):
            ffi.memmove(memory, b"\xff" * len(ffi.buffer(memory)), len(ffi.buffer(memory)))
        return name_of(self.finish(code)), state

    def find(self, session):
        state = ffi.new("struct kvq_session_state *")
        return self.call("kvq_find", session.encode(), state), state
