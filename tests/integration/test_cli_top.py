"""kvq top: what it shows once where there is no terminal, and again and again where there is one."""

import os
import pty
import re
import signal
import subprocess

import numpy as np
import pytest
from conftest import COMMAND_SECONDS, program


@pytest.fixture
def cache(tmp_path):
    values = np.random.default_rng(0).standard_normal((2, 2, 300, 2, 64))
    np.save(tmp_path / "cache.npy", values.astype(np.float16))
    return tmp_path / "cache.npy"


def line(page, start):
    found = [text for text in page.splitlines() if text.startswith(start)]
    assert len(found) == 1, (start, page)
    return found[0]


def test_without_a_terminal_it_is_shown_once_and_plain(kvq, cache):
    kvq("import", "small", cache, "--model", "m", "--level", "5")
    kvq("import", "large", cache, "--model", "m", "--level", "exact")
    done = kvq("top", "--seconds", 1)
    assert done.returncode == 0 and "\033" not in done.stdout
    assert "600 tokens" in line(done.stdout, "sessions ")
    assert re.match(r"exact +296 +[\d.]+ KiB +#+\.*$", line(done.stdout, "exact"))
    assert [row.split()[-1] for row in done.stdout.splitlines()[-2:]] == ["large", "small"]


def test_only_what_came_since_is_counted(kvq, cache):
    kvq("import", "chat", cache, "--model", "m")
    page = kvq("top", "--seconds", 1).stdout
    assert "0 B/s, 0 tokens/s" in line(page, "appended")
    assert line(page, "hits").split()[1:3] == ["-", "now,"]
    assert not re.search(r"^append ", page, re.MULTILINE)
    assert line(page, "stats ")


def test_on_a_terminal_it_goes_on_until_it_is_ended(daemon):
    ours, theirs = pty.openpty()
    process = subprocess.Popen([program("KVQ", "kvq"), "top", "--seconds", "1", "--socket", daemon.socket],
                               stdout=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while shown.count(b"\033[H") < 2:
        shown += os.read(ours, 4096)
    process.terminate()  # SIGINT is ignored where the tests run in the background
    assert process.wait(COMMAND_SECONDS) == -signal.SIGTERM
    os.close(ours)
    assert shown.count(b"kvquantd ") >= 1 and shown.count(b"\033[J") >= 1


def test_a_daemon_that_is_not_there_is_named(kvq, daemon):
    daemon.stop()
    done = kvq("top", "--seconds", 1)
    assert done.returncode == 1 and daemon.socket in done.stderr
