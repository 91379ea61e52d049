"""What the tests of tenants share: tokens, the file that names them, and a daemon that goes by it."""

import hashlib
import os

from config_support import Reloading
from wire import Connection


def token(name):
    """32 bytes, the same for the same name."""
    return hashlib.sha256(b"a token of " + name.encode()).digest()


def row(name, tenant, role):
    """The line of a token's."""
    return f"token {hashlib.sha256(token(name)).hexdigest()} {tenant} {role}\n"


class Tenants(Reloading):
    """A daemon whose clients are told apart by this file."""

    def __init__(self, start_daemon, folder, text, config="", **options):
        self.tenants = folder / "tenants"
        self.write(text)
        super().__init__(start_daemon, folder / "test.conf", f"tenants = {self.tenants}\n{config}", **options)
        self.config = self.path.read_text()

    def write(self, text):
        self.tenants.write_text(text)
        os.chmod(self.tenants, 0o600)

    def connect(self, name, **options):
        return Connection(self.daemon.socket, token=token(name), **options)
