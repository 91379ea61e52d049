"""What the package kvquantd does to whole sessions: fork, truncate, and what a fetch tells."""

import datetime
import pickle

import kvquantd
import numpy as np
import pytest

LAYERS, TOKENS, HEADS, DIM = 2, 300, 2, 64
ROPE = kvquantd.Rope(theta=1e4, pairing="half", dims=DIM)
GEOMETRY = kvquantd.Geometry(layers=LAYERS, heads=HEADS, head_dim=DIM, dtype="f32", rope=ROPE)


@pytest.fixture
def client(daemon):
    with kvquantd.connect(daemon.socket) as client:
        yield client


@pytest.fixture
def values():
    shape = (2, LAYERS, TOKENS, HEADS, DIM)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture
def session(client, values):
    """A session of TOKENS tokens, kept exactly."""
    session = client.open("s", model="m", geometry=GEOMETRY, level="exact")
    session.append(*values)
    return session


def holds(session, k, v):
    fetched_k, fetched_v = session.fetch()
    return np.array_equal(fetched_k, k) and np.array_equal(fetched_v, v)


def test_a_fork_has_the_session_s_tokens_model_geometry_and_level(session, values):
    fork = session.fork("t")
    assert (fork.name, fork.tokens, fork.created) == ("t", TOKENS, True)
    assert (fork.model, fork.geometry, fork.level) == ("m", GEOMETRY, "exact")
    assert holds(fork, *values)


def test_decibels_that_are_asked_for_are_kept(client, values):
    session = client.open("s", model="m", geometry=GEOMETRY, min_snr_db=30)
    session.append(*values, settle=True)
    assert (session.min_snr_db, session.level) == (30, 5)
    info = client.open("s").info()
    assert info["min_snr_db"] == 30 and min(info["snr_k_db"], info["snr_v_db"]) >= 30
    assert client.open("t", model="m", geometry=GEOMETRY, level=3).min_snr_db is None


def test_a_fork_of_the_first_tokens_is_appended_to_where_it_ends(session, values):
    k, v = values
    fork = session.fork("t", 130)
    assert fork.tokens == 130
    assert fork.append(v[:, :50], k[:, :50]) == 180
    assert holds(fork, np.concatenate([k[:, :130], v[:, :50]], axis=1),
                 np.concatenate([v[:, :130], k[:, :50]], axis=1))
    assert holds(session, k, v)


def test_a_fork_takes_no_bytes_until_it_is_appended_to(client, session):
    used = client.status()["memory"]["used_bytes"]
    session.fork("t")
    assert client.status()["memory"]["used_bytes"] - used < 16384


def test_a_fork_that_cannot_be_is_refused(client, session):
    with pytest.raises(kvquantd.Exists):
        session.fork("s")
    with pytest.raises(kvquantd.Miss):
        session.fork("t", TOKENS + 1)
    with pytest.raises(kvquantd.VersionChanged):
        session.fork("t", if_version=session.version + 1)
    for tokens in (0, -1):
        with pytest.raises(ValueError, match="at least 1 token"):
            session.fork("t", tokens)
    with pytest.raises(kvquantd.Invalid):
        session.fork("")
    assert [row["session"] for row in client.sessions()] == ["s"]
    assert session.fork("t", if_version=session.version).tokens == TOKENS


def test_truncate_keeps_the_first_tokens(session, values):
    k, v = values
    version = session.version
    assert session.truncate(100) == session.tokens == 100
    assert session.version > version
    assert holds(session, k[:, :100], v[:, :100])
    session.append(k[:, 200:], v[:, 200:])
    assert holds(session, np.concatenate([k[:, :100], k[:, 200:]], axis=1),
                 np.concatenate([v[:, :100], v[:, 200:]], axis=1))


def test_truncate_to_nothing_leaves_an_empty_session(session):
    assert session.truncate(0) == 0
    assert session.fetch()[0].shape == (LAYERS, 0, HEADS, DIM)


def test_truncate_to_more_than_there_is_is_a_miss(session):
    with pytest.raises(kvquantd.Miss):
        session.truncate(TOKENS + 1)
    assert session.tokens == TOKENS


def test_another_client_learns_of_a_truncation_by_refresh(daemon, session):
    with kvquantd.connect(daemon.socket) as other:
        theirs = other.open("s")
        session.truncate(5)
        assert theirs.tokens == TOKENS
        theirs.refresh()
        assert (theirs.tokens, theirs.version) == (5, session.version)


def test_a_fetch_tells_the_levels_and_the_loss(client, values):
    session = client.open("s", model="m", geometry=GEOMETRY, level=3)
    session.append(*values, settle=True)
    fetched, info = session.fetch(), session.info()
    k, v = fetched
    assert k is fetched[0] and v is fetched[1] and len(fetched) == 2
    assert fetched.version == session.version
    assert fetched.levels == [{"level": 3, "tokens": TOKENS}]
    assert (fetched.snr_k_db, fetched.snr_v_db, fetched.estimated) == (
        info["snr_k_db"], info["snr_v_db"], False)
    measured = 10 * np.log10((values[0] ** 2).sum() / ((values[0] - k) ** 2).sum())
    assert fetched.snr_k_db == pytest.approx(measured, abs=0.2)


def test_a_fetch_of_exact_values_tells_no_loss(session):
    fetched = session.fetch(range(10, 20))
    assert fetched.levels == [{"level": "exact", "tokens": 10}]
    assert (fetched.snr_k_db, fetched.snr_v_db, fetched.estimated) == (None, None, False)


def test_what_was_fetched_can_be_handed_to_another_process(session, values):
    fetched = session.fetch()
    again = pickle.loads(pickle.dumps(fetched))
    assert np.array_equal(again[0], values[0]) and np.array_equal(again[1], values[1])
    assert vars(again) == vars(fetched)


def test_a_fetch_of_nothing_tells_nothing(session):
    fetched = session.fetch(range(10, 10))
    assert (fetched.version, fetched.levels, fetched.snr_k_db) == (session.version, [], None)


@pytest.mark.parametrize("deadline", [-1, float("nan"), float("inf"), datetime.timedelta(seconds=-1)])
def test_a_deadline_of_no_meaning_is_refused(daemon, deadline):
    with pytest.raises(ValueError, match="deadline"):
        kvquantd.connect(daemon.socket, deadline=deadline)
