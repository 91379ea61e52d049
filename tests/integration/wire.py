"""A client of the daemon's protocol, written from proto/wire/PROTOCOL.md alone, standard library only.

Connection speaks frames and requests; Session appends and fetches the K and V of one session as bytes.
encode() and decode() are all of Protocol Buffers that kvq.proto needs.
"""

import itertools
import socket
import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

MAGIC, VERSION = 0x3151564B, 1
HEADER, DATA_CONTROL = struct.Struct("<IBBHIIQ"), struct.Struct("<QIIB7x")
CONTROL_BYTES_MAX, PAYLOAD_BYTES_MAX = 1 << 16, 1 << 20

(HELLO, PING, OPEN, APPEND, COMMIT, FETCH, INFO, LIST, DELETE, CANCEL, STATS, FORK, TRUNCATE, AGE, PIN,
 DELETE_MANY) = range(1, 17)
POLICY, MATCH, FLUSH = 17, 18, 19
ATTACH_PUT, ATTACH_GET, ATTACH_LIST, ATTACH_DELETE = 20, 21, 22, 23
BLOCK_PUT, BLOCK_GET, BLOCK_CONTROL = 24, 25, 26
BLOCK_EXISTS, BLOCK_TOUCH, BLOCK_DELETE = 0, 1, 2
CONTROL = 27
INDEX_PUT, INDEX_DELETE, RECALL, RECALL_KEYS = 28, 29, 30, 31
DATA, REPLY, ERROR = 32, 64, 65
DUMP, RESTORE = 33, 34
CLOSING_TYPES = (REPLY, ERROR)
F16, BF16, F32, FP8_E4M3, FP8_E5M2, INT8, Q8_0, Q4_0 = range(1, 9)
DTYPE_BYTES = {F16: 2, BF16: 2, F32: 4, FP8_E4M3: 1, FP8_E5M2: 1, INT8: 1}
TOKENS_HEADS_DIM, HEADS_TOKENS_DIM = 0, 1
OPEN_OR_CREATE, OPEN_EXISTING, OPEN_NEW = 0, 1, 2
IN_MEMORY, ON_DISK = 1, 2
EXACT, FAST8 = -2, -1
PLACE_PAGES, PLACE_TAIL, PLACE_SINKS = 0, 1, 2
TOKEN_IDS, BYTES, VECTORS = 2, 3, 4  # parts of a DATA frame beside K and V
ATTACHMENT_PIECE_BYTES = 256 << 10
NORMAL, DRAINED, READ_ONLY = 1, 2, 3
SHARING_NONE, SHARING_IDS, SHARING_BYTES = 0, 1, 2

ERROR_NAMES = dict(enumerate(
    "protocol version too_large unknown_operation bad_control invalid model_mismatch wrong_first "
    "tail_moved busy full miss version_changed exists cancelled too_many_requests shutting_down "
    "unsupported incomplete internal read_only disk unauthenticated permission_denied quota".split(), start=1))
RETRYABLE = {"tail_moved", "busy", "full", "too_many_requests", "shutting_down", "read_only",
             "quota"}

# kvq.proto: fields as "number name kind"; a kind is uint (enums and bools too), sint, double, bytes,
# str or a message, with * where it is repeated.
SCHEMA = {
    "Rope": "1 pairing uint, 2 theta double, 3 dims uint, 4 scaling double",
    "Geometry": "1 layers uint, 2 heads uint, 3 head_dim_k uint, 4 head_dim_v uint, 5 dtype uint, 6 rope Rope",
    "HelloRequest": "1 version_min uint, 2 version_max uint, 3 features uint, 4 client str, 5 token bytes",
    "HelloReply": "1 version uint, 2 features uint, 3 control_bytes_max uint, 4 payload_bytes_max uint, "
    "5 requests_max uint, 6 append_runs_max uint, 7 server str, 8 append_wait_ms uint, 9 tenant str, 10 role uint",
    "PingRequest": "",
    "PingReply": "",
    "Level": "1 level sint",
    "Number": "1 value uint",
    "Policy": "1 newest_tokens Number, 2 newest_level Level, 3 floor Level, 4 idle_step_ms Number, 5 ttl_ms Number",
    "OpenRequest": "1 session bytes, 2 model bytes, 3 geometry Geometry, 4 level Level, 5 mode uint, "
    "6 min_snr_db double, 7 policy Policy, 8 sharing uint, 9 durability uint, 11 key_summaries uint",
    "OpenReply": "1 created uint, 2 version uint, 3 tokens uint, 4 tail_tokens uint, 5 page_tokens uint, "
    "6 level sint, 7 geometry Geometry, 8 model bytes, 9 min_snr_db double, 10 policy Policy, 11 sharing uint, "
    "12 durability uint, 13 key_summaries uint",
    "SaltRange": "1 first uint, 2 tokens uint, 3 salt bytes",
    "AppendRequest": "1 session bytes, 2 first uint, 3 tokens uint, 4 tail_tokens uint, 5 layout uint, "
    "6 settle uint, 7 wait_ms uint, 8 group bytes, 9 group_connections uint, 10 token_ids uint, "
    "11 salts SaltRange*",
    "AppendReply": "1 version uint, 2 tokens uint, 3 tail_tokens uint",
    "FetchRequest": "1 session bytes, 2 first uint, 3 end uint, 4 first_layer uint, 5 end_layer uint, "
    "6 skip_k uint, 7 skip_v uint, 8 dtype uint, 9 layout uint, 10 if_version uint, 11 model bytes, "
    "12 within_ms uint",
    "Loss": "1 error double, 2 energy double, 3 estimated uint",
    "LevelTokens": "1 level sint, 2 tokens uint",
    "FetchReply": "1 version uint, 2 tokens uint, 3 bytes uint, 4 levels LevelTokens*, 5 k Loss, 6 v Loss",
    "InfoRequest": "1 session bytes",
    "LevelInfo": "1 place uint, 2 level sint, 3 tokens uint, 4 bytes uint",
    "PolicyState": "1 idle_steps uint, 2 tail_coded uint",
    "SessionInfo": "1 session bytes, 2 model bytes, 3 version uint, 4 tokens uint, 5 tokens_available uint, "
    "6 logical_bytes uint, 7 stored_bytes uint, 8 unique_bytes uint, 9 values uint, 10 k Loss, 11 v Loss, "
    "12 levels LevelInfo*, 13 geometry Geometry, 14 level sint, 15 tail_tokens uint, 16 page_tokens uint, "
    "17 id uint, 18 age_ms uint, 19 idle_ms uint, 20 pinned_ms uint, "
    "21 min_snr_db double, 22 policy Policy, 24 policy_state PolicyState, 27 sharing uint, "
    "25 disk_bytes uint, 26 durability uint, 28 token_ids_tokens uint, 29 attachments Attachments, "
    "30 entries Entries, 31 key_summaries uint, 32 key_summaries_bytes uint, 33 tenant str",
    "Entries": "1 entries uint, 2 batches uint, 3 stored_bytes uint",
    "Attachments": "1 count uint, 2 bytes uint, 3 stored_bytes uint",
    "ListRequest": "1 after_id uint, 2 limit uint, 3 all_tenants uint",
    "ListReply": "1 sessions SessionInfo*, 2 more uint",
    "DeleteRequest": "1 session bytes",
    "DeleteReply": "1 freed_bytes uint",
    "ForkRequest": "1 session bytes, 2 target bytes, 3 tokens uint, 4 if_version uint",
    "ForkReply": "1 version uint, 2 tokens uint, 3 tail_tokens uint",
    "TruncateRequest": "1 session bytes, 2 tokens uint, 3 if_version uint",
    "TruncateReply": "1 version uint, 2 tokens uint, 3 tail_tokens uint",
    "AgeRequest": "1 session bytes, 2 level sint, 3 settle uint, 4 tenant str",
    "AgeReply": "1 level sint, 2 stored_bytes_before uint, 3 stored_bytes uint",
    "PolicyRequest": "1 session bytes, 2 policy Policy",
    "PolicyReply": "1 level sint, 2 policy Policy",
    "PinRequest": "1 session bytes, 2 lease_ms uint",
    "PinReply": "1 pinned_ms uint",
    "DeleteManyRequest": "1 prefix bytes, 2 model bytes, 3 idle_ms uint, 4 age_ms uint, 5 pinned_too uint, "
    "6 dry_run uint",
    "DeleteManyReply": "1 sessions uint, 2 freed_bytes uint",
    "MatchRequest": "1 model bytes, 2 geometry Geometry, 3 tokens uint, 4 salts SaltRange*",
    "MatchReply": "1 tokens uint, 2 session bytes, 3 version uint, 4 session_tokens uint, 5 level sint",
    "FlushRequest": "1 session bytes",
    "FlushReply": "1 sessions uint",
    "DumpRequest": "1 session bytes, 2 if_version uint, 3 tenant str",
    "DumpReply": "1 version uint, 2 tokens uint, 3 bytes uint",
    "RestoreRequest": "1 session bytes, 2 replace uint, 3 tenant str, 4 wait_ms uint",
    "RestoreReply": "1 version uint, 2 tokens uint, 3 tail_tokens uint",
    "AttachPutRequest": "1 session bytes, 2 name bytes, 3 bytes uint, 4 if_version uint, 5 wait_ms uint",
    "AttachPutReply": "1 version uint, 2 stored_bytes uint",
    "AttachGetRequest": "1 session bytes, 2 name bytes, 3 if_version uint",
    "AttachGetReply": "1 version uint, 2 bytes uint, 3 tokens uint",
    "AttachListRequest": "1 session bytes",
    "AttachmentInfo": "1 name bytes, 2 bytes uint, 3 stored_bytes uint, 4 tokens uint",
    "AttachListReply": "1 version uint, 2 attachments AttachmentInfo*",
    "AttachDeleteRequest": "1 session bytes, 2 name bytes, 3 if_version uint",
    "AttachDeleteReply": "1 version uint, 2 freed_bytes uint",
    "AttachmentStats": "1 attachments uint, 2 bytes uint, 3 stored_bytes uint, 4 put uint, 5 hits uint, "
    "6 misses uint, 7 damaged uint",
    "IndexPutRequest": "1 session bytes, 2 dim uint, 3 dtype uint, 4 metric uint, 5 entries uint, 6 bytes uint, "
    "7 if_version uint, 8 wait_ms uint",
    "IndexPutReply": "1 version uint, 2 replaced uint, 3 entries uint",
    "IndexDeleteRequest": "1 session bytes, 2 labels bytes*, 3 first uint, 4 end uint, 5 if_version uint",
    "IndexDeleteReply": "1 version uint, 2 deleted uint, 3 entries uint",
    "Score": "1 value double",
    "RecallRequest": "1 sessions bytes*, 2 model bytes, 3 dim uint, 4 metric uint, 5 k uint, 6 min_score Score, "
    "7 label bytes, 8 first uint, 9 end uint, 10 newer_than_ms uint, 11 merge uint, 12 fetch uint, 13 dtype uint, "
    "14 layout uint, 15 first_layer uint, 16 end_layer uint, 17 skip_k uint, 18 skip_v uint",
    "RecallHit": "1 session bytes, 2 version uint, 3 first uint, 4 tokens uint, 5 score double, 6 label bytes, "
    "7 metadata bytes, 8 level sint, 9 bytes uint, 10 age_ms uint",
    "RecallHits": "1 hits RecallHit*, 2 geometry Geometry",
    "RecallKeysRequest": "1 session bytes, 2 model bytes, 3 first uint, 4 end uint, 5 first_layer uint, "
    "6 end_layer uint, 7 query_heads uint, 8 k uint, 9 if_version uint, 10 fetch uint, 11 skip_k uint, "
    "12 skip_v uint, 13 dtype uint, 14 layout uint",
    "RecallKeysReply": "1 version uint, 2 tokens uint, 3 bytes uint, 4 levels LevelTokens*, 5 k Loss, 6 v Loss",
    "RecallReply": "1 fetched uint*, 2 bytes uint, 3 levels LevelTokens*, 4 k Loss, 5 v Loss",
    "RecallStats": "1 entries Entries, 2 put uint, 3 deleted uint, 4 recalls uint, 5 hits uint, 6 total_us uint, "
    "7 max_us uint, 8 plugin str, 9 plugin_on uint, 10 plugin_searches uint, 11 plugin_timeouts uint, "
    "12 plugin_faults uint, 13 dropped_hits uint, 14 plugin_bytes uint",
    "BlockPutRequest": "1 model bytes, 2 geometry Geometry, 3 key bytes, 4 parent bytes, 5 tokens uint, "
    "6 first_position uint, 7 level Level, 8 min_snr_db double, 9 policy Policy, 10 layout uint, 11 wait_ms uint",
    "BlockPutReply": "",
    "BlockGetRequest": "1 model bytes, 2 geometry Geometry, 3 keys bytes*, 4 tokens uint, 5 first_layer uint, "
    "6 end_layer uint, 7 skip_k uint, 8 skip_v uint, 9 dtype uint, 10 layout uint",
    "BlockGetReply": "1 hits uint*, 2 bytes uint, 3 levels LevelTokens*, 4 k Loss, 5 v Loss",
    "BlockControlRequest": "1 model bytes, 2 geometry Geometry, 3 keys bytes*, 4 action uint, 5 lease_ms uint",
    "BlockControlReply": "1 tokens uint*, 2 leading uint, 3 page_tokens uint",
    "StatsRequest": "",
    "OperationCount": "1 operation str, 2 requests uint, 3 errors uint, 4 total_us uint, 5 max_us uint",
    "ErrorCount": "1 error str, 2 count uint",
    "MemoryStats": "1 pages_bytes uint, 2 tails_bytes uint, 3 sessions_bytes uint, 4 fixed_bytes uint, "
    "5 warm_bytes uint",
    "KeeperStats": "1 queued_sessions uint, 2 chunks uint, 3 bytes_before uint, 4 bytes_after uint",
    "SharingStats": "1 chunks uint, 2 bytes uint, 3 matches uint, 4 match_hits uint, "
    "5 matched_tokens uint, 6 token_ids_bytes uint",
    "AgeingStats": "1 chunks uint, 2 bytes_before uint, 3 bytes_after uint, 4 expired_sessions uint, "
    "5 coded_tails uint, 6 tail_bytes_before uint, 7 tail_bytes_after uint, 8 decoded_tails uint",
    "DiskStats": "1 recovering uint, 2 limit_bytes uint, 3 used_bytes uint, 4 live_bytes uint, "
    "5 written_bytes uint, 6 read_bytes uint, 7 spilled_chunks uint, 8 spilled_bytes uint, "
    "9 loaded_chunks uint, 10 loaded_bytes uint, 11 failed_loads uint, 12 saves uint, 13 failed_saves uint, "
    "14 syncs uint, 15 damaged uint, 16 reclaimed_bytes uint, 17 queued_bytes uint, "
    "18 evicted_bytes uint",
    "StatsReply": "1 version str, 2 pid uint, 3 uptime_seconds double, 4 sockets str*, 5 limit_bytes uint, "
    "6 used_bytes uint, 7 rss_bytes uint, 8 sessions uint, 9 tokens uint, 10 bytes_16bit uint, "
    "11 stored_bytes uint, 12 connections uint, 13 operations OperationCount*, 14 errors ErrorCount*, "
    "15 memory MemoryStats, 16 keeper KeeperStats, 17 levels LevelInfo*, 18 unique_bytes uint, "
    "19 appended_tokens uint, 20 appended_bytes uint, 21 fetched_tokens uint, 22 fetched_bytes uint, "
    "23 fetch_hits uint, 24 fetch_misses uint, 25 connections_accepted uint, 26 connections_refused uint, "
    "27 connections_stalled uint, 28 sessions_created uint, 29 sessions_deleted uint, "
    "30 appends_waiting uint, 31 logical_bytes uint, 32 pressure PressureStats, "
    "33 disk DiskStats, 34 sharing SharingStats, 35 blocks BlockStats, 36 state uint, "
    "37 capacity ModelCapacity*, 38 ageing AgeingStats, 39 attachments AttachmentStats, 40 takeover TakeoverStats, "
    "41 recall RecallStats, 42 tenants TenantStats*",
    "TakeoverStats": "1 outcome uint, 2 why str, 3 sessions uint, 4 tokens uint, 5 bytes uint, 6 cut_sessions uint, "
    "7 took_us uint, 8 set_aside_bytes uint",
    "Quota": "1 used uint, 2 limit uint, 3 refused uint",
    "TenantStats": "1 tenant str, 2 memory_bytes Quota, 3 disk_bytes Quota, 4 in_flight_bytes Quota, "
    "5 sessions Quota, 6 connections Quota, 7 requests_limit uint",
    "ModelCapacity": "1 model bytes, 2 levels LevelTokens*",
    "ControlRequest": "1 state uint, 2 limit_bytes uint",
    "ControlReply": "1 state uint, 2 limit_bytes uint, 3 used_bytes uint",
    "BlockStats": "1 blocks uint, 2 tokens uint, 3 chains uint, 4 index_bytes uint, 5 put uint, 6 asked uint, "
    "7 hits uint, 8 lost uint",
    "PressureStats": "1 rounds uint, 2 aged_sessions uint, 3 aged_bytes uint, 4 spilled_chunks uint, "
    "5 spilled_bytes uint, 6 evicted_sessions uint, "
    "7 evicted_tokens uint, 8 evicted_bytes uint, 9 deleted_sessions uint, 10 refused uint, "
    "11 coded_tails uint, 12 coded_tail_bytes uint",
    "ErrorReply": "1 code uint, 2 retryable uint, 3 message str, 4 tokens uint, 5 tail_tokens uint",
}
FIELDS = {message: [(int(number), name, kind.rstrip("*"), kind.endswith("*"))
                    for number, name, kind in (field.split() for field in fields.split(", ") if field)]
          for message, fields in SCHEMA.items()}
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def encode_field(number, kind, value):
    """One field with its tag, also where the value is the default: explicit zeros are legal."""
    if kind in ("uint", "sint"):
        value = int(value) if kind == "uint" else (value << 1) ^ (value >> 63)
        return varint(number << 3 | VARINT) + varint(value)
    if kind == "double":
        return varint(number << 3 | FIXED64) + struct.pack("<d", value)
    body = value.encode() if kind == "str" else value if kind == "bytes" else encode(kind, **vars(value))
    return varint(number << 3 | LENGTH) + varint(len(body)) + body


def encode(message, **values):
    fields = {name: (number, kind, repeated) for number, name, kind, repeated in FIELDS[message]}
    out = b""
    for name, value in values.items():
        number, kind, repeated = fields[name]
        for one in value if repeated else [] if value is None else [value]:
            out += encode_field(number, kind, one)
    return out


def decode(message, data):
    """A namespace of all fields: proto3's defaults where absent, None for an absent message."""
    known = {number: (name, kind, repeated) for number, name, kind, repeated in FIELDS[message]}
    defaults = {"uint": 0, "sint": 0, "double": 0.0, "bytes": b"", "str": ""}
    out = {name: [] if repeated else defaults.get(kind) for name, kind, repeated in known.values()}
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == VARINT:
            value, at = read_varint(data, at)
        elif known.get(tag >> 3, ("", "", False))[1:] == ("uint", True):  # packed, as all repeated numbers
            size, at = read_varint(data, at)
            end = at + size
            while at < end:
                value, at = read_varint(data, at)
                out[known[tag >> 3][0]].append(value)
            continue
        else:
            size, at = read_varint(data, at) if tag & 7 == LENGTH else ({FIXED64: 8, FIXED32: 4}[tag & 7], at)
            value, at = data[at:at + size], at + size
        if tag >> 3 not in known:
            continue
        name, kind, repeated = known[tag >> 3]
        if kind == "sint":
            value = (value >> 1) ^ -(value & 1)
        elif kind == "double":
            value = struct.unpack("<d", value)[0]
        elif kind == "str":
            value = value.decode()
        elif kind in FIELDS:
            value = decode(kind, value)
        if repeated:
            out[name].append(value)
        else:
            out[name] = value
    return SimpleNamespace(**out)


@dataclass
class Geometry:
    """head_dim_v 0: no V. rope is not sent where it is None."""
    layers: int
    heads: int
    head_dim_k: int
    head_dim_v: int
    dtype: int = F16
    rope: object = None

    def head_dim(self, part):
        return (self.head_dim_k, self.head_dim_v)[part]

    def parts(self):
        return [part for part in (0, 1) if self.head_dim(part)]

    def token_bytes(self, part, dtype=None):
        """Of one token of one layer."""
        return self.heads * self.head_dim(part) * DTYPE_BYTES[dtype or self.dtype]


class Frame(NamedTuple):
    type: int
    request_id: int
    control: bytes
    payload: bytes


class Closed(Exception):
    """The daemon closed the connection."""


class Refused(Exception):
    """The daemon answered ERROR. name is PROTOCOL.md's."""

    def __init__(self, control):
        reply = decode("ErrorReply", control)
        self.code, self.retryable, self.message = reply.code, bool(reply.retryable), reply.message
        self.tokens, self.tail_tokens = reply.tokens, reply.tail_tokens
        self.name = ERROR_NAMES.get(reply.code, f"number {reply.code}")
        super().__init__(f"{self.name}: {reply.message}")


def policy(**fields):
    """A Policy message of plain numbers."""
    kinds = {name: kind for _, name, kind, _ in FIELDS["Policy"]}
    inner = {"Number": "value", "Level": "level"}
    return SimpleNamespace(**{name: SimpleNamespace(**{inner[kinds[name]]: value})
                              for name, value in fields.items()})


def policy_numbers(message):
    """The numbers of a Policy message, by field."""
    return {name: next(iter(vars(value).values())) for name, value in vars(message).items()}


def frame(type, request_id, control=b"", payload=b""):
    return HEADER.pack(MAGIC, VERSION, type, 0, request_id, len(control), len(payload)) + control + payload


def data_frame(request_id, first, tokens, layer, part, payload):
    return frame(DATA, request_id, DATA_CONTROL.pack(first, tokens, layer, part), payload)


def runs(tokens, tail_tokens, page_tokens):
    """An append's (offset, count): the first run fills the tail, the last takes what is left."""
    offset, count = 0, min(tokens, page_tokens - tail_tokens)
    while count:
        yield offset, count
        offset += count
        count = min(tokens - offset, page_tokens)


def block(layer_bytes, geometry, part, layout, first, count):
    """Tokens first to first + count of one layer's bytes, packed in the same layout."""
    row = geometry.token_bytes(part)
    view = memoryview(layer_bytes)
    if layout == TOKENS_HEADS_DIM:
        return view[first * row:(first + count) * row]
    head, row = len(view) // geometry.heads, row // geometry.heads
    return b"".join(view[start + first * row:start + (first + count) * row]
                    for start in range(0, len(view), head))


def connect(address, timeout):
    """A connected socket: to a path where the address holds a "/", else to HOST:PORT."""
    if "/" in str(address):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        connection.connect(str(address))
        return connection
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def packed_entries(entries):
    """As INDEX_PUT sends them."""
    table = b"".join(struct.pack("<QIHH", first, tokens, len(label), len(metadata))
                     for first, tokens, label, metadata, _ in entries)
    table += b"".join(label + metadata for _, _, label, metadata, _ in entries)
    return table + bytes(-len(table) % 64) + b"".join(vector for *_, vector in entries)


class Connection:
    """One connection; says hello, with the token, unless told not to. Every wait ends after timeout seconds.

    Over TLS with an ssl.SSLContext.
    """

    def __init__(self, address, hello=True, timeout=60, token=b"", tls=None):
        self.socket = connect(address, timeout)
        self.request_ids = itertools.count(1)
        self.token = token
        try:
            if tls:
                self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
            self.limits = self.hello() if hello else None
        except Exception:
            self.close()  # a traceback may keep it for long
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        """Raw bytes; raises Closed where the daemon is gone."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def receive_bytes(self, count):
        out = bytearray(count)
        view = memoryview(out)
        while view:
            try:
                got = self.socket.recv_into(view)
            except ConnectionResetError:
                got = 0
            if not got:
                raise Closed(f"{count - len(view)} of {count} bytes came")
            view = view[got:]
        return bytes(out)

    def receive(self):
        magic, version, type, flags, request_id, control, payload = HEADER.unpack(
            self.receive_bytes(HEADER.size))
        assert (magic, version, flags) == (MAGIC, VERSION, 0)
        assert control <= CONTROL_BYTES_MAX and payload <= PAYLOAD_BYTES_MAX
        assert payload == 0 or type == DATA
        return Frame(type, request_id, self.receive_bytes(control), self.receive_bytes(payload))

    def request(self, type, message, request_id=None, **fields):
        """Sends one request and returns its id, without waiting."""
        request_id = next(self.request_ids) if request_id is None else request_id
        self.send(frame(type, request_id, encode(message, **fields)))
        return request_id

    def answer(self, request_id, message):
        """The next frame, which must close request_id: its reply, or Refused."""
        got = self.receive()
        assert got.request_id == request_id, got
        if got.type == ERROR:
            raise Refused(got.control)
        assert got.type == REPLY, got
        return decode(message, got.control)

    def call(self, type, name, **fields):
        reply = "SessionInfo" if type == INFO else name + "Reply"
        return self.answer(self.request(type, name + "Request", **fields), reply)

    def hello(self, version_min=VERSION, version_max=VERSION, features=0):
        return self.call(HELLO, "Hello", version_min=version_min, version_max=version_max,
                         features=features, client="wire.py", token=self.token)

    def ping(self):
        return self.call(PING, "Ping")

    def stats(self):
        return self.call(STATS, "Stats")

    def info(self, session):
        return self.call(INFO, "Info", session=session)

    def list(self, after_id=0, limit=0, **fields):
        return self.call(LIST, "List", after_id=after_id, limit=limit, **fields)

    def delete(self, session):
        return self.call(DELETE, "Delete", session=session)

    def fork(self, session, target, tokens=0, if_version=0):
        return self.call(FORK, "Fork", session=session, target=target, tokens=tokens, if_version=if_version)

    def send_ids(self, request_id, ids, first=0, step=PAYLOAD_BYTES_MAX // 4):
        """The token ids of tokens first and following, cut anyhow."""
        for at in range(0, len(ids), step):
            part = ids[at:at + step]
            self.send(data_frame(request_id, first + at, len(part), 0, TOKEN_IDS,
                                 struct.pack(f"<{len(part)}I", *part)))

    def match(self, model, ids, step=PAYLOAD_BYTES_MAX // 4, **fields):
        request_id = self.request(MATCH, "MatchRequest", model=model, tokens=len(ids), **fields)
        self.send_ids(request_id, ids, step=step)
        self.send(frame(COMMIT, request_id))
        return self.answer(request_id, "MatchReply")

    def truncate(self, session, tokens, if_version=0):
        return self.call(TRUNCATE, "Truncate", session=session, tokens=tokens, if_version=if_version)

    def age(self, session, level, settle=True, **fields):
        return self.call(AGE, "Age", session=session, level=level, settle=settle, **fields)

    def policy(self, session, **changes):
        """What is to change, as numbers: the session's policy then, as policy() gives it."""
        change = policy(**changes) if changes else None
        return self.call(POLICY, "Policy", session=session, policy=change)

    def pin(self, session, lease_ms):
        return self.call(PIN, "Pin", session=session, lease_ms=lease_ms)

    def control(self, **changes):
        return self.call(CONTROL, "Control", **changes)

    def delete_many(self, **conditions):
        return self.call(DELETE_MANY, "DeleteMany", **conditions)

    def flush(self, session=b""):
        return self.call(FLUSH, "Flush", session=session)

    def send_attachment(self, request_id, data):
        for at in range(0, len(data), ATTACHMENT_PIECE_BYTES):
            piece = data[at:at + ATTACHMENT_PIECE_BYTES]
            self.send(data_frame(request_id, at, len(piece), 0, BYTES, piece))

    def attach(self, session, name, data, **fields):
        request_id = self.request(ATTACH_PUT, "AttachPutRequest", session=session, name=name, bytes=len(data),
                                  **fields)
        self.send_attachment(request_id, data)
        self.send(frame(COMMIT, request_id))
        return self.answer(request_id, "AttachPutReply")

    def attachment(self, session, name, **fields):
        """The bytes and the reply."""
        request_id, data = self.request(ATTACH_GET, "AttachGetRequest", session=session, name=name, **fields), b""
        while (got := self.receive()).type == DATA:
            assert got.request_id == request_id
            assert DATA_CONTROL.unpack(got.control) == (len(data), len(got.payload), 0, BYTES)
            data += got.payload
        if got.type == ERROR:
            raise Refused(got.control)
        reply = decode("AttachGetReply", got.control)
        assert reply.bytes == len(data)
        return data, reply

    def attachments(self, session):
        return self.call(ATTACH_LIST, "AttachList", session=session)

    def detach(self, session, name, **fields):
        request_id = self.request(ATTACH_DELETE, "AttachDeleteRequest", session=session, name=name, **fields)
        return self.answer(request_id, "AttachDeleteReply")

    def dump(self, session, **fields):
        """The bytes and the reply."""
        request_id, data = self.request(DUMP, "DumpRequest", session=session, **fields), []
        while (got := self.receive()).type == DATA:
            assert got.request_id == request_id
            assert DATA_CONTROL.unpack(got.control) == (sum(map(len, data)), len(got.payload), 0, BYTES)
            data.append(got.payload)
        if got.type == ERROR:
            raise Refused(got.control)
        reply = decode("DumpReply", got.control)
        assert reply.bytes == sum(map(len, data))
        return b"".join(data), reply

    def send_dump(self, session, data, pieces=ATTACHMENT_PIECE_BYTES, **fields):
        """All of a RESTORE but its COMMIT. Its id."""
        request_id = self.request(RESTORE, "RestoreRequest", session=session, **fields)
        for at in range(0, len(data), pieces):
            piece = data[at:at + pieces]
            self.send(data_frame(request_id, at, len(piece), 0, BYTES, piece))
        return request_id

    def restore(self, session, data, **fields):
        request_id = self.send_dump(session, data, **fields)
        self.send(frame(COMMIT, request_id))
        return self.answer(request_id, "RestoreReply")

    def index(self, session, rows, dim, sent=None, **fields):
        """rows: (first, tokens, label, metadata, the vector's bytes) each. sent: the bytes, where they are others."""
        data = packed_entries(rows) if sent is None else sent
        request_id = self.request(INDEX_PUT, "IndexPutRequest", session=session, dim=dim,
                                  **{"dtype": F32, "entries": len(rows), "bytes": len(data), **fields})
        for at in range(0, len(data), ATTACHMENT_PIECE_BYTES):
            piece = data[at:at + ATTACHMENT_PIECE_BYTES]
            self.send(data_frame(request_id, at, len(piece), 0, VECTORS, piece))
        self.send(frame(COMMIT, request_id))
        return self.answer(request_id, "IndexPutReply")

    def unindex(self, session, **fields):
        return self.call(INDEX_DELETE, "IndexDelete", session=session, **fields)

    def recall(self, query, **fields):
        """The hits, the frames of K and V, and the reply. query: numbers."""
        request_id = self.request(RECALL, "RecallRequest", **{"dim": len(query), "k": 8, **fields})
        values = struct.pack(f"<{len(query)}f", *query)
        self.send(data_frame(request_id, 0, len(query), 0, VECTORS, values))
        self.send(frame(COMMIT, request_id))
        frames = []
        while (got := self.receive()).type == DATA:
            assert got.request_id == request_id
            frames.append((*DATA_CONTROL.unpack(got.control), got.payload))
        if got.type == ERROR:
            raise Refused(got.control)
        (first, count, layer, part, payload), *values = frames
        assert (first, count, layer, part) == (0, len(payload), 0, BYTES)
        return decode("RecallHits", payload), values, decode("RecallReply", got.control)

    def recall_keys(self, frames, **fields):
        """The frames of the answer, and the reply. frames: (layer, queries) of each frame that is sent."""
        request_id = self.request(RECALL_KEYS, "RecallKeysRequest", **fields)
        for layer, queries in frames:
            rows = max(1, len(queries) // 4)
            self.send(data_frame(request_id, 0, rows, layer, VECTORS, struct.pack(f"<{len(queries)}f", *queries)))
        self.send(frame(COMMIT, request_id))
        got, answer = self.receive(), []
        while got.type == DATA:
            answer.append((*DATA_CONTROL.unpack(got.control), got.payload))
            got = self.receive()
        assert got.request_id == request_id
        if got.type == ERROR:
            raise Refused(got.control)
        return answer, decode("RecallKeysReply", got.control)

    def cancel(self, request_id):
        self.send(frame(CANCEL, request_id))

    def open(self, session, model=b"model", geometry=None, level=None, mode=OPEN_OR_CREATE, **fields):
        level = None if level is None else SimpleNamespace(level=level)
        reply = self.call(OPEN, "Open", session=session, model=model, geometry=geometry, level=level,
                          mode=mode, **fields)
        return Session(self, session, reply)

    def fetch(self, session, **fields):
        """The request's frames and reply, as they come; Refused where it is closed by an error."""
        request_id, frames = self.request(FETCH, "FetchRequest", session=session, **fields), []
        while (got := self.receive()).type == DATA:
            assert got.request_id == request_id
            frames.append((*DATA_CONTROL.unpack(got.control), got.payload))
        assert got.request_id == request_id
        if got.type == ERROR:
            raise Refused(got.control)
        return frames, decode("FetchReply", got.control)


class Session:
    """A session as one connection last saw it: version, tokens, tail_tokens, page_tokens."""

    def __init__(self, connection, name, reply):
        self.connection, self.name = connection, name
        self.created, self.version, self.tokens = bool(reply.created), reply.version, reply.tokens
        self.tail_tokens, self.page_tokens, self.level = reply.tail_tokens, reply.page_tokens, reply.level
        self.min_snr_db = reply.min_snr_db
        fields = {name: value for name, value in vars(reply.geometry).items() if name != "rope"}
        self.geometry, self.model = Geometry(**fields, rope=reply.geometry.rope), reply.model

    def pieces(self, tokens):
        """Every (offset, count, layer, part) of an append of so many tokens, in coding order."""
        for offset, count in runs(tokens, self.tail_tokens, self.page_tokens):
            for layer in range(self.geometry.layers):
                for part in self.geometry.parts():
                    yield offset, count, layer, part

    def begin(self, tokens, **fields):
        fields = {"first": self.tokens, "tail_tokens": self.tail_tokens, **fields}
        return self.connection.request(APPEND, "AppendRequest", session=self.name, tokens=tokens, **fields)

    def send_piece(self, request_id, kv, piece, layout=TOKENS_HEADS_DIM, first=None):
        offset, count, layer, part = piece
        payload = block(kv[part][layer], self.geometry, part, layout, offset, count)
        first = (self.tokens if first is None else first) + offset
        self.connection.send(data_frame(request_id, first, count, layer, part, payload))

    def commit(self, request_id):
        self.connection.send(frame(COMMIT, request_id))
        reply = self.connection.answer(request_id, "AppendReply")
        self.version, self.tokens, self.tail_tokens = reply.version, reply.tokens, reply.tail_tokens
        return reply

    def append(self, tokens, kv, layout=TOKENS_HEADS_DIM, order=list, ids=None, **fields):
        """kv: (K, V), each a list of one bytes object a layer in layout. order rearranges the pieces."""
        request_id = self.begin(tokens, layout=layout, token_ids=ids is not None, **fields)
        if ids is not None:
            self.connection.send_ids(request_id, ids, self.tokens)
        for piece in order(self.pieces(tokens)):
            self.send_piece(request_id, kv, piece, layout)
        return self.commit(request_id)

    def fetch(self, first=0, end=0, first_layer=0, end_layer=0, layout=TOKENS_HEADS_DIM, dtype=0, **fields):
        """Returns ((K, V), reply): one bytes object a layer fetched, in layout; empty where skipped."""
        frames, reply = self.connection.fetch(self.name, first=first, end=end, first_layer=first_layer,
                                              end_layer=end_layer, layout=layout, dtype=dtype, **fields)
        tokens = sum(count for _, count, layer, part, _ in frames
                     if (layer, part) == (frames[0][2], frames[0][3]))
        end_layer = end_layer or self.geometry.layers
        kv = tuple([bytearray(tokens * self.geometry.token_bytes(part, dtype) * (not fields.get(skip)))
                    for _ in range(first_layer, end_layer)] for part, skip in enumerate(("skip_k", "skip_v")))
        for at, count, layer, part, payload in frames:
            heads = self.geometry.heads if layout == HEADS_TOKENS_DIM else 1
            row = self.geometry.token_bytes(part, dtype) // heads
            assert len(payload) == heads * count * row
            for head in range(heads):
                start = (head * tokens + at - first) * row
                kv[part][layer - first_layer][start:start + count * row] = \
                    payload[head * count * row:(head + 1) * count * row]
        return tuple([bytes(layer) for layer in part] for part in kv), reply

    def truncate(self, tokens, **fields):
        reply = self.connection.truncate(self.name, tokens, **fields)
        self.version, self.tokens, self.tail_tokens = reply.version, reply.tokens, reply.tail_tokens
        return reply

    def info(self):
        return self.connection.info(self.name)
