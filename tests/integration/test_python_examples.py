"""The short examples of the Python package, run as a reader would."""

import pathlib
import re
import subprocess
import sys

import kvquantd

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "client/python/examples"


def run(name, daemon):
    command = [sys.executable, EXAMPLES / name, "--socket", daemon.socket]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fork_shows_that_the_prompt_is_stored_once(daemon):
    shown = run("fork.py", daemon)
    rows = re.findall(r"^(\S+) +(\d+) tokens, +([\d.]+) MiB, +([\d.]+) MiB of it its own$", shown, re.M)
    assert [name for name, *_ in rows] == ["prompt", "answer-1", "answer-2"]
    assert [int(tokens) for _, tokens, *_ in rows] == [2048, 2112, 2112]
    assert all(float(own) < float(stored) / 20 for *_, stored, own in rows)
    assert "fetched the answer alone: K and V of 64 tokens" in shown
    with kvquantd.connect(daemon.socket) as client:
        assert client.sessions() == []


def test_memory_brings_the_right_turn_into_a_new_session(daemon):
    shown = run("memory.py", daemon)
    assert "tokens 0 to 64 of monday: My sister's cat is called Ada" in shown
    assert "tuesday begins with its 64 tokens" in shown
