"""Requests of a trace of chats, in Mooncake's form: a line of JSON a request, with the chained hashes
of its blocks, so that two requests with the same leading ids have the same prefix."""

import dataclasses
import gzip
import json
import lzma
import zlib

BLOCK_TOKENS = 512
OPENERS = {".gz": gzip.open, ".xz": lzma.open}


@dataclasses.dataclass(frozen=True)
class Request:
    tokens: int
    blocks: tuple  # the ids of its whole blocks
    chat: str  # equal for the requests of one chat


def read(path):
    """All requests, in their order."""
    with OPENERS.get(path.suffix, open)(path, "rt") as lines:
        return [request(index, json.loads(line)) for index, line in enumerate(lines)]


def request(index, line):
    """A block that is not full is not stored: only full ones have a hash that others can have too.
    Every request begins with the same block; the second tells chats apart, where there is one."""
    tokens, ids = line["input_length"], line["hash_ids"]
    chat = f"block {ids[1]}" if len(ids) > 1 else f"request {index}"
    return Request(tokens, tuple(ids[:tokens // BLOCK_TOKENS]), chat)


def sample(requests, about):
    """Whole chats, drawn by a hash of their name: about so many requests. A pool that is smaller by
    the same factor then has nearly the hit rate of all requests (SHARDS, Waldspurger et al., FAST 2015)."""
    share = about / len(requests)
    return [one for one in requests if zlib.crc32(one.chat.encode()) < share * 2**32]


def distinct_blocks(requests):
    return len({block for one in requests for block in one.blocks})
