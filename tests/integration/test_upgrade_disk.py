"""What 0.1 wrote to disk, in tests/golden/0.1, is read."""

import json
import sys
import tarfile

import kvquantd
import numpy as np
import pytest
from conftest import ROOT
from monitor_support import metrics, start_monitored  # noqa: F401
from wire_support import wait_until

sys.path.insert(0, str(ROOT / "tests/golden"))
from freeze_version import DISK_KEY, GEOMETRY, TENANTS, TOKENS, tell  # noqa: E402

FROZEN = ROOT / "tests/golden/0.1"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "disk"


def unpack(kind, folder):
    with tarfile.open(FROZEN / f"disk-{kind}.tar.xz") as tar:
        tar.extractall(folder)


@pytest.fixture
def start(start_monitored, tmp_path, folder):
    """A daemon of today over the folder."""

    def start(kind="plain"):
        for name, content in (("key", DISK_KEY), ("tenants", TENANTS.encode())):
            (tmp_path / name).write_bytes(content)
            (tmp_path / name).chmod(0o600)
        key = f"disk_key = {tmp_path}/key\n" if kind == "encrypted" else ""
        daemon = start_monitored(text=f"disk = {folder}\ntenants = {tmp_path}/tenants\n{key}")
        wait_until(lambda: metrics(daemon.metrics)["kvquantd_recovering"] == 0)
        return daemon

    return start


def told(daemon):
    found = {}
    for tenant, token in TOKENS.items():
        with kvquantd.connect(daemon.socket, token=token) as client:
            found[tenant] = tell(client)
    return found


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_all_that_0_1_kept_is_there_as_it_was(kind, start, folder):
    unpack(kind, folder)
    assert told(start(kind)) == json.loads((FROZEN / "disk.json").read_text())


def test_it_is_still_after_today_s_daemon_has_had_it(start, folder):
    unpack("plain", folder)
    daemon = start()
    with kvquantd.connect(daemon.socket, token=TOKENS["beta"]) as client:
        client.open("new", model="model", geometry=GEOMETRY, level="exact").append(*[np.ones((2, 9, 1, 8), np.float16)] * 2)
    assert daemon.stop() == 0
    found = told(start())
    assert found["beta"]["sessions"].pop("new")["tokens"] == 9
    assert found == json.loads((FROZEN / "disk.json").read_text())

