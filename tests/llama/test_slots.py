"""`kvq llama` against a real server: a chat is saved, the server is killed, and goes on elsewhere."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

import kvquantd
import pytest
from conftest import MODEL, ROOT, wait_until

PROMPT = "Once upon a time there was a small cat who lived in a house near the sea with an old man"
SERVE = """
import sys, time, xllamacpp
given = xllamacpp.CommonParams()
given.model.path, given.slot_save_path = sys.argv[1], sys.argv[2] + "/"
given.hostnames, given.port = ["127.0.0.1"], 0
given.n_ctx, given.n_parallel, given.warmup = 512, 1, False
given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(given)
print("serving at", server.listening_address, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def running_server(folder):
    """llama.cpp's own server, in a process of its own; its address."""
    command = [sys.executable, "-c", SERVE, str(MODEL), str(folder)]
    with open(folder / "log", "w+b") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield address_of(folder / "log", process)
        finally:
            process.kill()
            process.wait()


def address_of(log, process):
    def found():
        return re.search(r"serving at (http://\S+)\n", log.read_text())

    wait_until(lambda: process.poll() is not None or found())
    assert found(), log.read_text()
    return found()[1]


def complete(address, prompt):
    """The text, and how many of the prompt's tokens were cached and not."""
    body = {"prompt": prompt, "n_predict": 6, "temperature": 0, "id_slot": 0, "cache_prompt": True}
    with urllib.request.urlopen(f"{address}/completion", json.dumps(body).encode()) as answer:
        found = json.load(answer)
    return found["content"], found["timings"]["cache_n"], found["timings"]["prompt_n"]


@pytest.fixture
def run(socket):
    program = os.environ.get("KVQ", str(ROOT / "build/kvq"))

    def run(*arguments):
        command = [program, "llama", *map(str, arguments), "--socket", socket]
        return subprocess.run(command, capture_output=True, text=True,
                              env=os.environ | {"KVQ_PYTHON": sys.executable})

    return run


def test_a_chat_goes_on_after_the_server_was_killed_without_a_prefill(run, client, tmp_path):
    with running_server(tmp_path) as address:
        text, cached, computed = complete(address, PROMPT)
        assert cached == 0
        done = run("save", "chat", tmp_path, f"{address}/slots/0", "--level", "exact", "--json")
        assert done.returncode == 0, done.stderr
        tokens = json.loads(done.stdout)["tokens"]
        assert tokens > computed
        expected, *_ = complete(address, PROMPT + text + " and then")
    with running_server(tmp_path) as address:
        done = run("restore", "chat", tmp_path, f"{address}/slots/0")
        assert done.returncode == 0, done.stderr
        answer, cached, computed = complete(address, PROMPT + text + " and then")
    assert cached >= tokens - 1 and computed <= 4
    assert answer == expected
    assert list(tmp_path.glob("kvq-*")) == []
    assert "chat" in run("list").stdout
    assert client.open("chat").info()["stored_bytes"] > 0


def test_what_is_not_there_is_a_miss_and_no_server_a_failure(run, tmp_path):
    done = run("restore", "chat", tmp_path, "http://127.0.0.1:1/slots/0")
    assert (done.returncode, done.stdout) == (3, "")
    done = run("save", "chat", tmp_path, "http://127.0.0.1:1/slots/0")
    assert done.returncode == 1
    assert done.stderr.startswith("kvq: no answer from http://127.0.0.1:1/") and done.stderr.count("\n") == 1


def test_another_model_is_refused(run, client, tmp_path):
    with running_server(tmp_path) as address:
        complete(address, PROMPT)
        slot = tmp_path, f"{address}/slots/0"
        assert run("save", "chat", *slot, "--model", "this").returncode == 0
        done = run("restore", "chat", *slot, "--model", "that")
    assert done.returncode == 1 and "model" in done.stderr
