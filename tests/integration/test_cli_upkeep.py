"""kvq age, pin, and rm of many: what they print, and what is there afterwards."""

import time

import pytest
from test_cli_manage import array, missed, names, refused, store  # noqa: F401 (fixtures)
from wire_support import wait_until


def test_age_waits_until_the_session_takes_less(kvq, store):
    store("a", "--level", "1")
    before = kvq.json("info", "a")
    aged = kvq.json("age", "a", "--level", "4")
    after = kvq.json("info", "a")
    assert (aged["session"], aged["level"], aged["settled"]) == ("a", 4, True)
    assert aged["stored_bytes_before"] == before["stored_bytes"]
    assert aged["stored_bytes"] == after["stored_bytes"] < 0.6 * before["stored_bytes"]
    assert {row["level"] for row in after["levels"]} == {4, "sinks"}
    assert after["version"] == before["version"]
    assert after["estimated"] is True


def test_age_without_waiting_gets_there_too(kvq, store):
    store("a", "--level", "1")
    assert kvq.json("age", "a", "--level", "3", "--no-wait")["settled"] is False
    wait_until(lambda: {row["level"] for row in kvq.json("info", "a")["levels"]} == {3, "sinks"})


def test_age_says_bytes_before_and_after(kvq, store):
    store("a", "--level", "1")
    line = kvq("age", "a", "--level", "4").stdout
    assert line.startswith("a is at level 4: ") and line.count("KiB") == 2


def test_age_to_a_finer_level_is_refused(kvq, store):
    store("a", "--level", "3")
    assert "is at level 3" in refused(kvq("age", "a", "--level", "2"))


@pytest.mark.parametrize("arguments", [["age", "a", "--level", "3"], ["pin", "a"], ["pin", "a", "--off"]])
def test_what_is_not_there_is_a_miss(kvq, arguments):
    missed(kvq(*arguments))


def test_a_pin_lasts_an_hour_or_as_long_as_asked(kvq, store):
    store("a")
    assert kvq.json("info", "a")["pinned_ms"] == 0
    assert kvq.json("pin", "a") == {"session": "a", "pinned_ms": 3600_000}
    assert 3590_000 < kvq.json("info", "a")["pinned_ms"] <= 3600_000
    kvq("pin", "a", "--for", "2d")
    assert kvq.json("sessions")[0]["pinned_ms"] > 2 * 86400_000 - 10_000
    assert "pinned" in kvq("info", "a").stdout
    kvq("pin", "a", "--off")
    assert kvq.json("info", "a")["pinned_ms"] == 0
    assert "pinned" not in kvq("info", "a").stdout


def test_a_pin_ends_by_itself(kvq, store):
    store("a")
    kvq("pin", "a", "--for", "1ms")
    time.sleep(0.05)
    assert kvq.json("info", "a")["pinned_ms"] == 0


def test_rm_by_prefix_leaves_the_others_and_what_is_pinned(kvq, store):
    for name in ("chat-1", "chat-2", "chat-3", "other"):
        store(name)
    kvq("pin", "chat-2")
    deleted = kvq.json("rm", "--prefix", "chat-")
    assert (deleted["sessions"], deleted["dry_run"]) == (2, False)
    assert deleted["freed_bytes"] > 0
    assert names(kvq) == ["chat-2", "other"]
    missed(kvq("rm", "--prefix", "chat-"))
    assert "1 session is deleted" in kvq("rm", "--prefix", "chat-", "--pinned-too").stdout
    assert names(kvq) == ["other"]


def test_rm_with_dry_run_deletes_nothing(kvq, store):
    store("a")
    store("b")
    dry = kvq.json("rm", "--model", "m", "--dry-run")
    assert dry == {"sessions": 2, "freed_bytes": dry["freed_bytes"], "dry_run": True}
    assert names(kvq) == ["a", "b"]
    assert kvq.json("rm", "--model", "m")["freed_bytes"] == dry["freed_bytes"]


def test_conditions_of_rm_hold_together(kvq, store):
    store("a")
    store("b")
    missed(kvq("rm", "--prefix", "a", "--model", "other"))
    missed(kvq("rm", "--model", "m", "--idle", "1h"))
    missed(kvq("rm", "--model", "m", "--older", "1h"))
    kvq("rm", "--prefix", "a", "--model", "m", "--older", "1ms", "--idle", "1ms")
    assert names(kvq) == ["b"]


def test_policy_shows_how_a_session_is_kept_and_changes_what_is_given(kvq, store):
    store("a", "--level", "2")
    before = kvq.json("policy", "a")
    assert (before["floor"], before["newest_tokens"], before["ttl_ms"]) == (2, 0, 0)
    changed = kvq.json("policy", "a", "--floor", "5", "--newest", "512:fast8", "--idle-step", "1h", "--ttl", "7d")
    assert changed == {"newest_tokens": 512, "newest_level": "fast8", "floor": 5, "idle_step_ms": 3600_000,
                       "ttl_ms": 7 * 86400_000}
    assert kvq.json("policy", "a", "--ttl", "never", "--newest", "100") == {**changed, "ttl_ms": 0,
                                                                           "newest_tokens": 100}
    assert kvq.json("info", "a")["policy"] == kvq.json("policy", "a")
    line = kvq("policy", "a").stdout
    assert line == "policy      floor 5; the newest 100 tokens at fast8; a level coarser each 1h without use\n"
    assert line in kvq("info", "a").stdout


def test_import_takes_the_policy_of_a_session_that_it_makes(kvq, store, tmp_path):
    store("a", "--level", "2", "--floor", "4", "--idle-step", "never")
    assert (kvq.json("policy", "a")["floor"], kvq.json("policy", "a")["idle_step_ms"]) == (4, 0)
    policy = refused(kvq("import", "a", tmp_path / "cache.npy", "--model", "m", "--append", "--floor", "5"))
    assert "`kvq policy`" in policy


def test_a_policy_that_cannot_be_is_refused(kvq, store):
    store("a", "--level", "2")
    assert "floor no finer" in refused(kvq("policy", "a", "--floor", "1"))
    missed(kvq("policy", "none"))
