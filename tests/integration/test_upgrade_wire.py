"""A client of 0.1 is understood: what one said to its daemon, in tests/golden/0.1, gets the same answers today."""

import base64

import pytest
import wire
from conftest import ROOT
from recording import REPLIES, frames_of, replay, turns_of
from wire import Connection, Geometry
from wire_support import stored

TURNS = turns_of((ROOT / "tests/golden/0.1/conversation.jsonl").read_text())
GEOMETRY = Geometry(layers=2, heads=1, head_dim_k=8, head_dim_v=8, dtype=wire.F16)


@pytest.fixture
def storing(start_daemon, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"disk = {tmp_path}/disk\n")
    return start_daemon(arguments=["--config", config])


def said_types():
    return {type for turns in TURNS for direction, text in turns if direction == "sent"
            for type, *_ in frames_of(base64.b64decode(text))}


def test_every_kind_of_request_was_said():
    assert said_types() == {*REPLIES, wire.COMMIT, wire.CANCEL, wire.DATA}


def test_what_a_client_of_0_1_says_is_answered_as_it_was(storing):
    answered = 0
    for request, then, now in replay(TURNS[0], storing.socket):
        assert now == then, request
        answered += 1
    assert answered > 40


def test_a_client_of_0_1_gives_up_an_append_and_has_a_dump_of_its_time_restored(storing):
    with Connection(storing.socket) as connection:
        stored(connection, b"chat", GEOMETRY, 70)
    for turns in TURNS[1:]:
        for request, then, now in replay(turns, storing.socket):
            assert now == then, request
