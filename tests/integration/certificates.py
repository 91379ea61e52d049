"""Certificates for tests of TLS: authorities of their own, and what these sign, by the `openssl` command.

A key takes milliseconds: they are of the curve P-256.
"""

import pathlib
import subprocess
from collections import namedtuple

Certificate = namedtuple("Certificate", "certificate key")  # files, the second of its owner's only


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Authority:
    """A CA in a folder of its own: `certificate` is the file by which it is known. One that another signed is known
    by that one, where its own is sent along."""

    def __init__(self, folder, name="an authority of a test", signed_by=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True, parents=True)
        self.certificate, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
                "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate,
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                *(["-CA", signed_by.certificate, "-CAkey", signed_by.key] if signed_by else []))

    def issue(self, subject, use, alternatives=(), days=2):
        """Signs a new key. subject: "worker-1", its common name, or "/O=Chat/CN=worker-1". use: "serverAuth" or
        "clientAuth". alternatives: such as "DNS:localhost", "IP:127.0.0.1". days: how long it is valid; -1: it has
        expired."""
        name = subject.strip("/").replace("/", ",").replace(" ", "-")
        certificate, key, request, extensions = (
            self.folder / f"{name}-{use}{days}.{ending}" for ending in ("pem", "key", "csr", "extensions"))
        lines = ["basicConstraints=critical,CA:FALSE", f"extendedKeyUsage={use}"]
        lines += [f"subjectAltName={','.join(alternatives)}"] if alternatives else []
        extensions.write_text("\n".join(lines))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", subject if subject.startswith("/") else f"/CN={subject}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
                "-days", days, "-extfile", extensions, "-out", certificate)
        return Certificate(certificate, key)

    def server(self, alternatives=("DNS:localhost", "IP:127.0.0.1", "IP:::1"), **options):
        return self.issue("kvquantd", "serverAuth", alternatives, **options)

    def client(self, subject="worker", **options):
        return self.issue(subject, "clientAuth", **options)

    def revoke(self, *revoked, days=2):
        """A file that lists these certificates as revoked. days: how long it holds; -1: it is out of date."""
        (self.folder / "index.txt").touch()
        (self.folder / "ca.conf").write_text(
            f"[ca]\ndefault_ca = own\n[own]\ndatabase = {self.folder}/index.txt\ndefault_md = sha256\n")
        signed = ["ca", "-config", self.folder / "ca.conf", "-cert", self.certificate, "-keyfile", self.key]
        for one in revoked:
            openssl(*signed, "-revoke", one.certificate)
        until = ["-crldays", days] if days > 0 else \
            ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"]
        openssl(*signed, "-gencrl", *until, "-out", self.folder / "crl.pem")
        return self.folder / "crl.pem"
