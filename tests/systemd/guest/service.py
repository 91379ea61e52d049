"""A service unit, its clients and its journal, as programs of this machine show them."""

import array
import pathlib
import random
import re
import shutil
import struct
import subprocess
import time

SECONDS_MAX = 300  # an emulated machine is slow, and nothing is to depend on how slow
LAYERS, HEADS, HEAD_DIM = 4, 2, 64
TOKEN_BYTES = LAYERS * 2 * HEADS * HEAD_DIM * 2
BLOCK = 50_000  # is no multiple of a page


def wait_until(condition):
    end = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.2)


def write_npy(path, shape, values):
    head = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + values)


def npy_values(path):
    data = path.read_bytes()
    return data[10 + struct.unpack_from("<H", data, 8)[0]:]


def float16_values(count, seed):
    """Numbers of about normal size: exponents are near 15, signs and mantissas random; they repeat after a while."""
    words = array.array("H", random.Random(seed).randbytes(2 * min(count, BLOCK)))
    block = array.array("H", (word & 0x83ff | (13 + (word >> 10) % 3) << 10 for word in words)).tobytes()
    return (block * (count // BLOCK + 1))[:2 * count]


class Service:
    UNIT, UNITS = "kvquantd.service", ("kvquantd.socket", "kvquantd-tls.socket", "kvquantd.service")
    CONFIG = pathlib.Path("/etc/kvquant/kvquantd.conf")
    SYSTEM = pathlib.Path("/run/systemd/system")

    def __init__(self, folder):
        self.folder = folder
        self.dropped_in = []
        self.config = self.CONFIG.read_text()
        self.since = time.time()

    def undo(self):
        self.run("systemctl", "stop", *self.UNITS, check=False)
        self.CONFIG.write_text(self.config)
        for path in self.dropped_in:
            path.unlink()
        if self.dropped_in:
            self.run("systemctl", "daemon-reload")
        for entry in pathlib.Path("/var/lib/kvquantd").glob("*"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    @staticmethod
    def run(*command, check=True, **how):
        """What it printed."""
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS_MAX, **how)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    @staticmethod
    def fails(*command, **how):
        """What it said when it failed."""
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS_MAX, **how)
        assert done.returncode != 0, f"{command}: {done.stdout}"
        return done.stderr.strip()

    def show(self, name, unit=UNIT):
        return self.run("systemctl", "show", "--property", name, "--value", unit)

    @property
    def pid(self):
        return int(self.show("MainPID"))

    def is_active(self):
        return self.show("ActiveState") == "active"

    def drop_in(self, *lines, unit=UNIT, section="Service"):
        folder = self.SYSTEM / f"{unit}.d"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{len(self.dropped_in)}.conf"
        path.write_text("\n".join([f"[{section}]", *lines, ""]))
        self.dropped_in.append(path)
        self.run("systemctl", "daemon-reload")

    def copy_drop_in(self, source, unit=UNIT):
        folder = self.SYSTEM / f"{unit}.d"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / pathlib.Path(source).name
        shutil.copy(source, path)
        self.dropped_in.append(path)
        self.run("systemctl", "daemon-reload")

    def configure(self, **options):
        self.CONFIG.write_text("".join(f"{name} = {value}\n" for name, value in options.items()))

    def start(self):
        self.run("systemctl", "start", self.UNIT)

    def restart(self):
        self.run("systemctl", "restart", self.UNIT)

    def wait_for_another(self, pid):
        """Until the service manager has started another process, and that is ready."""
        wait_until(lambda: self.pid not in (0, pid) and self.is_active())

    def journal(self, *matches):
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-q", "-o", "cat", f"--since=@{self.since:.6f}", f"_SYSTEMD_UNIT={self.UNIT}",
                        *matches, "+", f"UNIT={self.UNIT}")

    def kvq(self, *command, **how):
        return self.run("kvq", *command, **how)

    def store(self, session, tokens=130, seed=1, level="exact", options=()):
        """What was stored."""
        values = float16_values(tokens * TOKEN_BYTES // 2, seed)
        path = self.folder / "stored.npy"
        write_npy(path, (LAYERS, 2, tokens, HEADS, HEAD_DIM), values)
        self.kvq("import", session, path, "--model", "m", "--level", level, *options)
        return values

    def fetch(self, session, options=()):
        path = self.folder / "fetched.npy"
        path.unlink(missing_ok=True)
        self.kvq("export", session, path, *options)
        return npy_values(path)

    def has(self, session):
        done = subprocess.run(["kvq", "info", session], capture_output=True, text=True, timeout=SECONDS_MAX)
        assert done.returncode in (0, 3), done.stderr
        return done.returncode == 0


def user_with(name, groups=""):
    """A user of this machine, made where there is none."""
    if subprocess.run(["id", name], capture_output=True).returncode != 0:
        subprocess.run(["useradd", "--create-home", *(["--groups", groups] if groups else []), name], check=True)
    return name


def as_user(name):
    return ("runuser", "-u", name, "--")


def peek(pid, name):
    return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()


def uid_of(pid):
    """The effective one; the files of /proc are root's where nobody may look into the process."""
    return int(re.search(rb"^Uid:\t\d+\t(\d+)", peek(pid, "status"), re.MULTILINE)[1])
