"""The packages: what an installation starts, what an upgrade keeps, what a purge leaves."""

import pathlib

PACKAGES = sorted(pathlib.Path("/mnt/packages").glob("*.deb"))


def test_an_installation_waits_for_the_first_client(service):
    assert service.show("UnitFileState", "kvquantd.socket") == "enabled"
    assert service.show("ActiveState", "kvquantd.socket") == "active"


def test_an_upgrade_keeps_sessions_and_the_configuration(service):
    service.configure(log_level="debug")
    stored, pid = service.store("chat"), service.pid
    service.run("dpkg", "-i", "--force-confold", *PACKAGES)
    assert service.pid not in (0, pid)
    assert service.fetch("chat") == stored
    assert service.CONFIG.read_text() == "log_level = debug\n"


def test_a_purge_leaves_nothing(service):
    service.configure(disk="/var/lib/kvquantd")
    service.store("chat", options=["--durable"])
    service.run("dpkg", "--purge", "kvquantd")
    for path in ("/var/lib/kvquantd", "/etc/kvquant", "/run/kvquantd", "/usr/bin/kvquantd",
                 "/lib/systemd/system/kvquantd.service"):
        assert not pathlib.Path(path).exists(), path
    service.run("dpkg", "-i", *PACKAGES)
