"""What the tests of TLS share: an authority, certificates of both sides, and a daemon that goes by them."""

import functools
import re
import ssl
import tempfile

from certificates import Authority
from tenant_support import Tenants
from wire import Connection

TENANTS = "user * local admin\ncertificate worker chat worker\ncertificate reader chat reader\n" \
    "certificate admin ops admin\ncertificate other mail worker\n"


@functools.cache
def shared():
    """An authority for all tests of a process, and the server's certificate: making them takes longer than most tests."""
    folder = tempfile.TemporaryDirectory(prefix="kvquant-tls-")
    authority = Authority(folder.name)
    authority.temporary = folder  # until the process ends
    return authority, authority.server()


@functools.cache
def client(authority, name):
    return authority.client(name)


def context(authority, certificate=None, alpn="kvq/1", at_most=ssl.TLSVersion.TLSv1_3):
    """A client's side, that believes the authority and shows this certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.maximum_version = at_most
    made.load_verify_locations(authority.certificate)
    if certificate:
        made.load_cert_chain(certificate.certificate, certificate.key)
    if alpn:
        made.set_alpn_protocols([alpn])
    return made


class TlsDaemon(Tenants):
    """A daemon that listens on a unix socket and for TLS, at `address`; listen=None: on what it is handed over."""

    def __init__(self, start_daemon, folder, tenants=TENANTS, config="", authority=None, listen="127.0.0.1:0", **options):
        self.authority, server = (authority, authority.server()) if authority else shared()
        self.files = {name: folder / name for name in ("certificate", "key", "client_ca")}
        self.use(server)
        self.files["client_ca"].write_bytes(self.authority.certificate.read_bytes())
        lines = "".join(f"tls_{name} = {path}\n" for name, path in self.files.items())
        lines += f"tls = {listen}\n" if listen else ""
        super().__init__(start_daemon, folder, tenants, lines + config, **options)
        self.address = re.search(r"who has a certificate can connect to (\S+)", self.log())[1]

    def use(self, server):
        """What the daemon shows, once it has read it."""
        self.files["certificate"].write_bytes(server.certificate.read_bytes())
        self.files["key"].touch(mode=0o600)
        self.files["key"].write_bytes(server.key.read_bytes())

    def context(self, name="worker", **options):
        return context(self.authority, client(self.authority, name), **options)

    def connect_tls(self, name="worker", tls=None, **options):
        return Connection(self.address, tls=tls or self.context(name), **options)
