"""Dumps as bytes: their parts, taken apart and put together again with the checksums that DUMP.md has."""

import ctypes
import struct
from types import SimpleNamespace

SESSION, MANIFEST, CHUNK, KEYS, ROWS, ATTACHMENT, BATCH, END, CLOSING = range(1, 10)
HEAD = struct.Struct("<8sHHIQQ")
MAGIC, VERSION = b"KVQDUMP\n", 1

_hash = ctypes.CDLL("libxxhash.so.0").XXH3_64bits_withSeed
_hash.restype, _hash.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64)


def hashed(data, seed=0):
    return _hash(data, len(data), seed)


def parts_of(dump):
    """The kind of each part and what it holds; all checksums are held to be right."""
    parts, at, chain = [], 0, 0
    while at < len(dump):
        magic, version, kind, number, count, head_hash = HEAD.unpack_from(dump, at)
        assert (magic, version) == (MAGIC, VERSION)
        assert head_hash == hashed(dump[at:at + HEAD.size - 8])
        end = at + HEAD.size + count + -count % 8
        chain = hashed(dump[at:end], chain if number else 0)
        assert struct.unpack_from("<Q", dump, end)[0] == chain
        parts.append(SimpleNamespace(kind=kind, data=dump[at + HEAD.size:at + HEAD.size + count], at=at, end=end + 8))
        at = end + 8
    return parts


def dump_of(parts, version=VERSION):
    """The dump of a session that these pairs of kind and data are, but for its end, which is added."""
    dump, chain = b"", 0
    for number, (kind, data) in enumerate([*parts, (END, None)]):
        if data is None:
            data = struct.pack("<QQ", number, len(dump))
        head = HEAD.pack(MAGIC, version, kind, number, len(data), 0)[:-8]
        part = head + struct.pack("<Q", hashed(head)) + data + bytes(-len(data) % 8)
        chain = hashed(part, chain if number else 0)
        dump += part + struct.pack("<Q", chain)
    return dump


def body(dump):
    """The parts but the last, as dump_of() takes them."""
    return [(part.kind, part.data) for part in parts_of(dump)[:-1]]
