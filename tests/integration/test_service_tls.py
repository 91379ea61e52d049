"""TLS 1.3 with certificates of both sides: who is let in, as whom, and what is refused."""

import datetime
import re
import socket
import ssl
import subprocess

import pytest
from certificates import Authority, openssl
from conftest import COMMAND_SECONDS, address_of, program
from monitor_support import metrics
from tenant_support import row, token
from tls_support import TENANTS, TlsDaemon, context
from wire import Closed, Connection, Geometry
from wire_support import SMALL, TINY, assert_ends, assert_holds, refused, stored, wait_until

ROLES = {1: "reader", 2: "worker", 3: "admin"}


def identity(connection):
    return connection.limits.tenant, ROLES[connection.limits.role]


@pytest.fixture
def tls(start_daemon, tmp_path):
    return TlsDaemon(start_daemon, tmp_path)


def assert_refused(tls, client, alert, said):
    """The client reads this alert, and the log says why."""
    before = len(tls.log())
    with pytest.raises((ssl.SSLError, Closed), match=alert):
        Connection(tls.address, tls=client)
    wait_until(lambda: re.search(f"TLS handshake failed: .*{said}", tls.log()[before:]))
    with Connection(tls.daemon.socket) as local:
        wait_until(lambda: local.stats().connections == 1)


def test_what_is_stored_over_tls_comes_back(tls):
    wide = Geometry(layers=8, heads=4, head_dim_k=64, head_dim_v=64)
    with tls.connect_tls() as connection:
        assert_holds(*stored(connection, b"small", SMALL, 50))
        assert_holds(*stored(connection, b"large", wide, 2000))


def test_every_address_serves(start_daemon, tmp_path):
    tls = TlsDaemon(start_daemon, tmp_path, listen="0.0.0.0:0")
    assert "warning" not in tls.log()
    with Connection(tls.address.replace("0.0.0.0", "127.0.0.1"), tls=tls.context()) as connection:
        connection.ping()


# --- whose a client is ---


@pytest.mark.parametrize("name, expected", [("worker", ("chat", "worker")), ("reader", ("chat", "reader")),
                                            ("admin", ("ops", "admin")), ("other", ("mail", "worker"))])
def test_tenant_and_role_are_those_of_the_certificates_row(tls, name, expected):
    with tls.connect_tls(name) as connection:
        assert identity(connection) == expected


SUBJECTS = 'certificate "OU=GPU nodes,O=Example # 1,CN=n 1" chat worker\ncertificate "n 1" mail reader\n'


@pytest.mark.parametrize("subject, expected", [("/CN=n 1/O=Example # 1/OU=GPU nodes", ("chat", "worker")),
                                               ("/CN=n 1/O=Example", ("mail", "reader")),
                                               ("/CN=n 1", ("mail", "reader"))])
def test_a_row_has_the_common_name_or_the_whole_subject(start_daemon, tmp_path, subject, expected):
    tls = TlsDaemon(start_daemon, tmp_path, SUBJECTS)
    with tls.connect_tls(subject) as connection:
        assert identity(connection) == expected


@pytest.mark.parametrize("subject", ["/CN=nobody", "/O=worker", "/CN=worker/CN=admin", "/CN=Worker",
                                     "/CN=OU=GPU nodes,O=Example # 1,CN=n 1"])
def test_a_certificate_in_no_row_is_told_so(start_daemon, tmp_path, subject):
    tls = TlsDaemon(start_daemon, tmp_path, TENANTS + SUBJECTS)
    with refused("unauthenticated") as caught:
        tls.connect_tls(subject)
    assert "`tenants`" in caught.value.message and subject.split("=")[-1] in caught.value.message


def test_a_token_over_tls_has_to_be_the_same_tenants_and_only_lessens_the_role(start_daemon, tmp_path):
    text = TENANTS + row("reads", "chat", "reader") + row("rules", "chat", "admin") + row("others", "mail", "admin")
    tls = TlsDaemon(start_daemon, tmp_path, text)
    for name, expected in (("reads", ("chat", "reader")), ("rules", ("chat", "worker"))):
        with tls.connect_tls(token=token(name)) as connection:
            assert identity(connection) == expected
    for certificate, name in (("worker", "others"), ("worker", "unknown"), ("nobody", "rules")):
        with refused("unauthenticated"):
            tls.connect_tls(certificate, token=token(name))


def test_open_tcp_lets_nobody_in_over_tls(start_daemon, tmp_path):
    tls = TlsDaemon(start_daemon, tmp_path, config="tcp = 127.0.0.1:0\ntcp_token = no\n")
    with refused("unauthenticated"):
        tls.connect_tls("nobody")


def test_another_tenants_session_is_not_there(tls):
    with tls.connect_tls("worker") as one, tls.connect_tls("other") as other:
        session, arrays = stored(one, b"chat", TINY, 5)
        with refused("miss"):
            other.info(b"chat")
        stored(other, b"chat", TINY, 3)
        assert_holds(session, arrays)
        assert [each.tokens for each in other.list().sessions] == [3]


# --- who is refused ---


def test_a_client_without_a_certificate_is_refused(tls):
    assert_refused(tls, context(tls.authority), "CERTIFICATE_REQUIRED", "peer did not return a certificate")


def test_another_authoritys_certificate_is_refused(tls, tmp_path):
    stranger = Authority(tmp_path / "stranger", "a stranger").client("worker")
    assert_refused(tls, context(tls.authority, stranger), "UNKNOWN_CA", "unable to get local issuer")


def test_an_authority_of_the_same_name_is_not_the_same(tls, tmp_path):
    stranger = Authority(tmp_path / "stranger", "an authority of a test").client("worker")
    assert_refused(tls, context(tls.authority, stranger), None, "certificate signature failure|unable to get")


def test_an_expired_certificate_is_refused(tls):
    expired = tls.authority.client("worker", days=-1)
    assert_refused(tls, context(tls.authority, expired), "CERTIFICATE_EXPIRED", "certificate has expired")


def test_a_servers_certificate_is_no_clients(tls):
    server = tls.authority.issue("worker", "serverAuth")
    assert_refused(tls, context(tls.authority, server), None, "(unsuitable|unsupported) certificate purpose")


def test_a_revoked_certificate_is_refused_and_no_other(start_daemon, tmp_path):
    authority = Authority(tmp_path / "ca")
    revoked = authority.client("worker")
    tls = TlsDaemon(start_daemon, tmp_path, config=f"tls_crl = {authority.revoke(revoked)}\n", authority=authority)
    assert_refused(tls, context(tls.authority, revoked), "CERTIFICATE_REVOKED", "certificate revoked")
    tls.connect_tls("worker").close()


def test_with_a_list_that_is_out_of_date_everybody_is_refused(start_daemon, tmp_path):
    authority = Authority(tmp_path / "ca")
    tls = TlsDaemon(start_daemon, tmp_path, config=f"tls_crl = {authority.revoke(days=-1)}\n", authority=authority)
    assert_refused(tls, tls.context(), None, "CRL has expired")


def test_nothing_older_than_tls_1_3_is_spoken(tls):
    older = tls.context(at_most=ssl.TLSVersion.TLSv1_2)
    assert_refused(tls, older, "PROTOCOL_VERSION", "unsupported protocol")


@pytest.mark.parametrize("alpn, alert, said", [("http/1.1", "no application protocol", "no application protocol"),
                                               (None, None, "it names no protocol")])
def test_who_does_not_name_the_protocol_is_refused(tls, alpn, alert, said):
    assert_refused(tls, tls.context(alpn=alpn), alert, said)


def test_a_client_in_the_clear_is_closed(tls):
    with pytest.raises((Closed, AssertionError)):
        Connection(tls.address)
    assert "TLS handshake failed: wrong version number" in tls.log()


def test_tls_to_a_port_in_the_clear_is_refused(start_daemon, tmp_path):
    tls = TlsDaemon(start_daemon, tmp_path, config="tcp = 127.0.0.1:0\ntcp_token = no\n")
    with Connection(tls.daemon.socket) as local:
        address = local.stats().sockets[1]
    with pytest.raises((ssl.SSLError, OSError)):
        Connection(address, tls=tls.context())


def test_no_session_is_resumed(tls):
    with tls.connect_tls() as first:
        first.ping()
        assert first.socket.session is None or not first.socket.session.has_ticket


def test_before_its_certificate_is_known_a_client_gets_nothing(tls):
    """What it sends ahead is not looked at."""
    nobody = context(tls.authority)
    with pytest.raises((ssl.SSLError, Closed)):
        with Connection(tls.address, tls=nobody, hello=False) as connection:
            connection.hello()


# --- files ---


@pytest.fixture
def check_config():
    def check(path):
        return subprocess.run([program("KVQUANTD", "kvquantd"), "--check-config", "--config", path],
                              capture_output=True, text=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)
    return check


def shown(tls):
    """The serial number of the certificate that a new client sees."""
    with tls.connect_tls(tls=tls.context()) as connection:
        return connection.socket.getpeercert()["serialNumber"]


def reread(tls):
    before = len(tls.log())
    tls.change(tls.config)
    wait_until(lambda: "TLS" in tls.log()[before:])
    return tls.log()[before:]


def test_a_reload_shows_the_new_certificate_and_ends_no_connection(tls):
    first = shown(tls)
    with tls.connect_tls() as before:
        tls.use(tls.authority.server())
        assert "were read again" in reread(tls)
        assert shown(tls) != first
        assert_holds(*stored(before, b"chat", SMALL, 200))
        assert before.socket.getpeercert()["serialNumber"] == first


def test_a_reload_believes_the_new_authority_alone(tls, tmp_path):
    newer = Authority(tmp_path / "newer", "a newer authority")
    old = tls.context()
    tls.files["client_ca"].write_bytes(newer.certificate.read_bytes())
    reread(tls)
    assert_refused(tls, old, "UNKNOWN_CA", "self-signed certificate")
    with tls.connect_tls(tls=context(tls.authority, newer.client("worker"))) as connection:
        assert identity(connection) == ("chat", "worker")


def test_a_reload_with_a_faulty_file_goes_on_with_what_was_there(tls):
    first = shown(tls)
    tls.files["certificate"].write_text("no certificate\n")
    said = reread(tls)
    assert "error" in said and str(tls.files["certificate"]) in said and "goes on" in said
    assert shown(tls) == first


def other_key(tls):
    tls.files["key"].write_bytes(tls.authority.client().key.read_bytes())


def locked_key(tls):
    tls.files["key"].write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")


@pytest.mark.parametrize("spoil, file, says", [
    (other_key, "key", "not the certificate's key"), (locked_key, "key", "without a passphrase"),
    (lambda tls: tls.files["key"].chmod(0o640), "key", "chmod 600"),
    (lambda tls: tls.files["key"].unlink(), "key", "No such file"),
    (lambda tls: tls.files["certificate"].write_text(""), "certificate", "no certificate"),
    (lambda tls: tls.files["client_ca"].write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"),
     "client_ca", "no certificate")])
def test_a_faulty_file_is_named_by_check_config(tls, check_config, spoil, file, says):
    assert check_config(tls.path).returncode == 0
    spoil(tls)
    done = check_config(tls.path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert str(tls.files[file]) in done.stderr and says in done.stderr


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key", "tls_client_ca"])
def test_tls_without_one_of_its_files_is_refused(tls, check_config, tmp_path, missing):
    path = tmp_path / "less.conf"
    path.write_text("".join(line for line in tls.config.splitlines(True) if not line.startswith(missing)))
    done = check_config(path)
    assert done.returncode == 2 and missing in done.stderr


def test_a_daemon_for_tls_that_nobody_could_use_does_not_start(tls, check_config):
    tls.write("user * chat admin\n")
    done = check_config(tls.path)
    assert done.returncode == 2 and "certificate SUBJECT TENANT ROLE" in done.stderr


def test_a_certificate_between_it_and_the_authority_is_sent_along(tls, tmp_path):
    between = Authority(tmp_path / "between", signed_by=tls.authority)
    server = between.server()
    server.certificate.write_bytes(server.certificate.read_bytes() + between.certificate.read_bytes())
    tls.use(server)
    reread(tls)
    tls.connect_tls().close()


def test_the_key_is_in_no_line_of_the_log(start_daemon, tmp_path):
    tls = TlsDaemon(start_daemon, tmp_path, config="log_level = debug\n")
    tls.connect_tls().close()
    reread(tls)
    for line in tls.files["key"].read_text().splitlines():
        assert line not in tls.log()


# --- metrics ---


def openssl_end(what, option, path):
    return datetime.datetime.strptime(openssl(what, "-noout", option, "-in", path).split("=")[1].strip(),
                                      "%b %d %H:%M:%S %Y %Z").replace(tzinfo=datetime.timezone.utc).timestamp()


def test_metrics_say_until_when_it_is_valid_and_how_handshakes_ended(start_daemon, tmp_path):
    authority = Authority(tmp_path / "ca")
    crl = authority.revoke(days=1)
    tls = TlsDaemon(start_daemon, tmp_path, config=f"metrics = {tmp_path}/metrics.sock\ntls_crl = {crl}\n",
                    authority=authority)
    tls.connect_tls().close()
    assert_refused(tls, context(authority), "CERTIFICATE_REQUIRED", "peer did not return a certificate")
    samples = metrics(f"{tmp_path}/metrics.sock")
    ends = {of: samples["kvquantd_tls_valid_until_seconds", "of", of]
            for of in ("certificate", "authorities", "revocations")}
    assert ends == {"certificate": openssl_end("x509", "-enddate", tls.files["certificate"]),
                    "authorities": openssl_end("x509", "-enddate", authority.certificate),
                    "revocations": openssl_end("crl", "-nextupdate", crl)}
    handshakes = {result: samples["kvquantd_tls_handshakes_total", "result", result]
                  for result in ("established", "failed")}
    assert handshakes == {"established": 1, "failed": 1}


# --- a service manager's socket ---


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def test_a_socket_by_the_name_of_tls_is_for_tls(start_daemon, tmp_path, listening):
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "managers.sock"))
    unix.listen()
    tls = TlsDaemon(start_daemon, tmp_path, listening=[unix], kept=[("tls", listening.fileno())], listen=None)
    with Connection(address_of(listening), tls=tls.context()) as connection:
        assert identity(connection) == ("chat", "worker")
        assert connection.ping() is not None
    unix.close()
