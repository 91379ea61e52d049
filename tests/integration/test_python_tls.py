"""The Python client over TLS: options, the environment, asyncio, and which exception says what."""

import asyncio

import kvquantd
import kvquantd.aio
import numpy as np
import pytest
from tls_support import TlsDaemon

GEOMETRY = dict(layers=2, heads=2, head_dim=16, dtype="float16")


@pytest.fixture
def tls(start_daemon, tmp_path):
    return TlsDaemon(start_daemon, tmp_path)


def options_of(tls, name="worker", **options):
    certificate, key = tls.authority.client(name, **options)
    return dict(tls_ca=str(tls.authority.certificate), tls_certificate=str(certificate), tls_key=str(key))


def values():
    return np.random.default_rng(1).standard_normal((2, 200, 2, 16)).astype(np.float16)


def test_what_is_appended_over_tls_is_fetched_over_tls(tls):
    k, v = values(), values() + 1
    with kvquantd.connect(tls.address, **options_of(tls)) as client:
        assert (client.tenant, client.role) == ("chat", "worker")
        client.open("s", model="m", geometry=GEOMETRY, level="exact").append(k, v)
        got = client.open("s").fetch()
    assert (got[0] == k).all() and (got[1] == v).all()


def test_asyncio_goes_over_tls(tls):
    async def work():
        async with await kvquantd.aio.connect(tls.address, **options_of(tls)) as client:
            session = await client.open("s", model="m", geometry=GEOMETRY, level="exact")
            await session.append(values(), values())
            return await session.fetch()

    assert (asyncio.run(work())[0] == values()).all()


def test_what_takes_no_options_goes_by_the_environment(tls, monkeypatch):
    for name, file in options_of(tls).items():
        monkeypatch.setenv(f"KVQ_{name.upper()}", file)
    breaker = kvquantd.Breaker(tls.address)
    assert breaker.run(lambda client: client.role) == "worker"
    breaker.close()


def test_the_daemons_name_may_be_another_than_the_host(tls):
    with pytest.raises(kvquantd.CannotConnect, match="does not name kvquantd.example.com"):
        kvquantd.connect(tls.address, tls_name="kvquantd.example.com", **options_of(tls))
    kvquantd.connect(tls.address, tls_name="localhost", **options_of(tls)).close()


@pytest.mark.parametrize("connect", [kvquantd.connect, lambda *given, **options: asyncio.run(
    kvquantd.aio.connect(*given, **options))])
def test_a_certificate_that_is_refused_is_no_authentication(tls, connect):
    with pytest.raises(kvquantd.Unauthenticated, match="it has expired"):
        connect(tls.address, **options_of(tls, days=-1))
    with pytest.raises(kvquantd.Unauthenticated, match="there is none"):
        connect(tls.address, tls_ca=str(tls.authority.certificate))


def test_a_file_that_does_not_serve_is_invalid(tls, tmp_path):
    with pytest.raises(kvquantd.Invalid, match="No such file"):
        kvquantd.connect(tls.address, **{**options_of(tls), "tls_key": str(tmp_path / "none")})
