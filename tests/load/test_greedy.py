"""What a greedy tenant costs a calm one: the p99 of its requests alone, and beside it. `make load` prints it."""

import contextlib
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from tenant_support import Tenants, row, token
from wire import Connection
from wire_support import SMALL, WIDE, append, bits

GREEDY = pathlib.Path(__file__).with_name("greedy.py")
LIMITS = "memory=96M sessions=1000 connections=64 in_flight=32M"
P99_RATIO_MAX = 2
ROUNDS, CALLS = 10, 100
NICE = 10  # of the greedy clients, which elsewhere would have processors of their own


@contextlib.contextmanager
def greedy(daemon, fetchers, appenders, openers):
    command = [sys.executable, GREEDY, daemon.socket, token("greedy").hex(), str(fetchers), str(appenders), str(openers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.nice(NICE))
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.poll() is None, "it has ended"
    finally:
        process.kill()
        process.wait()


class Calm:
    """What the calm tenant does, each once a call."""

    def __init__(self, connection):
        self.connection = connection
        self.kept, arrays = connection.open(b"kept", geometry=WIDE, level=3), bits(WIDE, 256)
        append(self.kept, arrays, settle=True)
        self.grown, self.arrays = connection.open(b"grown", geometry=SMALL, level=3), bits(SMALL, 8)

    def ping(self):
        self.connection.ping()

    def info(self):
        self.connection.info(b"kept")

    def fetch(self):
        self.kept.fetch(end=128)

    def append(self):
        append(self.grown, self.arrays)
        if self.grown.tokens >= 1024:
            self.grown.truncate(0)


def p99_us(call):
    seconds = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds)[CALLS * 99 // 100] * 1e6


def least(into, calm):
    for name in into:
        into[name] = min(into[name], p99_us(getattr(calm, name)))


@pytest.mark.parametrize("clients", [(16, 0, 0), (0, 4, 0), (0, 0, 16), (8, 2, 8)],
                         ids=["fetches", "appends", "opens", "all"])
def test_a_greedy_tenant_at_most_doubles_a_calm_ones_p99(start_daemon, tmp_path, clients):
    rows = row("calm", "calm", "worker") + row("greedy", "greedy", "worker") + f"limit greedy {LIMITS}\n"
    tenants = Tenants(start_daemon, tmp_path, rows)
    with Connection(tenants.daemon.socket, token=token("calm")) as connection:
        calm = Calm(connection)
        names = ("ping", "info", "fetch", "append")
        alone, beside = ({name: math.inf for name in names} for _ in range(2))
        with greedy(tenants.daemon, *clients) as others:
            for _ in range(ROUNDS):  # in turn: the least is the daemon's, the rest is the machine's
                others.send_signal(signal.SIGSTOP)
                least(alone, calm)
                others.send_signal(signal.SIGCONT)
                least(beside, calm)
    ratios = {name: beside[name] / alone[name] for name in names}
    print("\n" + json.dumps({"greedy": clients, **{
        name: {"alone_us": round(alone[name]), "beside_us": round(beside[name]), "ratio": round(ratios[name], 2)}
        for name in names}}))
    for name in names:
        assert ratios[name] <= P99_RATIO_MAX, name
