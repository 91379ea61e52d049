"""How many more tokens of each model fit at each level, as STATS and the command say."""

import pytest
from conftest import Command
from wire import EXACT, Connection, Geometry
from wire_support import TINY, append, bits, connection, gaussian_bits  # noqa: F401

MODEL = Geometry(layers=8, heads=4, head_dim_k=64, head_dim_v=64)
VALUES = 8 * 2 * 4 * 64  # a token


def capacity(connection, model=b"model"):
    """Tokens by level; None: the model is not known."""
    for row in connection.stats().capacity:
        if row.model == model:
            return {level.level: level.tokens for level in row.levels}
    return None


def store(connection, name, level):
    pages = gaussian_bits(MODEL, 512)
    append(connection.open(name, geometry=MODEL, level=level), pages, settle=True)


def test_a_model_is_known_with_its_first_session_and_coarser_levels_hold_more(connection):
    assert capacity(connection) is None
    connection.open(b"a", geometry=MODEL)
    tokens = list(capacity(connection).values())
    assert len(tokens) == 8 and tokens[0] > 0
    assert tokens == sorted(tokens)


@pytest.mark.parametrize("level", [EXACT, 3, 5])
def test_what_a_level_takes_is_measured(connection, level):
    store(connection, b"a", level)
    stats = connection.stats()
    [row] = [row for row in stats.levels if (row.place, row.level) == (0, level)]
    free_bytes = stats.limit_bytes - stats.used_bytes
    assert capacity(connection)[level] == pytest.approx(free_bytes * row.tokens / row.bytes, rel=0.03)


def test_so_many_tokens_fit_indeed(start_daemon):
    daemon = start_daemon(memory="64M")
    with Connection(daemon.socket) as connection:
        arrays = bits(MODEL, 256)
        append(connection.open(b"first", geometry=MODEL, level=EXACT), arrays)
        fit = capacity(connection)[EXACT]
        number = 0
        while connection.stats().pressure.rounds == 0:
            append(connection.open(b"%d" % number, geometry=MODEL, level=EXACT), arrays, wait_ms=60000)
            number += 1
        assert 0.85 * fit <= number * 256 <= 1.05 * fit  # room begins to be made before all is full


def test_models_are_told_apart_and_a_few_are_kept(connection):
    for number in range(12):
        connection.open(b"%d" % number, model=b"m%d" % number, geometry=TINY)
    assert [row.model for row in connection.stats().capacity] == [b"m%d" % number for number in range(8)]
    connection.delete(b"0")
    connection.open(b"new", model=b"new", geometry=TINY)
    assert capacity(connection, b"new") and capacity(connection, b"m0") is None


def test_names_of_any_length_fit_into_the_answer(connection):
    for number in range(8):
        connection.open(b"%d" % number, model=b"%d" % number * 255, geometry=TINY)
    assert len(connection.stats().capacity) == 8


def test_the_command_shows_it(daemon, connection):
    connection.open(b"a", model="größer-7b".encode(), geometry=MODEL)
    kvq = Command(daemon.socket)
    [row] = kvq.json("status")["capacity"]
    assert row["model"] == "größer-7b" and list(row["tokens"])[:3] == ["exact", "fast8", "0"]
    page = kvq("status").stdout
    assert "ROOM FOR TOKENS OF" in page and "größer-7b" in page
