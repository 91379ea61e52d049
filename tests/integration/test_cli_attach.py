"""kvq attach."""

import json
import random
import subprocess

import numpy as np
import pytest
from conftest import program


@pytest.fixture
def session(kvq, tmp_path):
    path = tmp_path / "cache.npy"
    np.save(path, np.random.default_rng(0).normal(size=(2, 2, 50, 3, 16)).astype(np.float16))
    assert kvq("import", "chat", path, "--model", "m").returncode == 0
    return "chat"


def put(kvq, name, content, *arguments):
    """kvq as bytes go in."""
    return kvq("attach", "put", "chat", name, *arguments, input=content)


@pytest.mark.parametrize("content", ["", "1", "some text\n" * 1_000_000])
def test_what_was_attached_is_had_back(kvq, session, content):
    shown = json.loads(put(kvq, "state", content, "--json").stdout)
    assert (shown["session"], shown["name"], shown["bytes"]) == ("chat", "state", len(content))
    assert kvq.json("info", "chat")["version"] == shown["version"]
    got = kvq("attach", "get", "chat", "state")
    assert (got.returncode, got.stdout, got.stderr) == (0, content, "")


@pytest.mark.parametrize("count", [1000, 16 << 20])
def test_bytes_of_any_value_are_had_back(daemon, session, tmp_path, count):
    content = random.Random(0).randbytes(count)
    (tmp_path / "in").write_bytes(content)
    command = [program("KVQ", "kvq"), "--socket", daemon.socket, "attach"]
    with open(tmp_path / "in") as given, open(tmp_path / "out", "w") as got:
        subprocess.run([*command, "put", "chat", "x"], stdin=given, check=True)
        subprocess.run([*command, "get", "chat", "x"], stdout=got, check=True)
    assert (tmp_path / "out").read_bytes() == content


def test_a_list_has_what_was_put_and_rm_takes_it_away(kvq, session):
    assert kvq("attach", "list", "chat").stdout == ""
    for name in ("b", "a"):
        assert "chat has " + name in put(kvq, name, "12345").stdout
    listed = kvq.json("attach", "list", "chat")
    assert [(row["name"], row["bytes"], row["tokens"]) for row in listed["attachments"]] == [("a", 5, 50), ("b", 5, 50)]
    table = kvq("attach", "list", "chat").stdout.splitlines()
    assert [line.split()[-1] for line in table] == ["NAME", "a", "b"]
    assert kvq.json("info", "chat")["attachments"]["count"] == 2
    assert "attachments 2 of 10 B" in kvq("info", "chat").stdout
    assert "attachments 2 of 10 B" in kvq("status").stdout
    assert "a of chat is deleted" in kvq("attach", "rm", "chat", "a").stdout
    assert [row["name"] for row in kvq.json("attach", "list", "chat")["attachments"]] == ["b"]


def test_what_is_not_there_ends_with_3(kvq, session):
    for arguments in (["get", "chat", "x"], ["rm", "chat", "x"], ["get", "other", "x"], ["list", "other"],
                      ["rm", "other", "x"], ["put", "other", "x"]):
        done = kvq("attach", *arguments, input="1")
        assert (done.returncode, done.stdout) == (3, ""), arguments
        assert done.stderr.startswith("kvq: ") and done.stderr.count("\n") == 1


def test_more_than_one_has_is_refused(kvq, session):
    done = put(kvq, "x", "1" * ((16 << 20) + 1))
    assert done.returncode == 1 and "16 MiB" in done.stderr
    assert kvq.json("attach", "list", "chat")["attachments"] == []
