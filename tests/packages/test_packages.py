"""The Debian packages: from their installation beside another version's sessions to their purge."""

import contextlib
import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pytest
from conftest import BUILD
from debian import as_version, field, wait_until

SOCKET = "/run/kvquantd/kvquantd.sock"
CONFIG = "/etc/kvquant/kvquantd.conf"
WHOSE = "kvquantd"
# What an administrator sets, with the plugin that the package has.
SETTINGS = """
disk = /var/lib/kvquantd
memory = 64M
recall_plugin = /usr/lib/kvquant/recall-hnswlib.so m=16
"""
PYTHON = """
import kvquantd, numpy as np
values = np.load("/tmp/values.npy")
with kvquantd.connect() as client:
    geometry = kvquantd.Geometry(layers=2, heads=2, head_dim=64, dtype="float16")
    session = client.open("from-python", model="m", geometry=geometry, level="exact")
    session.append(values[:, 0], values[:, 1])
    k, v = session.fetch()
    print(kvquantd.__version__, (k == values[:, 0]).all() and (v == values[:, 1]).all())
"""


@contextlib.contextmanager
def running(debian):
    """The daemon as its unit starts it, where there is no service manager."""
    debian.run("install", "-d", "-o", WHOSE, "-g", WHOSE, "-m", "700", "/var/lib/kvquantd")
    log = debian.path("/tmp/log")
    with open(log, "w") as output:
        daemon = debian.start("kvquantd", "--config", CONFIG, user=WHOSE, log=output)
    try:
        wait_until(lambda: debian.path(SOCKET).exists() or daemon.poll() is not None)
        yield
    finally:
        daemon.terminate()
        assert daemon.wait(120) == 0, log.read_text()


def kvq(debian, *arguments):
    return debian.run("kvq", *arguments, "--socket", SOCKET, user=WHOSE)


def exported(debian, session, tokens="0:300"):
    kvq(debian, "export", session, f"/tmp/{session}.npy", "--tokens", tokens)
    return np.load(debian.path(f"/tmp/{session}.npy"))


@dataclasses.dataclass
class Story:
    """What was seen on the way."""
    before: set            # the names of all files, without the packages
    values: np.ndarray
    first: dict = dataclasses.field(default_factory=dict)     # under the version before
    upgraded: dict = dataclasses.field(default_factory=dict)
    removed: set = dataclasses.field(default_factory=set)     # the names after removing
    purged: set = dataclasses.field(default_factory=set)      # and after purging


@pytest.fixture(scope="module")
def story(debian, packages, tmp_path_factory):
    values = np.random.default_rng(1).normal(size=(2, 2, 300, 2, 64)).astype(np.float16)
    np.save(debian.path("/tmp/values.npy"), values)
    debian.path("/tmp").chmod(0o1777)
    told = Story(debian.names(), values)

    older = tmp_path_factory.mktemp("older")
    debian.install([as_version(package, "0.0.9", older) for package in packages])
    with open(debian.path(CONFIG), "a") as config:
        config.write(SETTINGS)
    debian.path("/etc/kvquant/token").write_text("a secret of the administrator's")
    with running(debian):
        kvq(debian, "import", "chat", "/tmp/values.npy", "--model", "m", "--level", "exact", "--durable")
        told.first = {"chat": exported(debian, "chat"), "python": debian.run("python3", "-c", PYTHON, user=WHOSE),
                      "status": kvq(debian, "status", "--json"), "names": debian.names(),
                      "passwd": debian.path("/etc/passwd").read_text(),
                      "mode": debian.path("/run/kvquantd").stat().st_mode & 0o777}

    debian.install(packages)
    with running(debian):
        told.upgraded = {"chat": exported(debian, "chat"), "config": debian.path(CONFIG).read_text(),
                         "versions": debian.run("dpkg-query", "-W", "-f", "${Version}\n", *map(name_of, packages))}

    debian.apt("remove", *map(name_of, packages))
    told.removed = debian.names()
    debian.run("dpkg", "--purge", *map(name_of, packages))
    told.purged = debian.names()
    return told


def name_of(package):
    return field(package, "Package")


def test_lintian_finds_no_error_and_no_warning():
    changes, = (BUILD / "deb").glob("*.changes")
    done = subprocess.run([shutil.which("lintian"), "--fail-on=error,warning", "--allow-root", changes], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def test_the_daemon_has_a_user_and_a_folder_for_its_socket(story):
    assert "\nkvquantd:" in story.first["passwd"]
    assert story.first["mode"] == 0o750


def test_the_socket_is_enabled_and_starts_the_service(story):
    enabled = {name for name in story.first["names"] if name.startswith("/etc/systemd/") and "kvquantd" in name}
    assert enabled == {"/etc/systemd/system/sockets.target.wants/kvquantd.socket"}


def test_what_kvq_stored_it_has_back(story):
    assert np.array_equal(story.first["chat"], story.values)


def test_the_python_client_stores_and_has_back(story, packages):
    assert story.first["python"] == f"{field(packages[0], 'Version')} True\n"


def test_the_daemon_takes_its_packages_plugin(story):
    assert json.loads(story.first["status"])["recall"]["plugin"] == "hnswlib"


def test_an_upgrade_keeps_what_is_on_disk(story):
    assert np.array_equal(story.upgraded["chat"], story.values)


def test_an_upgrade_replaces_every_package(story, packages):
    assert story.upgraded["versions"] == "".join(f"{field(package, 'Version')}\n" for package in packages)


def test_an_upgrade_keeps_what_the_administrator_has_set(story):
    assert story.upgraded["config"].endswith(SETTINGS)


def test_removing_keeps_the_settings_and_the_sessions(story):
    assert {CONFIG, "/var/lib/kvquantd"} <= story.removed


def test_purging_leaves_no_file(story):
    assert story.purged - story.before == set()


def test_nothing_of_others_is_gone(story):
    assert story.before - story.purged == set()
