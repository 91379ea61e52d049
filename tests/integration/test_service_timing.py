"""No answer tells by its time whether another tenant has something. `make timing` measures longer."""

import pytest
from conftest import Daemon
from tenant_support import Tenants, row
from test_wire_tenants import fill
from timing_support import REQUESTS, THEIRS, tells
from wire_support import wait_until

PAIRS = 1000


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    """Connections of two tenants, of whom one has everything and the other nothing."""
    folder = tmp_path_factory.mktemp("tenants")
    tenants = Tenants(lambda **options: Daemon(folder, **options), folder,
                      row("them", "they", "worker") + row("me", "me", "worker"))
    with tenants.connect("them") as them, tenants.connect("me") as me:
        for at in THEIRS:
            fill(them, at)
        yield {"them": them, "me": me}
    assert tenants.daemon.stop() == 0


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_takes_as_long_whether_another_tenant_has_it_or_nobody(tenants, name):
    told, t = tells(tenants["me"], name, PAIRS)
    assert not told, t


@pytest.mark.parametrize("name", ["FETCH", "BLOCK_GET"])
def test_the_measure_finds_that_a_tenant_has_something_itself(tenants, name):
    wait_until(lambda: tells(tenants["them"], name, PAIRS)[0])
