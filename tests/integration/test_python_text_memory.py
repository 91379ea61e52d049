"""kvquantd.recall.TextMemory: turns of a chat, found by what was said."""

import re
import zlib

import kvquantd
import numpy as np
import pytest
from kvquantd.recall import TextMemory

GEOMETRY = kvquantd.Geometry(layers=2, heads=3, head_dim=16)
TURNS = [
    "My sister's cat is called Ada and sleeps on the radiator.",
    "Please remind me to water the tomatoes on the balcony every evening.",
    "The train to Lyon leaves at seven from platform nine.",
    "I am allergic to walnuts, so no walnut cake for me.",
]


def words(texts):
    """Which words there are: near enough to what a language model makes of a text."""
    vectors = np.zeros((len(texts), 256), np.float32)
    for row, text in zip(vectors, texts):
        for word in re.findall(r"[a-z]+", text.lower()):
            row[zlib.crc32(word.encode()) % 256] += 1
    return vectors


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


@pytest.fixture
def memory(client):
    return TextMemory(client, words, model="m")


def chat(client, name, tokens=200):
    session = client.open(name, model="m", geometry=GEOMETRY, level="exact")
    values = np.random.default_rng(len(name)).normal(size=(2, tokens, 3, 16)).astype(np.float16)
    session.append(values, -values)
    return session


@pytest.fixture
def told(client, memory):
    session = chat(client, "monday")
    for i, text in enumerate(TURNS):
        memory.add(session, text, range(i * 50, i * 50 + 40))
    return session


def test_the_right_turn_comes_back_in_a_new_session(client, memory, told):
    client.open("tuesday", model="m", geometry=GEOMETRY, level="exact")
    turn, = memory.recall("What was my sister's cat called?", k=1, fetch=True)
    assert (turn.text, turn.session, turn.tokens) == (TURNS[0], "monday", range(0, 40))
    assert 0.3 < turn.score <= 1
    new = client.open("tuesday")
    assert new.append(turn.k, turn.v) == 40
    assert np.array_equal(new.fetch(range(0, 40))[0], told.fetch(range(0, 40))[0])


def test_turns_come_best_first_and_no_more_than_asked(memory, told):
    turns = memory.recall("no walnut cake for me from platform nine", k=2)
    assert [turn.text for turn in turns] == [TURNS[3], TURNS[2]]
    assert turns[0].score > turns[1].score
    assert memory.recall("walnut", k=4, min_score=0.99) == []


def test_another_client_remembers_them_too(daemon, told):
    with kvquantd.connect(daemon.socket) as other:
        turn = TextMemory(other, words, model="m").recall("tomatoes on the balcony", k=1)[0]
    assert turn.text == TURNS[1]


def test_a_long_turn_is_one_turn_whichever_part_of_it_is_asked_for(client, memory):
    session = chat(client, "long")
    story = " ".join(f"chapter{i} tells of the {'ä' * 30} and of hero{i}." for i in range(60)) + " The end."
    memory.add(session, story, range(0, 150))
    memory.add(session, TURNS[2], range(150, 160))
    assert session.info()["embeddings"]["entries"] > 4
    for asked in ("chapter3 hero3", "chapter58 hero58 the end"):
        turns = memory.recall(asked, k=5)
        assert [turn.text for turn in turns if turn.tokens == range(0, 150)] == [story]


def test_a_turn_that_is_told_anew_replaces_what_was_told(client, memory, told):
    memory.add(told, "x " * 2000, range(0, 40), label="note")
    memory.add(told, "The cat is called Bo now.", range(0, 40), label="note")
    turns = memory.recall("x", k=9)
    assert sum(turn.label == "note" for turn in turns) == 1
    assert told.info()["embeddings"]["entries"] == len(TURNS) + 1
    assert memory.forget(told, "note")
    assert not memory.forget(told, "note")


def test_a_turn_goes_with_its_tokens(memory, told):
    told.truncate(100)
    assert {turn.text for turn in memory.recall("the", k=9)} <= {TURNS[0], TURNS[1]}


def test_entries_of_others_are_no_turns(client, memory, told):
    told.index(words(["my sister's cat"]), [range(0, 10)], ["foreign"], [b"not a turn"])
    assert all(turn.label != "foreign" for turn in memory.recall("my sister's cat", k=9))


@pytest.mark.parametrize("text, tokens, label", [("", range(0, 1), None), (" \n", range(0, 1), None),
                                                 ("x", range(5, 5), None), ("x", range(0, 1), "a#1"),
                                                 ("x" * 60_000, range(0, 1), None)])
def test_what_cannot_be_remembered_is_refused(memory, told, text, tokens, label):
    with pytest.raises(ValueError):
        memory.add(told, text, tokens, label)
