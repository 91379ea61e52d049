"""Whether the time of an answer tells what another tenant has, with more pairs than `make test` has time for.

`make timing` runs this; it prints what it measures.
"""

import numpy
import pytest
from elsewhere import integration
from tenant_support import Tenants, row
from test_wire_tenants import fill
from timing_support import LEAK, REQUESTS, THEIRS, measure, welch_t

PAIRS = 30_000


@pytest.fixture(scope="module")
def me(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tenants")
    tenants = Tenants(lambda **options: integration.Daemon(folder, **options), folder,
                      row("them", "they", "worker") + row("me", "me", "worker"))
    with tenants.connect("them") as them, tenants.connect("me") as me:
        for at in THEIRS:
            fill(them, at)
        yield me
    assert tenants.daemon.stop() == 0


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_takes_as_long_whether_another_tenant_has_it_or_nobody(me, name):
    times = measure(me, name, PAIRS)
    medians = [numpy.median(one) / 1000 for one in times]
    t = welch_t(*times)
    print(f"\n{name:20} {len(times[0]):6} pairs   another's {medians[0]:8.3f} us, nobody's {medians[1]:8.3f} us   t {t:6.2f}")
    assert abs(t) < LEAK
