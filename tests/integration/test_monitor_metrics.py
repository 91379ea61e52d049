"""GET /metrics: OpenMetrics that a strict reader takes, and numbers that move as what is done says."""

import json
import re
import time

import pytest
from monitor_support import ask, metrics, monitored, start_monitored, status  # noqa: F401
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as older_families
from tenant_support import row, token
from wire import Connection
from wire_support import SMALL, WIDE, append, bits, gaussian_bits, packed, refused, stored, wait_until

LEVELS = {"exact", "fast8", "0", "1", "2", "3", "4", "5"}


@pytest.fixture
def connection(monitored):
    with Connection(monitored.socket) as connection:
        yield connection


@pytest.fixture
def address(monitored):
    return monitored.metrics


def requests(samples, operation):
    return samples["kvquantd_requests_total", "operation", operation]


def errors(samples, operation, error):
    return samples["kvquantd_request_errors_total", "error", error, "operation", operation]


def answered(samples, operation, size):
    return samples["kvquantd_request_seconds_count", "operation", operation, "size", size]


def test_a_strict_reader_of_open_metrics_takes_it(connection, address):
    stored(connection, b"chat", tokens=300, settle=True)
    answer = ask(address, "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.text.endswith("# EOF\n")
    families = list(text_string_to_metric_families(answer.text))
    assert len(families) == len({family.name for family in families}) > 60
    for family in families:
        assert family.name.startswith("kvquantd_") and family.documentation.endswith(".")


def test_who_takes_only_the_older_form_gets_it(address):
    answer = ask(address, "/metrics", Accept="text/plain;version=0.0.4")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    types = {family.name: family.type for family in older_families(answer.text)}
    assert types["kvquantd_fetch_hits"] == "counter" and types["kvquantd_build_info"] == "gauge"
    assert types["kvquantd_request_seconds"] == "histogram"
    assert "EOF" not in answer.text


def test_prometheus_own_request_gets_open_metrics(address):
    answer = ask(address, "/metrics", Accept="application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")


def test_gauges_are_what_stats_says(connection, address):
    stored(connection, b"a", tokens=300, settle=True)
    stored(connection, b"b", tokens=20)
    stats, samples = connection.stats(), metrics(address)
    assert samples["kvquantd_sessions"] == stats.sessions == 2
    assert samples["kvquantd_tokens"] == stats.tokens == 320
    assert samples["kvquantd_logical_bytes"] == stats.logical_bytes
    assert samples["kvquantd_stored_bytes"] == stats.stored_bytes
    assert samples["kvquantd_memory_limit_bytes"] == stats.limit_bytes
    assert samples["kvquantd_appended_tokens_total"] == 320
    assert samples["kvquantd_connections"] == 1


def test_each_level_has_its_bytes_and_tokens(connection, address):
    stored(connection, b"exact", WIDE, 128, level=-2, settle=True)
    append(connection.open(b"coarse", geometry=WIDE, level=3), gaussian_bits(WIDE, 128), settle=True)
    samples = metrics(address)
    assert samples["kvquantd_level_tokens", "level", "exact"] == 124
    assert samples["kvquantd_level_tokens", "level", "3"] == 124
    assert samples["kvquantd_level_tokens", "level", "sinks"] == 8
    assert 0 < samples["kvquantd_level_bytes", "level", "3"] < samples["kvquantd_level_bytes", "level", "exact"]


def test_requests_and_their_errors_are_counted_by_operation(connection, address):
    before = metrics(address)
    connection.ping()
    with refused("miss"):
        connection.info(b"nobody")
    after = metrics(address)
    assert requests(after, "ping") - requests(before, "ping") == 1
    assert requests(after, "info") - requests(before, "info") == 1
    assert errors(after, "info", "miss") == 1 and errors(after, "ping", "miss") == 0


def test_times_are_by_operation_and_by_the_bytes_that_went(connection, address):
    session, _ = stored(connection, b"chat", WIDE, 200)  # 1.6 MiB
    session.fetch()
    session.fetch(0, 1)  # 8 KiB
    connection.ping()
    samples = metrics(address)
    assert answered(samples, "ping", "4KiB") == 1
    assert answered(samples, "append", "16MiB") == 1 and answered(samples, "append", "4KiB") == 0
    assert answered(samples, "fetch", "16MiB") == 1 and answered(samples, "fetch", "64KiB") == 1
    assert samples["kvquantd_request_seconds_sum", "operation", "fetch", "size", "16MiB"] > 0
    assert answered(samples, "ping", "4KiB") == samples[
        "kvquantd_request_seconds_bucket", "le", "+Inf", "operation", "ping", "size", "4KiB"]


def test_hits_and_the_reasons_of_misses_are_counted(connection, address):
    session, _ = stored(connection, b"chat", tokens=100)
    session.fetch()
    with refused("miss"):
        session.fetch(50, 101)
    with refused("miss"):
        connection.fetch(b"nobody")
    samples = metrics(address)
    assert samples["kvquantd_fetch_hits_total", "tier", "memory"] == 1
    assert samples["kvquantd_fetch_hits_total", "tier", "disk"] == 0
    assert samples["kvquantd_fetch_misses_total", "reason", "short"] == 1
    assert samples["kvquantd_fetch_misses_total", "reason", "absent"] == 1
    assert samples["kvquantd_fetched_tokens_total"] == 100


def test_quality_and_what_coding_took_are_recorded(connection, address):
    session = connection.open(b"chat", geometry=WIDE, level=2)
    append(session, gaussian_bits(WIDE, 256), settle=True)
    session.fetch()
    samples = metrics(address)
    pages = samples["kvquantd_page_snr_decibels_count", "part", "k"]
    assert pages == samples["kvquantd_page_snr_decibels_count", "part", "v"] >= 2 * WIDE.layers
    values = WIDE.layers * WIDE.heads * WIDE.head_dim_k * 256
    assert samples["kvquantd_coded_bytes_total", "level", "2", "step", "decode"] == 2 * 2 * values
    assert samples["kvquantd_coding_seconds_total", "level", "2", "step", "decode"] > 0
    mean = samples["kvquantd_page_bytes_per_value_sum", "part", "k"] / pages
    assert 0.2 < mean < 2


def test_the_keeper_s_and_the_reactors_lag_are_there(connection, address):
    stored(connection, b"chat", tokens=10)
    samples = metrics(address)
    assert samples["kvquantd_loop_lag_seconds_count"] > 0
    assert "kvquantd_keeper_queued_sessions" in samples and "kvquantd_loop_busy_seconds" in samples
    assert samples["kvquantd_buffers", "state", "free"] > 0
    wait_until(lambda: metrics(address)["kvquantd_requests_in_flight"] == 0)


def test_what_the_disk_gives_back_is_a_hit_of_its_tier(start_monitored, tmp_path):
    text = f"disk = {tmp_path}/disk\n"
    first = start_monitored(text=text)
    with Connection(first.socket) as connection:
        stored(connection, b"chat", WIDE, 128)
        connection.flush()
    assert first.stop() == 0
    second = start_monitored(text=text)
    wait_until(lambda: metrics(second.metrics)["kvquantd_recovering"] == 0)
    with Connection(second.socket) as connection:
        connection.fetch(b"chat")
        samples = metrics(second.metrics)
    assert samples["kvquantd_fetch_hits_total", "tier", "disk"] == 1
    assert samples["kvquantd_fetch_hits_total", "tier", "memory"] == 0
    assert samples["kvquantd_disk_loaded_chunks_total"] == 1


def test_the_names_of_clients_are_no_labels(connection, address):
    stored(connection, b'a"} 1\nkvquantd_evil 1\n'.replace(b"\n", b" "), tokens=5)
    connection.open(b"other", model=b"a model", geometry=SMALL)
    text = ask(address, "/metrics").text
    assert "evil" not in text and "a model" not in text


def test_the_number_of_series_does_not_grow_with_use(connection, address):
    def series():
        return {re.sub(r" \S+$", "", line) for line in ask(address, "/metrics").text.splitlines() if line[0] != "#"}

    stored(connection, b"one", tokens=5)
    before = series()
    for i in range(20):
        stored(connection, b"session %d" % i, tokens=5)
    assert series() == before


def test_each_tenant_has_its_sums(start_monitored, tmp_path):
    tenants = tmp_path / "tenants"
    tenants.write_text(row("a", "alpha", "worker") + row("b", "beta", "worker"))
    tenants.chmod(0o600)
    daemon = start_monitored(text=f"tenants = {tenants}\n")
    for name, tokens in (("a", 300), ("b", 20)):
        with Connection(daemon.socket, token=token(name)) as connection:
            stored(connection, b"chat", tokens=tokens)
    samples = metrics(daemon.metrics)
    for tenant, tokens in (("alpha", 300), ("beta", 20), ("default", 0)):
        assert samples["kvquantd_tenant_tokens", "tenant", tenant] == tokens
        assert samples["kvquantd_tenant_sessions", "tenant", tenant] == (tokens > 0)
    assert samples["kvquantd_tenant_stored_bytes", "tenant", "alpha"] > samples[
        "kvquantd_tenant_stored_bytes", "tenant", "beta"] > 0
    assert {row["tenant"] for row in status(daemon.metrics)["sessions"]["largest"]} == {"alpha", "beta"}


def tenant(samples, name, tier, level, tenant="default"):
    return samples["kvquantd_tenant_" + name, "level", level, "tenant", tenant, "tier", tier]


def test_what_a_tenant_holds_is_told_by_tier_and_level_as_it_came_and_as_it_is_stored(start_monitored, tmp_path):
    daemon = start_monitored(text=f"disk = {tmp_path}/disk\n")
    with Connection(daemon.socket) as connection:
        session = connection.open(b"chat", geometry=WIDE, level=3)
        append(session, gaussian_bits(WIDE, 256), settle=True)
        connection.flush()
        wait_until(lambda: tenant(metrics(daemon.metrics), "level_stored_bytes", "disk", "3"))
        samples, token_bytes = metrics(daemon.metrics), WIDE.layers * 2 * WIDE.heads * WIDE.head_dim_k * 2
        assert tenant(samples, "level_logical_bytes", "disk", "3") == 256 * token_bytes
        assert tenant(samples, "level_logical_bytes", "memory", "3") == 252 * token_bytes
        assert tenant(samples, "level_logical_bytes", "memory", "sinks") == 4 * token_bytes
        assert 0 < tenant(samples, "level_stored_bytes", "disk", "3") == samples[
            "kvquantd_tenant_disk_bytes", "tenant", "default"] < 256 * token_bytes
        for tier in ("memory", "disk"):
            assert 2 < samples["kvquantd_tenant_compression_ratio", "tenant", "default", "tier", tier] < 16
        connection.delete(b"chat")
        wait_until(lambda: not metrics(daemon.metrics)["kvquantd_tenant_disk_bytes", "tenant", "default"])
    samples = metrics(daemon.metrics)
    assert [key for key in samples if key[0].startswith("kvquantd_tenant_level_")] == []


def test_the_first_tenants_alone_have_samples(start_monitored, tmp_path):
    tenants = tmp_path / "tenants"
    tenants.write_text("".join(row(f"{i}", f"t{i}", "worker") for i in range(100)))
    tenants.chmod(0o600)
    daemon = start_monitored(text=f"tenants = {tenants}\n")
    for i in range(100):
        with Connection(daemon.socket, token=token(f"{i}")) as connection:
            stored(connection, b"chat", tokens=5)
    told = [key[2] for key in metrics(daemon.metrics) if key[0] == "kvquantd_tenant_sessions"]
    assert told == ["default", *(f"t{i}" for i in range(63))]


def test_status_json_says_the_same_and_names_the_largest_first(connection, address):
    stored(connection, b"small", tokens=50)
    stored(connection, b"large", tokens=500)
    told = status(address)
    assert told["totals"]["sessions"] == 2 and told["totals"]["tokens"] == 550
    assert [row["session"] for row in told["sessions"]["largest"]] == ["large", "small"]
    assert sum(told["sessions"]["sizes"]) == sum(told["sessions"]["ages"]) == 2
    assert {row["level"] for row in told["levels"]} == LEVELS | {"sinks", "tails"}


def test_the_history_is_told_once_to_who_says_what_they_have(address):
    wait_until(lambda: status(address)["history"]["rows"])
    history = status(address)["history"]
    assert len(history["rows"][0]) == len(history["columns"])
    later = json.loads(ask(address, f"/status.json?since={history['last']}").text)["history"]
    assert later["last"] >= history["last"] and len(later["rows"]) == later["last"] - history["last"]


def take_a_while(daemon):
    """An append that its client leaves open for 20 ms."""
    with Connection(daemon.socket) as connection:
        session = connection.open(b"chat", geometry=SMALL)
        request_id = session.begin(1)
        for piece in session.pieces(1):
            session.send_piece(request_id, packed(bits(SMALL, 1)), piece)
        connection.ping()  # answered once the append has begun
        time.sleep(0.02)
        session.commit(request_id)


def test_a_slow_request_is_logged_with_its_number_and_what_it_was(start_monitored):
    daemon = start_monitored(text="slow_request = 20ms\n")
    take_a_while(daemon)
    wait_until(lambda: "operation=append" in daemon.log.read_text())
    line = next(line for line in daemon.log.read_text().splitlines() if "operation=append" in line)
    assert re.search(r"warning: request \d+ was slow: \d+ ms for \d+ bytes .*session=chat", line), line


def test_no_request_is_slow_without_the_option(monitored):
    take_a_while(monitored)
    assert "was slow" not in monitored.log.read_text()
