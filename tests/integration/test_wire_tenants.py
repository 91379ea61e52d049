"""Between tenants: no request finds what another tenant has, changes it, or tells whether it is there."""

import pathlib
import re
import struct
from types import SimpleNamespace

import pytest
from block_support import Blocks
from tenant_support import Tenants, row
from wire import BLOCK_DELETE, BLOCK_TOUCH, DRAINED, OPEN_EXISTING, OPEN_NEW, Connection, Refused, Session
from wire_support import SMALL, append, assert_holds, bits, refused, stored

HEADER = pathlib.Path(__file__).resolve().parents[2] / "proto/wire/frame.h"
TYPES = re.findall(r"WIRE_(\w+) = ", re.search(r"enum wire_type {(.*?)}", HEADER.read_text(), re.DOTALL)[1])
FOLLOW_UPS = {"COMMIT", "CANCEL", "DATA", "REPLY", "ERROR"}  # of a request of one's own: they name nothing
TOKENS = 200
VECTOR = (1.0, 0.0)


def vector(label):
    return [(0, 4, label, b"about it", struct.pack("<2f", *VECTOR))]


def names(word):
    """What may be named, all of it with this word in it, which is of the same length everywhere."""
    return SimpleNamespace(session=b"session of " + word, model=b"model of " + word, key=b"key of " + word,
                           attachment=b"attachment of " + word, label=b"label of " + word,
                           ids=[word[0] + i for i in range(TOKENS)])


THEIRS, NOBODYS = names(b"them"), names(b"none")


def blocks(connection, at):
    return Blocks(connection, model=at.model)


def append_to(connection, at):
    """As if it had been opened."""
    reply = SimpleNamespace(created=0, version=1, tokens=TOKENS, tail_tokens=TOKENS % 128, page_tokens=128, level=-2,
                            min_snr_db=0, model=at.model, geometry=SMALL)
    session = Session.__new__(Session)
    session.connection, session.name, session.geometry = connection, at.session, SMALL
    session.tokens, session.tail_tokens, session.page_tokens = reply.tokens, reply.tail_tokens, reply.page_tokens
    return append(session, bits(SMALL, 5))


def of_their_own(connection, at):
    """A session of one's own, of their model."""
    return connection.open(b"my own", model=at.model, geometry=SMALL)


def put_behind(connection, at):
    result = blocks(connection, at).put(b"my block", bits(SMALL, 16), parent=at.key)
    blocks(connection, at).delete(b"my block")
    return result


def make_and_delete(connection, at):
    opened = connection.open(at.session, model=at.model, geometry=SMALL, mode=OPEN_NEW)
    return opened.created, opened.tokens, connection.delete(at.session).freed_bytes > 0


def fork_to(connection, at):
    of_their_own(connection, at)
    forked = connection.fork(b"my own", at.session)
    connection.delete(at.session)
    connection.delete(b"my own")
    return forked.tokens


def restore_and_delete(connection, at):
    """What one's own session was becomes one of this name."""
    stored(connection, b"my own", SMALL, 50)
    data, _ = connection.dump(b"my own")
    connection.delete(b"my own")
    restored = connection.restore(at.session, data)
    return restored.tokens, connection.delete(at.session).freed_bytes > 0


# What is tried of each type of request: calls that get a connection and the names to try it with.
ATTEMPTS = {
    "HELLO": [lambda connection, at: (connection.limits.tenant, connection.limits.role)],
    "PING": [lambda connection, at: connection.ping()],
    "OPEN": [lambda connection, at: connection.open(at.session, model=b"", mode=OPEN_EXISTING),
             lambda connection, at: connection.open(at.session, model=b"another", geometry=SMALL, mode=OPEN_EXISTING),
             make_and_delete],
    "APPEND": [append_to],
    "FETCH": [lambda connection, at: connection.fetch(at.session),
              lambda connection, at: connection.fetch(at.session, first=TOKENS + 1),
              lambda connection, at: connection.fetch(at.session, if_version=1),
              lambda connection, at: connection.fetch(at.session, model=b"another")],
    "INFO": [lambda connection, at: connection.info(at.session)],
    "LIST": [lambda connection, at: connection.list(), lambda connection, at: connection.list(limit=1),
             lambda connection, at: connection.list(all_tenants=1)],
    "DELETE": [lambda connection, at: connection.delete(at.session)],
    "STATS": [lambda connection, at: [getattr(connection.stats(), field) for field in
                                      ("sessions", "tokens", "logical_bytes", "stored_bytes", "used_bytes",
                                       "connections", "operations", "errors", "capacity", "levels")]],
    "FORK": [lambda connection, at: connection.fork(at.session, b"mine now"), fork_to],
    "TRUNCATE": [lambda connection, at: connection.truncate(at.session, 1),
                 lambda connection, at: connection.truncate(at.session, 1, if_version=1)],
    "AGE": [lambda connection, at: connection.age(at.session, 5),
            lambda connection, at: connection.age(at.session, 5, tenant="they")],
    "PIN": [lambda connection, at: connection.pin(at.session, 1000)],
    "DELETE_MANY": [lambda connection, at: connection.delete_many(prefix=at.session),
                    lambda connection, at: connection.delete_many(prefix=b"session", dry_run=True),
                    lambda connection, at: connection.delete_many(model=at.model)],
    "POLICY": [lambda connection, at: connection.policy(at.session),
               lambda connection, at: connection.policy(at.session, floor=5)],
    "MATCH": [lambda connection, at: connection.match(at.model, at.ids),
              lambda connection, at: connection.match(at.model, at.ids, geometry=SMALL),
              lambda connection, at: connection.match(at.model, at.ids[:1])],
    "FLUSH": [lambda connection, at: connection.flush(at.session), lambda connection, at: connection.flush()],
    "ATTACH_PUT": [lambda connection, at: connection.attach(at.session, at.attachment, b"x")],
    "ATTACH_GET": [lambda connection, at: connection.attachment(at.session, at.attachment),
                   lambda connection, at: connection.attachment(at.session, b"another")],
    "ATTACH_LIST": [lambda connection, at: connection.attachments(at.session)],
    "ATTACH_DELETE": [lambda connection, at: connection.detach(at.session, at.attachment)],
    "BLOCK_PUT": [put_behind],
    "BLOCK_GET": [lambda connection, at: blocks(connection, at).get([at.key], 16)],
    "BLOCK_CONTROL": [lambda connection, at: blocks(connection, at).exists([at.key], lease_ms=1000),
                      lambda connection, at: blocks(connection, at).control([at.key], BLOCK_TOUCH),
                      lambda connection, at: blocks(connection, at).control([at.key], BLOCK_DELETE)],
    "CONTROL": [lambda connection, at: connection.control(), lambda connection, at: connection.control(state=DRAINED)],
    "INDEX_PUT": [lambda connection, at: connection.index(at.session, vector(at.label), 2)],
    "INDEX_DELETE": [lambda connection, at: connection.unindex(at.session, labels=[at.label])],
    "RECALL": [lambda connection, at: connection.recall(VECTOR, model=at.model)[0],
               lambda connection, at: connection.recall(VECTOR, sessions=[at.session]),
               lambda connection, at: connection.recall((1.0,), model=at.model)[0]],
    "DUMP": [lambda connection, at: connection.dump(at.session),
             lambda connection, at: connection.dump(at.session, if_version=1),
             lambda connection, at: connection.dump(at.session, tenant="they")],
    "RESTORE": [restore_and_delete,
                lambda connection, at: connection.restore(at.session, b"no dump"),
                lambda connection, at: connection.restore(at.session, b"no dump", replace=True),
                lambda connection, at: connection.restore(at.session, b"no dump", tenant="they")],
    "RECALL_KEYS": [lambda connection, at: connection.recall_keys([], session=at.session, k=1, query_heads=2)],
}


def fill(connection, at):
    """Everything there can be, under these names; returns what the session holds."""
    session = connection.open(at.session, model=at.model, geometry=SMALL, level=-2, sharing=1, key_summaries=1)
    arrays = bits(SMALL, TOKENS)
    append(session, arrays, ids=at.ids)
    connection.attach(at.session, at.attachment, b"an attachment")
    connection.index(at.session, vector(at.label), 2)
    blocks(connection, at).put(at.key, bits(SMALL, 16))
    session.version = session.info().version
    return session, arrays


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two tenants of a daemon with a disk, the second with nothing; what the first has."""
    from conftest import Daemon
    folder = tmp_path_factory.mktemp("tenants")
    tenants = Tenants(lambda **options: Daemon(folder, **options), folder,
                      row("them", "they", "worker") + row("me", "me", "worker") + row("admin", "ops", "admin"), f"disk = {folder / 'disk'}\n")
    with tenants.connect("them") as them, tenants.connect("me") as me:
        session, arrays = fill(them, THEIRS)
        yield SimpleNamespace(them=them, me=me, session=session, arrays=arrays, tenants=tenants)
    assert tenants.daemon.stop() == 0


VOLATILE = re.compile(r"\b(version|id|age_ms|idle_ms|uptime_seconds)=\d+")


def answer(connection, attempt, at):
    """In words, without the names and what is another number each time."""
    try:
        got = attempt(connection, at)
    except Refused as error:
        got = (error.name, error.message)
    text = repr(vars(got) if isinstance(got, Session) else got)
    return VOLATILE.sub("", text.replace("them", "WORD").replace("none", "WORD"))


def test_every_type_of_request_is_tried():
    assert set(ATTEMPTS) == set(TYPES) - FOLLOW_UPS


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_answer_is_the_same_whether_another_tenant_has_it_or_nobody(world, name):
    for attempt in ATTEMPTS[name]:
        assert answer(world.me, attempt, THEIRS) == answer(world.me, attempt, NOBODYS)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_no_request_changes_what_another_tenant_has(world, name):
    for attempt in ATTEMPTS[name]:
        answer(world.me, attempt, THEIRS)
    info = world.session.info()
    assert (info.tokens, info.level, info.version, info.pinned_ms) == (TOKENS, -2, world.session.version, 0)
    assert (info.attachments.count, info.entries.entries, info.policy.floor.level) == (1, 1, -2)
    assert_holds(world.session, world.arrays)
    assert world.them.match(THEIRS.model, THEIRS.ids).tokens == TOKENS
    assert blocks(world.them, THEIRS).exists([THEIRS.key]) == [16]
    assert [hit.session for hit in world.them.recall(VECTOR, model=THEIRS.model)[0].hits] == [THEIRS.session]


def test_the_attempts_would_find_what_is_ones_own(world):
    """Else they could not tell anything."""
    for name in "OPEN FETCH INFO DUMP MATCH ATTACH_GET ATTACH_LIST BLOCK_GET BLOCK_CONTROL RECALL LIST STATS".split():
        attempt = ATTEMPTS[name][0]
        assert answer(world.them, attempt, THEIRS) != answer(world.me, attempt, THEIRS), name


def test_a_name_serves_every_tenant_once(world):
    _, arrays = stored(world.me, THEIRS.session, SMALL, 50, seed=7)
    mine = world.me.open(THEIRS.session, mode=OPEN_EXISTING)
    assert_holds(mine, arrays)
    assert_holds(world.session, world.arrays)
    assert [one.session for one in world.me.list().sessions] == [THEIRS.session]
    assert world.me.stats().sessions == 1
    world.me.delete(THEIRS.session)
    with refused("miss"):
        world.me.info(THEIRS.session)
    assert_holds(world.session, world.arrays)


def test_an_admin_lists_the_sessions_of_all_tenants_and_may_age_them(world):
    with world.tenants.connect("admin") as admin:
        assert admin.list().sessions == []
        assert [(one.tenant, one.session) for one in admin.list(all_tenants=1).sessions] == [("they", THEIRS.session)]
        with refused("miss"):
            admin.age(THEIRS.session, 3)
        with refused("miss"):
            admin.age(THEIRS.session, 3, tenant="nobody")
        with refused("miss"):
            admin.fetch(THEIRS.session)
        stored(world.them, b"to be aged", SMALL, 50)
        assert admin.age(b"to be aged", 3, tenant="they").level == 3
        assert world.them.info(b"to be aged").level == 3
        world.them.delete(b"to be aged")


def test_without_tenants_nothing_is_hidden(daemon):
    with Connection(daemon.socket) as one, Connection(daemon.socket) as other:
        stored(one, b"s", SMALL, 10)
        assert other.info(b"s").tokens == 10
        assert other.stats().operations
