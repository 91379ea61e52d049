"""What is installed for a service manager: units that it takes, closed as far as they can be, and manual pages."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import COMMAND_SECONDS, ROOT, program

DEPLOY = ROOT / "deploy"
ANALYZE, GROFF = shutil.which("systemd-analyze"), shutil.which("groff")
needs_systemd = pytest.mark.skipif(not ANALYZE, reason="systemd-analyze is not installed")
needs_groff = pytest.mark.skipif(not GROFF, reason="groff is not installed")


@pytest.fixture
def units(tmp_path):
    """units(folder) copies the units of deploy/ or deploy/user, with the program under test in them."""
    def copy(folder):
        for source in [*folder.glob("*.service"), *folder.glob("*.socket")]:
            text = source.read_text().replace("/usr/local/bin/kvquantd", program("KVQUANTD", "kvquantd"))
            (tmp_path / source.name).write_text(text)
        return sorted(map(str, tmp_path.glob("kvquantd*")))
    return copy


def exposure(path):
    done = subprocess.run([ANALYZE, "security", "--offline=true", path], capture_output=True, text=True)
    return float(re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)[1])


@needs_systemd
@pytest.mark.parametrize("scope,folder", [("--system", DEPLOY), ("--user", DEPLOY / "user")], ids=["system", "user"])
def test_the_units_are_what_the_service_manager_takes(units, tmp_path, scope, folder):
    paths = units(folder)
    assert len(paths) == len([*folder.glob("*.service"), *folder.glob("*.socket")]) >= 2
    done = subprocess.run([ANALYZE, "verify", scope, "--man=no", *paths], capture_output=True, text=True,
                          env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_the_system_service_is_closed(units):
    path = next(path for path in units(DEPLOY) if path.endswith(".service"))
    assert exposure(path) <= 0.5


@needs_systemd
def test_the_drop_in_opens_loopback_and_no_more(units, tmp_path):
    path = next(path for path in units(DEPLOY) if path.endswith(".service"))
    folder = tmp_path / "kvquantd.service.d"
    folder.mkdir()
    shutil.copy(DEPLOY / "kvquantd-tcp.conf", folder / "tcp.conf")
    assert 0.5 < exposure(path) <= 1.2
    shown = subprocess.run([ANALYZE, "security", "--offline=true", path], capture_output=True, text=True).stdout
    assert re.search(r"^✓ RestrictAddressFamilies=~…", shown, re.MULTILINE)


def test_a_port_of_the_service_manager_needs_no_network_in_the_daemon():
    """The service is as closed with it as without."""
    assert values(DEPLOY / "kvquantd-tls.socket", "Service") == ["kvquantd.service"]
    assert values(DEPLOY / "kvquantd-tls.socket", "FileDescriptorName") == ["tls"]
    assert values(DEPLOY / "kvquantd-tls.socket", "IPAddressDeny") == ["any"]


def values(path, name):
    return re.findall(rf"^{name}=(.*)$", path.read_text(), re.MULTILINE)


def test_both_services_allow_the_same_system_calls():
    filters = values(DEPLOY / "kvquantd.service", "SystemCallFilter")
    assert filters and values(DEPLOY / "user/kvquantd.service", "SystemCallFilter") == filters


@pytest.mark.parametrize("folder,socket", [(DEPLOY, "/run/kvquantd/kvquantd.sock"),
                                           (DEPLOY / "user", "%t/kvquantd.sock")], ids=["system", "user"])
def test_service_and_socket_unit_listen_where_clients_look(folder, socket):
    assert values(folder / "kvquantd.socket", "ListenStream") == [socket]
    service = folder / "kvquantd.service"
    if folder == DEPLOY:
        assert f"#socket = {socket}" in (ROOT / "config/kvquantd.conf").read_text()
        assert values(DEPLOY / "tmpfiles.conf", "d /run/kvquantd.*") == []
        assert "d /run/kvquantd " in (DEPLOY / "tmpfiles.conf").read_text()
    else:
        assert f"--socket {socket}" in service.read_text()


@pytest.mark.parametrize("folder", [DEPLOY, DEPLOY / "user"], ids=["system", "user"])
def test_a_service_is_watched_reloaded_and_told_of(folder):
    service = folder / "kvquantd.service"
    assert values(service, "Type") == ["notify"] and values(service, "NotifyAccess") == ["main"]
    assert values(service, "WatchdogSec") and values(service, "ExecReload") == ["/bin/kill -HUP $MAINPID"]


@needs_systemd
def test_the_user_and_the_folder_are_what_systemd_takes(tmp_path):
    for name, kind in (("sysusers", "sysusers.d"), ("tmpfiles", "tmpfiles.d")):
        folder = tmp_path / "usr/lib" / kind
        folder.mkdir(parents=True)
        shutil.copy(DEPLOY / f"{name}.conf", folder / "kvquantd.conf")
    (tmp_path / "etc").mkdir()
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "kvquantd:" in (tmp_path / "etc/passwd").read_text()
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to another user")
    done = subprocess.run(["systemd-tmpfiles", "--create", f"--root={tmp_path}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/kvquantd").stat().st_mode & 0o777 == 0o750


def printed(option):
    done = subprocess.run([program("KVQUANTD", "kvquantd"), option], capture_output=True, text=True, timeout=COMMAND_SECONDS)
    assert done.returncode == 0 and not done.stderr
    return done.stdout


def test_the_shipped_file_is_what_the_daemon_prints():
    assert printed("--print-config") == (ROOT / "config/kvquantd.conf").read_text()


@needs_groff
@pytest.mark.parametrize("option", ["--man", "--man-config"])
def test_a_manual_page_is_clean_troff(option):
    done = subprocess.run([GROFF, "-man", "-ww", "-Tutf8"], input=printed(option), capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    assert "SEE ALSO" in re.sub(r"\x1b\[\d*m|.\x08", "", done.stdout)


def test_help_fits_80_columns():
    assert max(map(len, printed("--help").splitlines())) <= 80


def plain(troff):
    return re.sub(r"\\f[BR]", "", troff).replace(r"\-", "-")


def test_the_manual_page_has_every_option_of_help():
    options = re.findall(r"^  (--\S+)", printed("--help"), re.MULTILINE)
    assert len(options) > 5
    for option in options:
        assert option in plain(printed("--man"))


def test_the_configurations_page_has_every_option_of_the_file():
    names = re.findall(r"^#?([a-z_]+) = ", printed("--print-config"), re.MULTILINE)
    assert len(names) > 10
    for name in names:
        assert f".TP\n{name}" in plain(printed("--man-config"))
