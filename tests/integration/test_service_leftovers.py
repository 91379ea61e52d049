"""What one tenant had and deleted reaches no other, in whatever memory it lay: each byte that is sent is looked at."""

import itertools

import numpy
import pytest
from block_support import Blocks
from tenant_support import Tenants, row
from wire import BF16, EXACT, F16, F32, HEADS_TOKENS_DIM, TOKENS_HEADS_DIM, Refused
from wire_support import WIDE, append, packed

FULL, TAIL = 256, 44  # tokens
MEMORY = "64M"
LEFT = numpy.uint16(0x5A5B)  # all values of the one tenant, as float16
# That, as each dtype that it may be fetched as: half a dozen of them in a row are nobody else's.
FORMS = [LEFT.tobytes() * 6, LEFT.view(numpy.float16).astype(numpy.float32).tobytes() * 6,
         (LEFT.view(numpy.float16).astype(numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes() * 6]
NAME = b"a-name-of-the-one"
SENTENCE = b"what the one attached"


@pytest.fixture
def tenants(start_daemon, tmp_path):
    return Tenants(start_daemon, tmp_path, row("one", "one", "worker") + row("other", "other", "worker"),
                   f"disk = {tmp_path}/pool\n", memory=MEMORY)


def values(pattern, tokens):
    return tuple(numpy.full((WIDE.layers, tokens, WIDE.heads, WIDE.head_dim_k), pattern, numpy.uint16) for _ in "kv")


def use_memory(connection, pattern, name, sentence):
    """Fills pages, tails, buffers, scratch and caches, and reads all of it in every way."""
    for number, level in enumerate((EXACT, 3, 5)):
        session = connection.open(name + b"%d" % number, model=name, geometry=WIDE, level=level)
        append(session, values(pattern, FULL + TAIL))
        for dtype, layout in itertools.product((F16, BF16, F32), (TOKENS_HEADS_DIM, HEADS_TOKENS_DIM)):
            session.fetch(dtype=dtype, layout=layout)
            session.fetch(first=100, end=FULL + 3, first_layer=1, end_layer=3, dtype=dtype, layout=layout)
        session.fetch(first=FULL + 1, skip_v=True)
        connection.attach(session.name, name, sentence * 500)
        connection.attachment(session.name, name)
        connection.attachments(session.name)
        connection.truncate(session.name, 130)
        session.fetch()
        connection.info(session.name)
    blocks = Blocks(connection, model=name, geometry=WIDE)
    for number in range(8):
        blocks.put(b"%d" % number, values(pattern, 32))
    blocks.get([b"%d" % number for number in range(12)], 32)
    connection.list()
    connection.stats()
    for missing in name, b"":
        with pytest.raises(Refused):
            connection.open(b"new" + name, model=missing)
    connection.flush()


def everything_received(connection):
    """A list that takes each piece of bytes that comes from now on."""
    received, plain = [], connection.receive_bytes

    def receive_bytes(count):
        received.append(plain(count))
        return received[-1]
    connection.receive_bytes = receive_bytes
    return received


def leftovers(received):
    everything = b"".join(received)
    return [form for form in (*FORMS, NAME, SENTENCE) if form in everything]


def test_what_a_tenant_deleted_reaches_no_other(tenants):
    with tenants.connect("one") as one:
        received = everything_received(one)
        use_memory(one, LEFT, NAME, SENTENCE)
        assert set(leftovers(received)) == {*FORMS, NAME, SENTENCE}  # else it could not be found
        one.delete_many(prefix=NAME)
        Blocks(one, model=NAME, geometry=WIDE).delete(*[b"%d" % number for number in range(8)])
    with tenants.connect("other") as other:
        received = everything_received(other)
        use_memory(other, 0, b"other", b"nothing")
        assert sum(map(len, received)) > 10 << 20
        assert leftovers(received) == []
