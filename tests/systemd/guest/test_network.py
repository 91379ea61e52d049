"""TCP: by a socket that the service manager opens, or by a drop-in that lets the daemon open its own."""

import json
import pathlib
import shutil

import pytest
from service import peek

SHARE = pathlib.Path("/usr/share/kvquant")
PORT = "127.0.0.1:7420"


def token_file(service):
    """A token, and a table of tenants that has it beside root."""
    line = json.loads(service.kvq("token", "team", "admin", service.folder / "token", "--json"))["line"]
    tenants = pathlib.Path("/etc/kvquant/tenants")
    tenants.write_text(f"user root team admin\n{line}\n")
    return service.folder / "token"


def over_tcp(service, token, *command):
    return service.kvq(*command, "--socket", PORT, "--token-file", token)


def test_a_port_of_the_socket_unit_needs_nothing_else_opened(service):
    token = token_file(service)
    service.configure(tenants="/etc/kvquant/tenants")
    service.drop_in(f"ListenStream={PORT}", unit="kvquantd.socket", section="Socket")
    service.run("systemctl", "restart", "kvquantd.socket")
    assert "team" in over_tcp(service, token, "ping")
    assert service.show("PrivateNetwork") == "yes"
    stored = service.store("chat", options=["--socket", PORT, "--token-file", token])
    assert service.fetch("chat") == stored


def test_a_tls_port_of_a_socket_unit_needs_nothing_else_opened(service):
    certificates = make_certificates(service)
    service.configure(tenants="/etc/kvquant/tenants", tls_certificate="certificate", tls_key="key",
                      tls_client_ca="client_ca")
    pathlib.Path("/etc/kvquant/tenants").write_text("certificate worker team worker\n")
    service.drop_in(*(f"LoadCredential={name}:{certificates / file}" for name, file in
                      (("certificate", "server.pem"), ("key", "server.key"), ("client_ca", "ca.pem"))))
    shutil.copy(SHARE / "kvquantd-tls.socket", service.SYSTEM)
    service.dropped_in.append(service.SYSTEM / "kvquantd-tls.socket")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "start", "kvquantd-tls.socket")
    options = ["--socket", "localhost:7421", "--tls-ca", certificates / "ca.pem",
               "--tls-certificate", certificates / "client.pem", "--tls-key", certificates / "client.key"]
    stored = service.store("chat", options=options)
    assert service.fetch("chat", options) == stored
    assert service.show("PrivateNetwork") == "yes"
    assert b"VmLck:\t       0 kB" not in peek(service.pid, "status")  # where keys are is not swapped


def make_certificates(service):
    """A CA, and certificates of localhost and of a worker that it has signed."""
    def openssl(*command):
        service.run("openssl", *command, cwd=service.folder)

    new_key = ("-newkey", "ed25519", "-nodes")
    openssl("req", "-x509", *new_key, "-subj", "/CN=ca", "-days", 2, "-keyout", "ca.key", "-out", "ca.pem")
    for name, subject in (("server", "localhost"), ("client", "worker")):
        openssl("req", *new_key, "-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{subject}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", 2, "-copy_extensions", "copy", "-out", f"{name}.pem")
    return service.folder


def test_a_port_of_the_configuration_needs_the_drop_in(service):
    token = token_file(service)
    service.configure(tenants="/etc/kvquant/tenants", tcp=PORT)
    service.run("systemctl", "stop", "kvquantd.socket")
    service.fails("systemctl", "start", service.UNIT)
    service.copy_drop_in(SHARE / "kvquantd-tcp.conf")
    service.run("systemctl", "reset-failed", service.UNIT)
    service.start()
    assert "team" in over_tcp(service, token, "ping")


@pytest.mark.parametrize("metrics", ["/run/kvquantd/metrics.sock", "127.0.0.1:9420"])
def test_metrics_are_served(service, metrics):
    service.configure(metrics=metrics)
    if ":" in metrics:
        service.copy_drop_in(SHARE / "kvquantd-tcp.conf")
    service.kvq("ping")
    where = ["http://localhost/metrics", "--unix-socket", metrics] if "/" in metrics else [f"http://{metrics}/metrics"]
    assert "kvquantd_build_info" in service.run("curl", "-s", *where)
