"""Boots a Debian under qemu, and has the tests of guest/ run in it; the machine is emulated where it has no KVM."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

import pytest

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(os.environ["KVQ_BUILD"])
FOLDER = BUILD / "systemd"
PACKAGES = ("kvquantd", "kvq")
BOOT_SECONDS_MAX = 2400
START = """\
dpkg -i /mnt/packages/*.deb >/dev/ttyS0 2>&1 || exit 1
export KVQ_REPORTS=/dev/ttyS1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
python3 -m pytest -p no:cacheprovider -v --tb=short $(cat /mnt/chosen) >/dev/ttyS0 2>&1
"""


def names():
    """Of the tests in the guest, in their order."""
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "."],
                          capture_output=True, text=True, cwd=HERE / "guest", check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


def has_kvm():
    return os.access("/dev/kvm", os.W_OK) and {"vmx", "svm"} & set(pathlib.Path("/proc/cpuinfo").read_text().split())


class Guest:
    """A booted machine; reports of its tests, as they come."""

    def __init__(self, disk):
        self.reports, self.has_ended = {}, False
        self.console = FOLDER / "console.log"
        command = ["qemu-system-x86_64", "-accel", "kvm" if has_kvm() else "tcg,thread=multi",
                   "-cpu", "max", "-smp", "2", "-m", "2048",
                   "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci",
                   "-kernel", FOLDER / "vmlinuz", "-initrd", FOLDER / "initrd",
                   "-append", "root=/dev/vda rw console=ttyS0 systemd.show_status=no quiet",
                   "-drive", f"file={FOLDER / 'root.ext4'},format=raw,if=virtio,snapshot=on",
                   "-drive", f"file={disk},format=raw,if=virtio,snapshot=on",
                   "-serial", f"file:{self.console}", "-serial", "stdio"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                        errors="replace")
        self.limit = threading.Timer(BOOT_SECONDS_MAX, self.process.kill)
        self.limit.start()

    def report(self, name):
        """Of this test, once it is there."""
        while name not in self.reports and not self.has_ended:
            self.take(self.process.stdout.readline())
        assert name in self.reports, f"the guest ended before:\n{self.console.read_text(errors='replace')[-3000:]}"
        return self.reports[name]

    def take(self, line):
        if line.startswith("{"):
            report = json.loads(line)
            self.reports[report.get("test")] = report
        self.has_ended = not line or '"ended"' in line

    def close(self):
        self.limit.cancel()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def guest(request, tmp_path_factory):
    shared = tmp_path_factory.mktemp("guest")
    shutil.copytree(HERE / "guest", shared / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (shared / "packages").mkdir()
    for package in PACKAGES:
        (found,) = (BUILD / "deb").glob(f"{package}_*.deb")
        shutil.copy(found, shared / "packages")
    chosen = [item.callspec.params["name"] for item in request.session.items]
    (shared / "chosen").write_text(" ".join(f"/mnt/tests/{name}" for name in chosen))
    (shared / "start").write_text(START)
    disk = FOLDER / "shared.ext4"
    disk.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", shared, disk, "512M"], check=True, capture_output=True)
    guest = Guest(disk)
    yield guest
    guest.close()


@pytest.mark.parametrize("name", names())
def test_in_the_guest(guest, name):
    report = guest.report(name)
    if report["outcome"] == "skipped":
        pytest.skip(report["text"])
    if report["outcome"] != "passed":
        pytest.fail(report["text"], pytrace=False)
