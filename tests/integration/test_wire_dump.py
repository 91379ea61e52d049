"""DUMP and RESTORE: a session as it is kept, and the same of it somewhere else."""

import random
import struct

import pytest
from disk_support import Disk
from dump_support import ATTACHMENT, BATCH, CHUNK, END, KEYS, MANIFEST, ROWS, SESSION, body, dump_of, parts_of
from tenant_support import Tenants, row
from wire import (BYTES, COMMIT, EXACT, FAST8, OPEN_EXISTING, TOKEN_IDS, Connection, Refused, data_frame, frame)
from wire_support import (SMALL, TINY, WIDE, append, assert_holds, bits, connection, # noqa: F401
                          refused, stored, wait_until)

VECTORS = [(i, 4, b"label %d" % i, b"about it", struct.pack("<2f", 1.0, i)) for i in range(0, 12, 4)]


def quiet(start_daemon, folder, memory="256M"):
    """A daemon that changes nothing by itself: what is dumped is what is looked at later."""
    (folder / "conf").write_text("tail_idle = never\n")
    return start_daemon(memory=memory, arguments=["--config", str(folder / "conf")])


@pytest.fixture
def daemon(start_daemon, tmp_path):
    return quiet(start_daemon, tmp_path)


@pytest.fixture
def other(start_daemon, tmp_path):
    """A connection to another daemon."""
    with Connection(quiet(start_daemon, tmp_path).socket) as connection:
        yield connection


def fill(connection, name=b"all", tokens=300, level=3, **fields):
    """A session with whatever one can have; its pages are as they will be, its tail is rows."""
    session = connection.open(name, model=b"m", geometry=SMALL, level=level, sharing=1, **fields)
    arrays, settled = bits_of_numbers(tokens), tokens // 128 * 128
    if settled:
        append(session, [part[:, :settled] for part in arrays], ids=list(range(settled)), settle=True)
    if settled < tokens:
        append(session, [part[:, settled:] for part in arrays], ids=list(range(settled, tokens)))
    connection.attach(name, b"noise", random.Random(0).randbytes(600_000))
    connection.attach(name, b"text", b"some text\n" * 1000)
    connection.index(name, VECTORS, 2)
    connection.unindex(name, labels=[b"label 4"])
    return session


def bits_of_numbers(tokens, seed=0, geometry=SMALL):
    """Finite ones, as levels take them."""
    import numpy
    generator = numpy.random.default_rng(seed)
    return tuple(generator.normal(size=(geometry.layers, tokens, geometry.heads, geometry.head_dim(part)))
                 .astype(numpy.float16).view(numpy.uint16) for part in (0, 1))


TOLD = "model tokens tokens_available logical_bytes level min_snr_db policy k v levels attachments entries sharing"


def all_of(connection, name):
    """What can be had of a session and known of it, but for what another daemon gives anew."""
    session = connection.open(name, model=b"", mode=OPEN_EXISTING)
    info = connection.info(name)
    return {
        "values": session.fetch()[0],
        "info": {field: repr(getattr(info, field, None)) for field in TOLD.split()},
        "attachments": {one.name: connection.attachment(name, one.name)[0]
                        for one in connection.attachments(name).attachments},
        "recalled": [(hit.first, hit.label, hit.metadata)
                     for hit in connection.recall((1.0, 1.0), sessions=[name], k=8)[0].hits],
        "matched": connection.match(b"m", list(range(300))).tokens,
    }


@pytest.mark.parametrize("tokens", [16, 128, 300])
@pytest.mark.parametrize("level", [EXACT, FAST8, 0, 3])
def test_what_is_restored_elsewhere_gives_the_same_to_the_bit(connection, other, tokens, level):
    fill(connection, tokens=tokens, level=level)
    dump, said = connection.dump(b"all")
    restored = other.restore(b"all", dump)
    assert restored.tokens == said.tokens
    assert all_of(other, b"all") == all_of(connection, b"all")


def test_a_dump_of_what_was_restored_has_the_same_parts(connection, other):
    fill(connection, key_summaries=1)
    dump, _ = connection.dump(b"all")
    other.restore(b"all", dump)
    again, _ = other.dump(b"all")
    kinds = [part.kind for part in parts_of(dump)]
    assert kinds == [SESSION, MANIFEST, CHUNK, KEYS, CHUNK, KEYS, ROWS, ATTACHMENT, ATTACHMENT, BATCH, END]
    assert [part.kind for part in parts_of(again)] == kinds
    for before, after in zip(parts_of(dump), parts_of(again)):
        if before.kind in (KEYS, ROWS, ATTACHMENT):
            assert before.data == after.data


def test_what_became_coarser_stays_so_and_is_estimated_as_before(connection, other):
    fill(connection)
    connection.age(b"all", 5)
    other.restore(b"all", connection.dump(b"all")[0])
    assert all_of(other, b"all") == all_of(connection, b"all")
    assert other.info(b"all").k.estimated


def test_a_session_whose_slices_are_not_whole_chunks_comes_back(connection, other):
    session = connection.open(b"a", geometry=SMALL, level=2)
    append(session, bits_of_numbers(300), settle=True)
    connection.fork(b"a", b"b", tokens=150)
    fork = connection.open(b"b", mode=OPEN_EXISTING)
    append(fork, bits_of_numbers(200, seed=1), settle=True)
    for name in (b"a", b"b"):
        other.restore(name, connection.dump(name)[0])
        mine, theirs = (one.open(name, mode=OPEN_EXISTING).fetch()[0] for one in (connection, other))
        assert mine == theirs


def test_an_empty_session_comes_back(connection, other):
    connection.open(b"none", geometry=SMALL)
    assert other.restore(b"none", connection.dump(b"none")[0]).tokens == 0


def test_a_tail_that_is_coded_comes_back(connection, other):
    session = connection.open(b"a", geometry=SMALL, level=3)
    append(session, bits_of_numbers(200), settle=True)
    assert ROWS not in [part.kind for part in parts_of(connection.dump(b"a")[0])]
    other.restore(b"a", connection.dump(b"a")[0])
    assert other.open(b"a", mode=OPEN_EXISTING).fetch()[0] == session.fetch()[0]


def test_what_is_restored_can_be_appended_to_and_deleted(connection):
    session, arrays = stored(connection, b"a")
    dump, _ = connection.dump(b"a")
    connection.delete(b"a")
    connection.restore(b"a", dump)
    again = connection.open(b"a", mode=OPEN_EXISTING)
    assert_holds(again, arrays)
    append(again, bits(SMALL, 150))
    assert connection.info(b"a").tokens == 250
    connection.delete(b"a")
    wait_until(lambda: connection.stats().sessions == 0)


def test_what_was_on_disk_is_dumped_and_what_is_restored_outlasts_the_daemon(start_daemon, tmp_path, connection):
    disk = Disk(start_daemon, tmp_path / "disk")
    disk.start()
    with disk.connect() as there:
        session, arrays = stored(there, b"a", tokens=300)
        there.flush()
    disk.restart()
    with disk.connect() as there:
        dump, _ = there.dump(b"a")
        there.restore(b"b", dump)
        there.flush()
    disk.restart()
    with disk.connect() as there:
        for name in (b"a", b"b"):
            assert_holds(there.open(name, mode=OPEN_EXISTING), arrays)
    connection.restore(b"a", dump)
    assert_holds(connection.open(b"a", mode=OPEN_EXISTING), arrays)


def test_a_session_of_the_name_is_an_error_unless_it_is_replaced(connection):
    _, arrays = stored(connection, b"a")
    dump, _ = connection.dump(b"a")
    stored(connection, b"b", tokens=5)
    with refused("exists"):
        connection.restore(b"b", dump)
    assert connection.info(b"b").tokens == 5
    connection.restore(b"b", dump, replace=True)
    assert_holds(connection.open(b"b", mode=OPEN_EXISTING), arrays)
    assert connection.stats().sessions == 2


def test_a_session_that_came_meanwhile_is_found_at_commit(daemon, connection):
    stored(connection, b"a")
    dump, _ = connection.dump(b"a")
    request_id = connection.send_dump(b"b", dump)
    with Connection(daemon.socket) as second:
        stored(second, b"b", tokens=5)
        connection.send(frame(COMMIT, request_id))
        with refused("exists"):
            connection.answer(request_id, "RestoreReply")
        assert second.info(b"b").tokens == 5


def test_nobody_sees_it_before_commit_and_a_lost_client_leaves_nothing(daemon, connection):
    fill(connection)
    dump, _ = connection.dump(b"all")
    wait_until(lambda: connection.stats().connections == 1)
    used = connection.stats().used_bytes
    with Connection(daemon.socket) as second:
        second.send_dump(b"b", dump)
        second.ping()
        assert connection.stats().used_bytes > used
        with refused("miss"):
            connection.info(b"b")
    wait_until(lambda: connection.stats().used_bytes <= used)
    assert connection.stats().sessions == 1


def test_cut_off_anywhere_it_is_incomplete(connection):
    fill(connection, key_summaries=1)
    dump, _ = connection.dump(b"all")
    parts = parts_of(dump)
    cuts = {part.at for part in parts} | {part.at + 16 for part in parts} | {part.end - 1 for part in parts}
    for cut in sorted(cuts):
        with refused("incomplete"):
            connection.restore(b"b", dump[:cut])
        with refused("miss"):
            connection.info(b"b")


@pytest.mark.parametrize("seed", range(4))
def test_a_bit_flipped_anywhere_is_noticed(connection, seed):
    fill(connection, key_summaries=1)
    dump, _ = connection.dump(b"all")
    chosen = random.Random(seed)
    for _ in range(50):
        damaged = bytearray(dump)
        damaged[chosen.randrange(len(dump))] ^= 1 << chosen.randrange(8)
        with refused("invalid", "unsupported", "incomplete"):
            connection.restore(b"b", bytes(damaged))
        with refused("miss"):
            connection.info(b"b")


@pytest.mark.parametrize("seed", range(8))
def test_whoever_writes_a_dump_can_harm_nobody_by_what_it_says(connection, seed):
    """Its checksums are right here, what they guard is not: the daemon refuses it, or has some session."""
    session = fill(connection, key_summaries=1)
    before, parts = session.fetch()[0], body(connection.dump(b"all")[0])
    chosen = random.Random(seed)
    for _ in range(40):
        changed = [list(part) for part in parts]
        for _ in range(chosen.randint(1, 3)):
            part = chosen.choice(changed)
            data = bytearray(part[1])
            at = chosen.randrange(min(len(data), chosen.choice([40, 400, len(data)])))
            data[at] = chosen.choice([0, 1, 0x7f, 0xff, data[at] ^ 1])
            part[1] = bytes(data)
        try:
            connection.restore(b"b", dump_of(changed))
        except Refused as error:
            assert error.name in ("invalid", "incomplete", "unsupported", "full"), error
            continue
        try:
            connection.open(b"b", model=b"", mode=OPEN_EXISTING).fetch()
        except Refused as error:
            assert error.name == "miss", error
        connection.delete(b"b")
    assert session.fetch()[0] == before


def without(parts, kind):
    return [part for part in parts if part[0] != kind]


def twice(parts, kind):
    return [one for part in parts for one in ([part, part] if part[0] == kind else [part])]


@pytest.mark.parametrize("change", [without, twice])
@pytest.mark.parametrize("kind", [SESSION, MANIFEST, CHUNK, ROWS, ATTACHMENT, BATCH])
def test_parts_that_are_missing_or_too_many_are_refused(connection, change, kind):
    fill(connection)
    with refused("invalid", "incomplete"):
        connection.restore(b"b", dump_of(change(body(connection.dump(b"all")[0]), kind)))
    with refused("miss"):
        connection.info(b"b")


def test_a_newer_dump_is_refused_in_plain_words(connection):
    stored(connection, b"a")
    with refused("unsupported") as caught:
        connection.restore(b"b", dump_of(body(connection.dump(b"a")[0]), version=2))
    assert "newer version" in caught.value.message


def test_a_part_that_would_take_more_than_there_is_is_refused_before_its_bytes_come(connection):
    stored(connection, b"a")
    dump, _ = connection.dump(b"a")
    head = bytearray(parts_of(dump)[1].data)
    claims = dump_of([(SESSION, parts_of(dump)[0].data), (MANIFEST, bytes(head) * 3)])
    with refused("invalid"):
        connection.restore(b"b", claims)


@pytest.mark.parametrize("first, layer, part, count", [(1, 0, BYTES, 8), (0, 1, BYTES, 8), (0, 0, TOKEN_IDS, 8),
                                                       (0, 0, BYTES, 7)])
def test_data_that_is_not_the_next_bytes_is_refused(connection, first, layer, part, count):
    stored(connection, b"a")
    request_id = connection.send_dump(b"b", b"")
    connection.send(data_frame(request_id, first, count, layer, part, bytes(8)))
    connection.send(frame(COMMIT, request_id))
    with refused("invalid"):
        connection.answer(request_id, "RestoreReply")


@pytest.mark.parametrize("pieces", [1, 7, 4096, 1 << 20])
def test_it_may_be_cut_into_frames_of_any_size(connection, pieces):
    _, arrays = stored(connection, b"a", TINY, 20)
    dump, _ = connection.dump(b"a")
    connection.restore(b"b", dump, pieces=pieces)
    assert_holds(connection.open(b"b", mode=OPEN_EXISTING), arrays)


def test_a_version_that_is_no_more_is_said(connection):
    session, _ = stored(connection, b"a")
    version = connection.info(b"a").version
    append(session, bits(SMALL, 1))
    with refused("version_changed"):
        connection.dump(b"a", if_version=version)
    with refused("miss"):
        connection.dump(b"none")


def test_a_session_deleted_on_the_way_ends_its_dump_with_a_miss(daemon, connection):
    stored(connection, b"a", WIDE, 2048)  # more than sockets hold
    with Connection(daemon.socket) as slow:
        slow.request(33, "DumpRequest", session=b"a")
        slow.receive()
        connection.delete(b"a")
        with refused("miss"):
            while (got := slow.receive()).type == 32:
                pass
            raise Refused(got.control)


def test_at_the_memory_limit_a_restore_waits_and_is_refused_and_leaves_nothing(connection, start_daemon, tmp_path):
    stored(connection, b"a", WIDE, 128 * 40)
    dump, _ = connection.dump(b"a")
    with Connection(quiet(start_daemon, tmp_path, memory="32M").socket) as small:
        stored(small, b"b", WIDE, 1)
        used = small.stats().used_bytes
        with refused("full"):
            small.restore(b"a", dump, wait_ms=1)
        wait_until(lambda: small.stats().used_bytes <= used)
        with refused("miss"):
            small.info(b"a")
        stored(small, b"d", WIDE, 1)
        small.restore(b"c", small.dump(b"d")[0])


# --- whose it is ---


@pytest.fixture
def tenants(start_daemon, tmp_path):
    rows = row("one", "one", "worker") + row("two", "two", "worker") + row("reader", "one", "reader")
    return Tenants(start_daemon, tmp_path, rows + row("admin", "ops", "admin") + "limit two sessions=1\n")


def test_it_is_restored_into_the_tenant_of_the_credential_whatever_the_dump_says(tenants):
    with tenants.connect("one") as one, tenants.connect("two") as two:
        _, arrays = stored(one, b"a")
        two.restore(b"a", one.dump(b"a")[0])
        assert_holds(two.open(b"a", mode=OPEN_EXISTING), arrays)
        assert (one.stats().sessions, two.stats().sessions) == (1, 1)


def test_an_admin_dumps_and_restores_for_others(tenants):
    with tenants.connect("one") as one, tenants.connect("two") as two, tenants.connect("admin") as admin:
        _, arrays = stored(one, b"a")
        with refused("miss"):
            admin.dump(b"a")
        admin.restore(b"a", admin.dump(b"a", tenant="one")[0], tenant="two")
        assert_holds(two.open(b"a", mode=OPEN_EXISTING), arrays)
        with refused("permission_denied"):
            one.dump(b"a", tenant="two")
        with refused("permission_denied"):
            one.restore(b"b", b"", tenant="two")


def test_a_reader_dumps_and_restores_nothing(tenants):
    with tenants.connect("one") as one, tenants.connect("reader") as reader:
        stored(one, b"a")
        dump, _ = reader.dump(b"a")
        with refused("permission_denied"):
            reader.restore(b"b", dump)


def test_a_session_more_than_the_quota_is_refused_and_one_replaced_is_not(tenants):
    with tenants.connect("two") as two:
        stored(two, b"a")
        dump, _ = two.dump(b"a")
        with refused("quota"):
            two.restore(b"b", dump)
        two.restore(b"a", dump, replace=True)
        assert two.stats().sessions == 1
        two.delete(b"a")
        two.restore(b"b", dump)
