"""kvq dump and kvq restore."""

import hashlib
import json
import os
import pathlib
import stat
import subprocess

import numpy as np
import pytest
from conftest import Command, program
from dump_support import parts_of
from tenant_support import Tenants, row, token


GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "1.dump"
GOLDEN_VALUES = "5d1b4eccc61b1b8090ea12ddf186cadbc1dab0f6f1f20918b2123e9e62935fcd"  # SHA-256 of the .npy that it is exported to


@pytest.fixture
def sessions(kvq, tmp_path):
    """Two of them."""
    path = tmp_path / "cache.npy"
    np.save(path, np.random.default_rng(0).normal(size=(2, 2, 300, 3, 16)).astype(np.float16))
    for name in ("a", "b"):
        assert kvq("import", name, path, "--model", "m", "--level", "2").returncode == 0
    return ("a", "b")


@pytest.fixture
def elsewhere(start_daemon):
    """kvq against another daemon."""
    return Command(start_daemon().socket)


def exported(kvq, name, tmp_path):
    path = tmp_path / "exported.npy"
    assert kvq("export", name, path).returncode == 0
    return path.read_bytes()


def names(kvq):
    return sorted(kvq("sessions", "--names").stdout.split())


def test_a_session_goes_to_a_file_and_is_the_same_where_it_is_restored(kvq, elsewhere, sessions, tmp_path):
    file = tmp_path / "a.dump"
    said = kvq("dump", "a", file)
    assert (said.returncode, said.stderr) == (0, "") and "300 tokens" in said.stdout
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    restored = elsewhere.json("restore", file)["sessions"]
    assert [(one["session"], one["restored"], one["tokens"]) for one in restored] == [("a", True, 300)]
    assert exported(elsewhere, "a", tmp_path) == exported(kvq, "a", tmp_path)
    assert names(elsewhere) == ["a"]


def test_all_sessions_go_to_a_file_and_are_listed_without_a_daemon(kvq, elsewhere, sessions, tmp_path):
    file = tmp_path / "all.dump"
    dumped = kvq.json("dump", "--all", file)
    assert [one["session"] for one in dumped["sessions"]] == ["a", "b"]
    assert dumped["bytes"] == file.stat().st_size
    listed = json.loads(Command("/none")("restore", "--list", file, "--json").stdout)
    assert [(one["session"], one["model"], one["tokens"], one["level"]) for one in listed] == [
        ("a", "m", 300, "2"), ("b", "m", 300, "2")]
    assert elsewhere("restore", file).returncode == 0
    assert names(elsewhere) == ["a", "b"]


def test_no_sessions_make_a_file_with_none(kvq, tmp_path):
    file = tmp_path / "none.dump"
    assert kvq("dump", "--all", file).returncode == 0
    assert json.loads(kvq("restore", "--list", file, "--json").stdout) == []


def test_it_goes_through_a_pipe(daemon, elsewhere, kvq, sessions, tmp_path):
    command = [program("KVQ", "kvq"), "--socket"]
    dump = subprocess.run([command[0], "dump", "--all", "-", "--socket", daemon.socket], capture_output=True, check=True)
    assert dump.stderr == b""
    subprocess.run([command[0], "restore", "-", "--socket", elsewhere.socket], input=dump.stdout, check=True,
                   capture_output=True)
    assert names(elsewhere) == ["a", "b"]
    assert exported(elsewhere, "b", tmp_path) == exported(kvq, "b", tmp_path)


def test_one_that_exists_is_left_alone_and_told_of_and_the_others_are_restored(kvq, elsewhere, sessions, tmp_path):
    file = tmp_path / "all.dump"
    kvq("dump", "--all", file)
    elsewhere("restore", file)
    elsewhere("truncate", "a", "10")
    elsewhere("rm", "b")
    done = elsewhere("restore", file)
    assert done.returncode == 1 and "session a exists; add --replace" in done.stderr
    assert elsewhere.json("info", "a")["tokens"] == 10
    assert elsewhere.json("info", "b")["tokens"] == 300
    assert elsewhere("restore", file, "--replace").returncode == 0
    assert elsewhere.json("info", "a")["tokens"] == 300


def test_the_only_session_may_get_another_name(kvq, sessions, tmp_path):
    kvq("dump", "a", tmp_path / "a.dump")
    kvq("dump", "--all", tmp_path / "all.dump")
    assert kvq("restore", tmp_path / "a.dump", "--session", "c").returncode == 0
    assert names(kvq) == ["a", "b", "c"]
    refused = kvq("restore", tmp_path / "all.dump", "--session", "d")
    assert refused.returncode == 1 and "2 sessions" in refused.stderr


def test_cut_off_behind_any_part_a_file_is_not_whole_and_nothing_of_it_is_restored(kvq, elsewhere, sessions, tmp_path):
    kvq("dump", "--all", tmp_path / "all.dump")
    whole = (tmp_path / "all.dump").read_bytes()
    for part in parts_of(whole):
        (tmp_path / "cut").write_bytes(whole[:part.at])
        done = elsewhere("restore", tmp_path / "cut")
        assert done.returncode == 1 and ("not whole" in done.stderr or "empty" in done.stderr)
    assert names(elsewhere) == []


@pytest.mark.parametrize("at", [0, 9, 40, 0.1, 0.3, 0.5, 0.7, 0.9, -1, -30])
def test_a_flipped_bit_is_noticed_by_list_and_by_restore(kvq, elsewhere, sessions, tmp_path, at):
    kvq("dump", "--all", tmp_path / "all.dump")
    damaged = bytearray((tmp_path / "all.dump").read_bytes())
    damaged[int(at * len(damaged)) if isinstance(at, float) else at] ^= 8
    (tmp_path / "damaged").write_bytes(damaged)
    for arguments in (("--list",), ()):
        done = elsewhere("restore", tmp_path / "damaged", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "damaged" in done.stderr or "newer version" in done.stderr or "not whole" in done.stderr
    assert names(elsewhere) == []


def test_what_is_no_dump_or_goes_on_behind_its_end_is_refused(kvq, sessions, tmp_path):
    (tmp_path / "text").write_text("no dump\n" * 100)
    assert "no dump" in kvq("restore", tmp_path / "text").stderr
    kvq("dump", "a", tmp_path / "a.dump")
    with open(tmp_path / "a.dump", "ab") as file:
        file.write(b"more")
    done = kvq("restore", tmp_path / "a.dump")
    assert done.returncode == 1 and "behind its end" in done.stderr


def test_a_dump_that_fails_leaves_what_was_there(kvq, sessions, tmp_path):
    file = tmp_path / "a.dump"
    file.write_text("before")
    done = kvq("dump", "none", file)
    assert (done.returncode, file.read_text()) == (3, "before")
    assert kvq("dump", "a", tmp_path / "no folder" / "a.dump").returncode == 1
    assert kvq("dump", "a", "/dev/null").returncode == 1
    assert sorted(path.name for path in tmp_path.glob("*.dump*")) == ["a.dump"]


@pytest.mark.parametrize("arguments", [("a",), ("--all", "a", "b"), ("a", "f", "--all-tenants"),
                                       ("--all", "f", "--tenant", "t"), ("a", "-", "--json"), ("a", "b", "c")])
def test_what_makes_no_sense_is_usage(kvq, arguments):
    assert kvq("dump", *arguments).returncode == 2


def test_an_admin_moves_the_sessions_of_all_tenants(start_daemon, tmp_path, kvq):
    rows = row("one", "one", "worker") + row("admin", "ops", "admin")
    folders = [tmp_path / "from", tmp_path / "to"]
    kvqs = []
    np.save(tmp_path / "cache.npy", np.zeros((1, 2, 10, 1, 16), np.float16))
    for name in ("one", "admin"):
        (tmp_path / name).write_text(token(name).hex() + "\n")
        os.chmod(tmp_path / name, 0o600)
    for folder in folders:
        folder.mkdir()
        kvqs.append(Command(Tenants(start_daemon, folder, rows).daemon.socket))
    one, admin = ("--token-file", tmp_path / "one"), ("--token-file", tmp_path / "admin")
    assert kvqs[0]("import", "s", tmp_path / "cache.npy", "--model", "m", *one).returncode == 0
    assert kvqs[0]("dump", "--all", "--all-tenants", tmp_path / "f", *one).returncode == 1
    assert kvqs[0]("dump", "--all", "--all-tenants", tmp_path / "f", *admin).returncode == 0
    assert kvqs[1]("restore", "--all-tenants", tmp_path / "f", *admin).returncode == 0
    assert kvqs[1]("sessions", "--names", *one).stdout == "s\n"
    assert kvqs[1]("sessions", "--names", *admin).stdout == ""


def test_a_dump_of_the_first_version_is_read_as_ever(kvq, tmp_path):
    assert kvq("restore", GOLDEN).returncode == 0
    assert hashlib.sha256(exported(kvq, "golden", tmp_path)).hexdigest() == GOLDEN_VALUES
    info = kvq.json("info", "golden")
    assert (info["model"], info["tokens"], info["level"], info["attachments"]["count"]) == ("a model", 140, 3, 1)
    assert kvq("attach", "get", "golden", "text").stdout == "some text\n" * 10
    np.save(tmp_path / "ids.npy", np.arange(140, dtype=np.int32))
    assert kvq.json("match", "--ids", tmp_path / "ids.npy", "--model", "a model")["tokens"] == 140
