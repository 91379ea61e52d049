"""What once went wrong, each in the words of what is right."""

import subprocess
from types import SimpleNamespace

import pytest
from conftest import program
from wire import APPEND, CANCEL, COMMIT, Connection, Geometry, Refused, decode, encode, frame
from wire_support import SMALL, WIDE, append, bits, connection, packed, refused, stored  # noqa: F401


def test_a_cancel_behind_a_commit_does_not_hide_that_the_append_is_visible(connection):
    session = connection.open(b"chat", geometry=SMALL, level=-2)
    arrays = bits(SMALL, 3)
    request_id = session.begin(3)
    for piece in session.pieces(3):
        session.send_piece(request_id, packed(arrays), piece)
    connection.send(frame(COMMIT, request_id) + frame(CANCEL, request_id))
    assert decode("AppendReply", connection.receive().control).tokens == 3
    assert connection.info(b"chat").tokens == 3


def test_refused_appends_whose_end_is_still_to_come_hold_up_nothing(connection):
    refusals = range(1000, 1100)
    connection.send(b"".join(
        frame(APPEND, number, encode("AppendRequest", session=b"none", tokens=1))
        for number in refusals))
    for _ in refusals:
        connection.receive()
    connection.ping()
    connection.send(b"".join(frame(COMMIT, number) for number in refusals))
    connection.ping()


def test_a_version_does_not_come_again_after_a_restart(start_daemon):
    versions, ids = [], []
    for _ in range(2):
        daemon = start_daemon()
        with Connection(daemon.socket) as client:
            stored(client, b"chat", SMALL, 10)
            info = client.info(b"chat")
            versions.append(info.version)
            ids.append(info.id)
        assert daemon.stop() == 0
    assert versions[0] < versions[1] and ids[0] < ids[1]


def test_a_daemon_without_room_for_its_own_buffers_says_so_and_ends(tmp_path):
    config = tmp_path / "kvquantd.conf"
    config.write_text("memory = 32M\nreactors = 64\n")
    result = subprocess.run(
        [program("KVQUANTD", "kvquantd"), "--config", config, "--socket", tmp_path / "socket"],
        capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "the daemon itself needs" in result.stderr


def test_a_rope_that_is_not_a_number_is_invalid(connection):
    rope = SimpleNamespace(pairing=1, theta=float("nan"), dims=64, scaling=1.0)
    geometry = Geometry(2, 2, 64, 64, rope=rope)
    with refused("invalid"):
        connection.open(b"chat", geometry=geometry)


def test_sessions_deleted_while_they_are_appended_to_do_no_harm(daemon):
    with Connection(daemon.socket) as writer, Connection(daemon.socket) as other:
        for number in range(60):
            session = writer.open(b"chat", geometry=WIDE, level=-2)
            append(session, bits(WIDE, 20 + number))
            arrays = packed(bits(WIDE, 300))
            request_id = session.begin(300)
            pieces = list(session.pieces(300))
            for index, piece in enumerate(pieces):
                if index == number % len(pieces):
                    other.delete(b"chat")
                session.send_piece(request_id, arrays, piece)
            with pytest.raises(Refused) as caught:
                session.commit(request_id)
            assert caught.value.name == "miss"
        other.ping()
