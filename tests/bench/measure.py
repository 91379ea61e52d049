"""Runs the measuring programs and the machine's own descriptions; gives lines (dicts) back.

A line is what a program prints as one line of JSON: `kind` says which. Speeds are not computed here.
"""

import json
import os
import pathlib
import platform
import socket
import subprocess
import tempfile
import time

START_SECONDS = 20


class Plan:
    """How much is measured: all of it within minutes, or a smoke test within one."""

    def __init__(self, quick):
        self.connections = "1,2" if quick else "1,2,8"
        # Levels, batches and rounds of a run; @LEVEL is answered before it settles. What is quick to
        # measure is measured more often: the figures that must hold are among it.
        self.runs = ([(["fast8", "@3", "exact", "3"], 1, 2)] if quick else
                     [(["fast8", "@fast8", "@3"], 3, 4), (["exact", "1", "3", "4"], 1, 4)])
        self.tcp_run = (["fast8"], 1, 2) if quick else (["fast8"], 2, 4)
        self.small_run = (["fast8", "3"], 1, 2 if quick else 5)
        self.peers_rounds = 2 if quick else 5
        self.sessions = 4 if quick else 8
        self.latency = (["--blocks", "10", "--pings", "100", "--tokens", "16", "--fetches", "1"]
                        if quick else ["--fetches", "4"])
        self.idle_seconds = 3 if quick else 60
        self.codec_mib = 8 if quick else 128


class Programs:
    """The programs of a build folder. Each call adds the lines that they print to `lines`."""

    def __init__(self, build):
        self.build = pathlib.Path(build)
        self.daemon = str(self.build / "kvquantd")
        self.lines = []

    def run(self, name, *arguments):
        command = [str(self.build / "tests/bench" / name), *map(str, arguments)]
        print("  " + " ".join([name, *command[2 if command[1:2] == [self.daemon] else 1:]]),
              flush=True)
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        self.lines += [json.loads(line) for line in output.splitlines()]

    def run_if_possible(self, what, name, *arguments):
        """The report says what is missing, and has the rest."""
        try:
            self.run(name, *arguments)
        except subprocess.CalledProcessError as error:
            self.lines.append({"kind": "failed", "what": what, "status": error.returncode})

    def socket(self, plan, transport, connections, run, shape="8x128"):
        levels, batches, rounds = run
        self.run_if_possible(
            f"{', '.join(levels)} over {transport}", "bench_socket", self.daemon, "--transport",
            transport, "--connections", connections, "--levels", ",".join(levels), "--batches", batches,
            "--rounds", rounds, "--sessions", plan.sessions, "--shape", shape)


def measure_all(build, plan):
    programs = Programs(build)
    for run in plan.runs:
        programs.socket(plan, "unix", plan.connections, run)
    programs.socket(plan, "tcp", plan.connections, plan.tcp_run)
    programs.socket(plan, "unix", "1", plan.small_run, shape="3x64")
    for placement in ["together", "apart"] if os.cpu_count() > 1 else ["together"]:
        programs.run("bench_latency", programs.daemon, "--placement", placement, *plan.latency)
    programs.run("bench_codec", "--mib", plan.codec_mib)
    programs.run("bench_idle", programs.daemon, "--seconds", plan.idle_seconds)
    programs.lines.append(synthetic(build))
    return programs.lines


def measure_peers(build, plan):
    programs = Programs(build)
    for connections in [1, 2]:
        programs.run("bench_peers", programs.daemon, "--connections", connections,
                     "--rounds", plan.peers_rounds, "--sessions", plan.sessions)
    programs.run("bench_codec", "--mib", 8, "--levels", "fast8")  # for the name of the kernels
    names = sorted({line["program"] for line in programs.lines if line["kind"] == "peer"})
    programs.lines.append({"kind": "versions", **{name: version_of(name) for name in names}})
    return programs.lines


def version_of(program):
    return subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True).stdout.strip()


def synthetic(build):
    """The line of `kvq bench synthetic`, from a daemon of its own."""
    print("  kvq bench synthetic", flush=True)
    build = pathlib.Path(build)
    with tempfile.TemporaryDirectory(prefix="kvq-bench.") as folder:
        path = f"{folder}/kvquantd.sock"
        daemon = subprocess.Popen([build / "kvquantd", "--socket", path, "--memory", "1G",
                                   "--log-level", "warning"])
        try:
            await_socket(daemon, path)
            table = subprocess.run([build / "kvq", "bench", "synthetic", "--json", "--socket", path],
                                   check=True, stdout=subprocess.PIPE, text=True).stdout
        finally:
            daemon.terminate()
            daemon.wait()
    return {"kind": "synthetic", **json.loads(table)}


def await_socket(daemon, path):
    end = time.monotonic() + START_SECONDS
    while not accepts(path):
        if daemon.poll() is not None or time.monotonic() > end:
            raise RuntimeError("kvquantd did not start")
        time.sleep(0.02)


def accepts(path):
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(path) == 0


def first_match(path, key):
    """The value of the first `key : value` of a file of /proc, "unknown" where there is none."""
    try:
        for line in pathlib.Path(path).read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    except OSError:
        pass
    return "unknown"


def machine(compiler):
    """The machine as it is before anything is measured."""
    governor = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "processor": first_match("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "compiler": compiler,
        "governor": governor.read_text().strip() if governor.exists() else "not readable",
        "memory": first_match("/proc/meminfo", "MemTotal"),
        "load": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
