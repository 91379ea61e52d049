"""TLS 1.3 with certificates of both sides: who is let in, as whom, and what is refused."""

import pytest
from tls_support import TlsDaemon
from wire import Geometry
from wire_support import SMALL, assert_holds, stored

ROLES = {1: "reader", 2: "worker", 3: "admin"}


def identity(connection):
    return connection.limits.tenant, ROLES[connection.limits.role]


@pytest.fixture
def tls(start_daemon, tmp_path):
    return TlsDaemon(start_daemon, tmp_path)


def test_what_is_stored_over_tls_comes_back(tls):
    wide = Geometry(layers=8, heads=4, head_dim_k=64, head_dim_v=64)
    with tls.connect_tls() as connection:
        assert_holds(*stored(connection, b"small", SMALL, 50))
        assert_holds(*stored(connection, b"large", wide, 2000))


@pytest.mark.parametrize("name, expected", [("worker", ("chat", "worker")), ("reader", ("chat", "reader")),
                                            ("admin", ("ops", "admin")), ("other", ("mail", "worker"))])
def test_tenant_and_role_are_those_of_the_certificates_row(tls, name, expected):
    with tls.connect_tls(name) as connection:
        assert identity(connection) == expected
