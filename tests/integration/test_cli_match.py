"""kvq match, and importing with token ids."""

import numpy as np
import pytest

IDS = np.random.default_rng(1).integers(0, 50_000, 300)


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "cache.npy"
    np.save(path, np.random.default_rng(0).normal(size=(2, 2, 300, 3, 16)).astype(np.float16))
    return path


def saved(tmp_path, ids, name="ids.npy"):
    np.save(tmp_path / name, ids)
    return tmp_path / name


@pytest.fixture
def imported(kvq, cache, tmp_path):
    ends(kvq("import", "chat", cache, "--model", "m", "--ids", saved(tmp_path, IDS)), 0)


def ends(done, status):
    """What a command that ends with this status has said."""
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.mark.parametrize("dtype", ["<i8", "<i4", "<u4", "<u8", "<u2"])
def test_a_match_says_which_session_and_how_many_tokens(kvq, imported, tmp_path, dtype):
    ids = np.concatenate([IDS[:200], [1, 2, 3]]).astype(dtype)
    done = kvq("match", "--ids", saved(tmp_path, ids), "--model", "m")
    assert ends(done, 0) == "chat begins with 200 of 203 tokens\n"


def test_ids_may_stand_in_the_command_line(kvq, imported):
    ids = ",".join(map(str, IDS[:10]))
    found = kvq.json("match", "--ids", ids, "--model", "m")
    assert found == {"session": "chat", "tokens": 10, "version": found["version"], "session_tokens": 300,
                     "level": 3}


def test_without_a_match_the_status_is_3(kvq, imported):
    for arguments in (["--ids", "1,2,3", "--model", "m"], ["--ids", str(IDS[0]), "--model", "other"]):
        assert "no session begins with these tokens" in ends(kvq("match", *arguments), 3)


def test_info_says_how_many_tokens_have_ids(kvq, imported):
    assert kvq.json("info", "chat")["token_ids_tokens"] == 300
    assert "token ids   of 300 tokens" in kvq("info", "chat").stdout


@pytest.mark.parametrize("ids", ["1,,2", ",", "4294967296", "1,2,"])
def test_ids_that_are_none_are_refused(kvq, daemon, ids):
    assert "token ids" in ends(kvq("match", "--ids", ids, "--model", "m"), 1)


@pytest.mark.parametrize("ids", [np.array([-1]), np.array([2**32]), np.array([0.5]), np.array([[1]]),
                                 np.array([1], ">i4"), np.array([1], np.int8)])
def test_files_that_hold_no_ids_are_refused(kvq, daemon, tmp_path, ids):
    assert "token id" in ends(kvq("match", "--ids", saved(tmp_path, ids), "--model", "m"), 1)


def test_a_truncated_file_is_refused(kvq, daemon, tmp_path):
    path = saved(tmp_path, IDS)
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated" in ends(kvq("match", "--ids", path, "--model", "m"), 1)


def test_as_many_ids_are_imported_as_there_are_tokens(kvq, daemon, cache, tmp_path):
    done = kvq("import", "chat", cache, "--model", "m", "--ids", saved(tmp_path, IDS[:-1]))
    assert "299 token ids are given for 300 tokens" in ends(done, 1)


@pytest.mark.parametrize("given", [["--ids", "1"], ["--model", "m"]])
def test_model_and_ids_are_required(kvq, daemon, given):
    assert "is missing" in ends(kvq("match", *given), 2)
