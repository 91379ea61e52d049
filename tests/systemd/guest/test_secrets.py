"""Keys and tokens come by LoadCredential=, and are seen nowhere else."""

import hashlib
import secrets

import pytest
from service import as_user, peek, user_with

TENANTS = "user {} team admin\ntoken {} other worker\n"


@pytest.fixture
def file(tmp_path):
    """file(content): one that only root can read."""
    def new(name, content):
        path = tmp_path / name
        path.touch(0o600)
        path.write_bytes(content)
        return path
    return new


def test_the_key_of_the_disk_is_a_credential(service, file):
    key = file("disk.key", secrets.token_bytes(32))
    service.drop_in(f"LoadCredential=disk.key:{key}")
    service.configure(disk="/var/lib/kvquantd", disk_key="disk.key")
    stored = service.store("chat", options=["--durable"])
    service.run("systemctl", "stop", service.UNIT)
    assert service.fetch("chat") == stored


def test_tenants_come_from_a_credential(service, file):
    member = user_with("member", "kvquantd")
    tenants = TENANTS.format(member, secrets.token_hex(32))
    service.drop_in(f"LoadCredential=tenants:{file('tenants', tenants.encode())}")
    service.configure(tenants="tenants")
    assert "team" in service.run(*as_user(member), "kvq", "ping")
    assert service.fails("kvq", "ping")


def test_no_secret_is_in_what_others_can_read(service, file):
    key, token = secrets.token_bytes(32), secrets.token_hex(32)
    tenants = TENANTS.format("root", hashlib.sha256(bytes.fromhex(token)).hexdigest())
    service.drop_in(f"LoadCredential=disk.key:{file('disk.key', key)}",
                    f"LoadCredential=tenants:{file('tenants', tenants.encode())}")
    service.configure(disk="/var/lib/kvquantd", disk_key="disk.key", tenants="tenants", log_level="debug")
    service.store("chat")
    seen = b"".join([peek(service.pid, "environ"), peek(service.pid, "cmdline"), service.journal().encode(),
                     service.run("systemctl", "show", service.UNIT).encode()])
    for secret in (key, key.hex().encode(), token.encode()):
        assert secret not in seen
