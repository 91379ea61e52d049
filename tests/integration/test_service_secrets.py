"""Where secrets are not: in what the daemon says, in what the system shows of it, in a core file."""

import os
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import numpy
import pytest
from block_support import Blocks
from monitor_support import ask
from tenant_support import row, token
from tls_support import TENANTS, TlsDaemon
from conftest import SANITIZED, program
from wire import EXACT, F32, Refused
from wire_support import WIDE, gaussian_bits, packed

DISK_KEY = bytes(range(100, 132))
IDS = [0x01020304 * number % 2**31 for number in range(7, 307)]
TOKENS = len(IDS)  # two chunks and a tail


def markers(arrays):
    """The bytes of some rows of K and V, as they came and as float32."""
    for part in arrays:
        for token_number in (0, 50, 150, TOKENS - 1):
            of_head = part[1, token_number, 2]
            yield of_head.tobytes()
            yield of_head.view(numpy.float16).astype(numpy.float32).tobytes()


@pytest.fixture
def used(start_daemon, tmp_path):
    """A daemon that logs everything and has every secret, after requests of all kinds that had prompts in them, some
    of which failed. `said` is all that it answered in words."""
    key = tmp_path / "disk.key"
    key.touch(mode=0o600)
    key.write_bytes(DISK_KEY)
    config = "\n".join([f"disk = {tmp_path}/pool", f"disk_key = {key}", "log_level = debug", "core_files = yes",
                        f"metrics = {tmp_path}/metrics.sock", "slow_request = 1ms"])
    daemon = TlsDaemon(start_daemon, tmp_path, TENANTS + row("known", "chat", "worker"), config + "\n")
    arrays = gaussian_bits(WIDE, TOKENS)
    said = []

    def refused(call, *arguments, **fields):
        with pytest.raises(Refused) as refusal:
            call(*arguments, **fields)
        said.append(str(refusal.value))

    refused(daemon.connect, "unknown")
    with daemon.connect("known") as connection, daemon.connect_tls() as over_tls:
        over_tls.ping()
        for level in EXACT, 3:
            session = connection.open(b"%d" % level, geometry=WIDE, level=level, durability=1)
            session.append(TOKENS, packed(arrays), ids=IDS)
            session.fetch()
            session.fetch(dtype=F32)
            connection.age(session.name, 4)
            session.fetch()
        connection.match(b"model", IDS)
        Blocks(connection, geometry=WIDE).put(b"key", arrays)
        connection.attach(session.name, b"state", arrays[0][0].tobytes())
        connection.attachment(session.name, b"state")
        refused(connection.info, b"nothing")
        refused(connection.open, b"3", model=b"another", geometry=WIDE)
        refused(session.append, 1, packed(arrays), first=7)
        connection.fork(session.name, b"fork", tokens=200)
        connection.truncate(b"fork", 130)
    return SimpleNamespace(daemon=daemon, arrays=arrays, said="\n".join(said), metrics=str(tmp_path / "metrics.sock"))


def secrets(used):
    """By name, in every form that text could have."""
    key = [line for line in used.daemon.files["key"].read_text().splitlines() if "-----" not in line]
    assert len(key) >= 3
    return {"token": [token("known").hex(), token("unknown").hex()], "disk key": [DISK_KEY.hex()],
            "TLS key": key, "token ids": [str(number) for number in IDS[100:110]] + [f"{number:x}" for number in IDS[100:110]]}


def test_nothing_that_is_said_or_shown_has_a_secret_in_it(used):
    pid = used.daemon.daemon.pid
    shown = {"log": used.daemon.log(), "errors": used.said}
    for path in "/metrics", "/", "/status.json":
        shown[path] = ask(used.metrics, path).text
    for name in "cmdline", "environ", "comm":
        with open(f"/proc/{pid}/{name}", errors="replace") as file:
            shown[name] = file.read()
    assert all(shown[name] for name in ("log", "errors", "/metrics", "/", "/status.json", "cmdline"))
    for what, forms in secrets(used).items():
        for form in forms:
            for place, text in shown.items():
                assert form.lower() not in text.lower(), (what, place)


def dumped(pid):
    """What a core file would have of the memory: what can be read and is not marked to be left out."""
    with open(f"/proc/{pid}/smaps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            span = re.match(r"([0-9a-f]+)-([0-9a-f]+) (...)", line)
            if span:
                first, end, rights, *_, where = *(int(number, 16) for number in span.groups()[:2]), span[3], line.split()[-1]
            if line.startswith("VmFlags:") and "dd" not in line.split() and rights.startswith("rw"):
                memory.seek(first)
                yield f"{where} {first:x}", memory.read(end - first)


@pytest.mark.skipif(SANITIZED, reason="memory is another")
def test_what_a_core_file_would_have_of_memory_is_without_values(used):
    wanted = list(markers(used.arrays))
    looked_at, found = 0, []
    for where, memory in dumped(used.daemon.daemon.pid):
        looked_at += len(memory)
        found += [(where, number, memory.index(marker)) for number, marker in enumerate(wanted) if marker in memory]
    assert looked_at > 1 << 20
    assert found == []


# Says whether its own user may look into the process.
LOOK = "import sys; open(f'/proc/{sys.argv[1]}/mem', 'rb').close()"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("core_files, may", [("no", False), ("yes", True)])
def test_the_daemons_user_may_look_into_it_only_where_core_files_are_allowed(core_files, may):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        arguments = ["--socket", f"{folder}/socket", "--memory", "64M", "--core-files", core_files]
        daemon = subprocess.Popen([program("KVQUANTD", "kvquantd"), *arguments], stderr=subprocess.PIPE, text=True,
                                  user=65534, group=65534, extra_groups=[])
        try:
            while "Listening" not in (line := daemon.stderr.readline()):
                assert line
            look = subprocess.run([sys.executable, "-c", LOOK, str(daemon.pid)], user=65534, group=65534,
                                  extra_groups=[], capture_output=True, text=True)
            assert (look.returncode == 0) == may, look.stderr
            assert may or "PermissionError" in look.stderr
        finally:
            daemon.terminate()
            daemon.communicate()
