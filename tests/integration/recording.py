"""What a client and a daemon say to each other: taken down between them, and said again to another daemon."""

import base64
import json
import socket
import threading
from types import SimpleNamespace

import wire
from wire import CLOSING_TYPES, DATA, DATA_CONTROL, ERROR, HEADER, INFO, RECALL, Connection, decode

REPLIES = {getattr(wire, name): "".join(map(str.title, name.split("_"))) + "Reply" for name in
           "HELLO PING OPEN APPEND FETCH LIST DELETE STATS FORK TRUNCATE AGE PIN DELETE_MANY POLICY MATCH FLUSH ATTACH_PUT "
           "ATTACH_GET ATTACH_LIST ATTACH_DELETE BLOCK_PUT BLOCK_GET BLOCK_CONTROL CONTROL INDEX_PUT INDEX_DELETE RECALL "
           "RECALL_KEYS DUMP RESTORE".split()} | {INFO: "SessionInfo"}
# What is another each time, or may be another with another version.
CHANGING = set("version id server features age_ms idle_ms pinned_ms append_wait_ms control_bytes_max payload_bytes_max "
               "requests_max append_runs_max stored_bytes stored_bytes_before unique_bytes freed_bytes used_bytes "
               "limit_bytes disk_bytes key_summaries_bytes message levels k v".split())
# Of some answers not much is.
LASTING = {"StatsReply": ("sessions", "tokens", "state", "appended_tokens", "fetched_tokens"), "DumpReply": ("tokens",)}


class Recording:
    """Listens at a path, hands everything on to the daemon's socket and back, one client at a time."""

    def __init__(self, path, daemon):
        self.path, self.daemon = path, daemon
        self.connections = []  # of each: [direction, bytes] in turn

    def __enter__(self):
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, error, *_):
        self.listening.shutdown(socket.SHUT_RDWR)
        if error is None:
            self.thread.join()  # until the last client is gone
        self.listening.close()

    def serve(self):
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            self.pass_on(client)

    def pass_on(self, client):
        turns, lock = [], threading.Lock()
        self.connections.append(turns)
        daemon = wire.connect(self.daemon, 60)

        def pump(source, to, direction):
            while data := source.recv(1 << 16):
                with lock:
                    if not turns or turns[-1][0] != direction:
                        turns.append([direction, b""])
                    turns[-1][1] += data
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=pump, args=(daemon, client, "received"), daemon=True)
        back.start()
        pump(client, daemon, "sent")
        back.join()
        client.close()
        daemon.close()

    def text(self):
        """A line a turn; an empty one before another connection."""
        return "\n\n".join("\n".join(json.dumps({direction: base64.b64encode(data).decode()}) for direction, data in turns)
                           for turns in self.connections) + "\n"


def turns_of(text):
    """Of each connection that was taken down."""
    return [[next(iter(json.loads(line).items())) for line in part.splitlines()] for part in text.split("\n\n")]


def frames_of(data):
    """The type, the request's id, control and payload of each."""
    at = 0
    while at < len(data):
        *_, type, _, request_id, control, payload = HEADER.unpack_from(data, at)
        start, at = at + HEADER.size, at + HEADER.size + control + payload
        yield type, request_id, data[start:start + control], data[start + control:at]


def lasting(value, message=""):
    """What of an answer is to be the same."""
    if isinstance(value, list):
        return [lasting(one) for one in value]
    if not isinstance(value, SimpleNamespace):
        return value
    if message in LASTING:
        return {name: getattr(value, name) for name in LASTING[message]}
    return {name: lasting(one) for name, one in vars(value).items() if name not in CHANGING} | (
        {"version": value.version} if message == "HelloReply" else {})


def answer_of(request, frames):
    """What the frames say, however the values are cut."""
    values, said = {}, []
    for type, _, control, payload in frames:
        if type != DATA:
            message = "ErrorReply" if type == ERROR else REPLIES[request]
            said.append((message, lasting(decode(message, control), message)))
            continue
        if request == wire.DUMP:
            continue  # it says when, and by which daemon
        first, _, layer, part = DATA_CONTROL.unpack(control)
        if request == RECALL and part == wire.BYTES:
            said.append(("RecallHits", lasting(decode("RecallHits", payload))))
        else:
            values.setdefault((layer, part), []).append((first, payload))
    return said, {key: b"".join(payload for _, payload in sorted(pieces, key=lambda piece: piece[0]))
                  for key, pieces in values.items()}


def replay(turns, socket):
    """Says to a daemon what was said then; of each answer the request's type, what it was and what it is."""
    requests = {}
    with Connection(socket, hello=False) as connection:
        for direction, data in ((direction, base64.b64decode(text)) for direction, text in turns):
            if direction == "sent":
                for type, request_id, _, _ in frames_of(data):
                    requests.setdefault(request_id, type)
                connection.send(data)
                continue
            then, now = list(frames_of(data)), []
            closed = sum(type in CLOSING_TYPES for type, *_ in then)
            while sum(frame[0] in CLOSING_TYPES for frame in now) < closed:
                now.append(tuple(connection.receive()))
            for request_id in dict.fromkeys(frame[1] for frame in then):
                request = requests[request_id]
                yield request, *(answer_of(request, [frame for frame in frames if frame[1] == request_id])
                                 for frames in (then, now))
