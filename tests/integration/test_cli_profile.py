"""`kvq profile`: what a device's cache takes, against the published schema, and its sums."""

import json

import jsonschema
import pytest
from conftest import ROOT, Command

PROFILES = ROOT / "config/profiles"
LEVELS = ("exact", "fast8", 0, 1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def kvq():
    return Command("/none")  # there is no daemon, and none is needed


@pytest.fixture(scope="module")
def validator():
    schema = json.loads((PROFILES / "profile.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def tiny():
    return json.loads((PROFILES / "tiny.json").read_text())


@pytest.fixture(scope="module")
def report(kvq):
    return kvq.json("profile", "tiny")


def without(members, *names):
    return {name: value for name, value in members.items() if name not in names}


def changed(tiny, tmp_path, **members):
    file = tmp_path / "own.json"
    file.write_text(json.dumps({**tiny, **members}))
    return file


def test_profile_and_report_are_what_the_schema_describes(validator, tiny, report):
    validator.validate(tiny)
    validator.validate(report)
    assert "measured" in report


@pytest.mark.parametrize("members", [{"shape": [2, 4, 256, 64]}, {"ages": [{"tokens": 256, "level": 6}]}, {"more": 1}])
def test_the_schema_refuses_what_kvq_could_not_take(validator, tiny, members):
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**tiny, **members})


def test_the_report_repeats_the_profile(tiny, report):
    assert without(report, "measured") == without(tiny, "$schema", "description")
    assert tiny["shape"] == [1, 4, 256, 64]


def test_every_byte_is_of_a_part_and_of_an_age(report):
    measured = report["measured"]
    assert sum(measured["parts"].values()) == measured["stored_bytes"]
    assert sum(age["stored_bytes"] for age in measured["ages"]) == measured["stored_bytes"]
    for age in measured["ages"]:
        assert sum(age["parts"].values()) == age["stored_bytes"]
        assert age["parts"]["header"] >= 48 * age["pages"]
    for name, count in measured["parts"].items():
        assert sum(age["parts"][name] for age in measured["ages"]) == count


def test_the_ages_are_those_of_the_profile_one_behind_the_other(tiny, report):
    first = 0
    for age, measured in zip(tiny["ages"], report["measured"]["ages"], strict=True):
        assert (measured["first"], measured["tokens"], measured["level"]) == (first, age["tokens"], age["level"])
        first += age["tokens"]
    assert first == tiny["shape"][2]


def test_ratio_and_bits_are_of_all_that_is_stored(report):
    measured = report["measured"]
    assert measured["logical_bytes"] == 2 * 2 * 4 * 256 * 64
    assert measured["ratio"] == pytest.approx(measured["logical_bytes"] / measured["stored_bytes"])
    assert measured["bits_per_value"] == pytest.approx(16 / measured["ratio"])


def test_older_tokens_take_fewer_bits(report):
    bits = [age["bits_per_value"] for age in report["measured"]["ages"]]
    assert bits == sorted(bits) and bits[0] < bits[-1]


def test_tiny_meets_its_target_within_its_limits(report):
    measured = report["measured"]
    assert measured["ratio"] >= report["target_ratio"] == 4 and measured["target_met"] is True
    decoder = measured["decoder"]
    assert decoder["ram_bytes"] == decoder["workspace_bytes"] + decoder["output_bytes"]
    assert decoder["ram_bytes"] <= report["decoder"]["ram_bytes"] and decoder["within_limits"] is True
    assert decoder["output_bytes"] == 2 * 128 * 4 * 64


def test_the_first_tokens_are_kept_exactly(report):
    oldest = report["measured"]["ages"][0]
    assert oldest["parts"]["exact_tokens"] >= 2 * report["sink_tokens"] * 2 * 4 * 64


def test_the_same_seed_gives_the_same_and_another_nearly(kvq, report):
    assert kvq.json("profile", "tiny", "--seed", 1) == report
    other = kvq.json("profile", "tiny", "--seed", 2)["measured"]
    assert other["stored_bytes"] != report["measured"]["stored_bytes"]
    assert other["ratio"] == pytest.approx(report["measured"]["ratio"], rel=0.1)


def test_the_text_says_the_same(kvq, report):
    text, measured = kvq("profile", "tiny").stdout, report["measured"]
    assert f"{measured['ratio']:.2f} against 16 bits a value, every byte counted; target 4.00: met" in text
    for age in measured["ages"]:
        assert f"{age['stored_bytes']:,}" in text
    for count in measured["parts"].values():
        assert f" {count:,} " in text
    assert f"{measured['decoder']['ram_bytes']:,} of {report['decoder']['ram_bytes']:,} bytes" in text
    assert "seed        1\n" in text and max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("level", LEVELS)
def test_a_profile_of_ones_own_may_have_any_level(kvq, validator, tiny, tmp_path, level):
    file = changed(tiny, tmp_path, ages=[{"tokens": 256, "level": level}])
    report = kvq.json("profile", file)
    validator.validate(report)
    assert report["measured"]["ages"][0]["level"] == level
    assert report["measured"]["ages"][0]["pages"] == 4  # of 128 tokens at most, K and V
    assert (report["measured"]["snr_k_db"] is None) == (level == "exact")


def test_layers_count(kvq, tiny, tmp_path, report):
    two = kvq.json("profile", changed(tiny, tmp_path, layers=2))["measured"]
    assert two["logical_bytes"] == 2 * report["measured"]["logical_bytes"]
    assert two["decoder"] == report["measured"]["decoder"]


def test_a_target_or_limit_that_is_missed_is_said(kvq, tiny, tmp_path):
    file = changed(tiny, tmp_path, target_ratio=9, decoder={"ram_bytes": 1000, "stack_bytes": 10})
    text = kvq("profile", file).stdout
    assert "target 9.00: not met" in text and "more than the profile allows" in text
    measured = kvq.json("profile", file)["measured"]
    assert measured["target_met"] is False and measured["decoder"]["within_limits"] is False


@pytest.mark.parametrize("member, value", [
    ("name", ""), ("shape", [1, 4, 256]), ("shape", [1, 4, 0, 64]), ("layers", 0), ("dtype", "float32"),
    ("sink_tokens", -1), ("ages", []), ("ages", [{"tokens": 255, "level": 3}]),
    ("ages", [{"tokens": 256, "level": "3"}]), ("target_ratio", 0.5), ("decoder", {"ram_bytes": 1}),
    ("decoder", {"ram_bytes": 1, "stack_bytes": 1, "stack_needed_bytes": {"m3": -1}}),
])
def test_a_member_that_is_wrong_is_named(kvq, tiny, tmp_path, member, value):
    result = kvq("profile", changed(tiny, tmp_path, **{member: value}))
    assert (result.returncode, result.stdout) == (1, "")
    assert f'"{member}"' in result.stderr and result.stderr.count("\n") == 1


def test_what_is_no_profile_is_one_line(kvq, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{\n"name": }')
    for name, said in (("none", "there is tiny"), (broken, "line 2"), (tmp_path / "missing.json", "missing.json")):
        result = kvq("profile", name)
        assert (result.returncode, result.stdout) == (1, "")
        assert said in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["tiny", "tiny"], ["tiny", "--seed", "x"], ["tiny", "--level", "3"]])
def test_what_is_no_call_is_status_2(kvq, arguments):
    assert kvq("profile", *arguments).returncode == 2
