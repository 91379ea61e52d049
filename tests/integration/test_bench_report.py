"""make bench's report: three files that say the same, out of lines that were recorded."""

import html
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPORT = ROOT / "tests" / "bench" / "report.py"
RECORDED = pathlib.Path(__file__).with_name("recorded")


class Report:
    """What report.py makes of a recording."""

    def __init__(self, folder, data):
        source = folder / "source.json"
        source.write_text(json.dumps(data))
        self.picture = folder / "picture.svg"
        command = [sys.executable, str(REPORT), "--from", str(source), "--output", str(folder)]
        if data["bench"] == "bench":
            command += ["--picture", str(self.picture)]
        self.printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        files = {kind: (folder / f"{data['bench']}.{kind}").read_text() for kind in ("md", "html", "json")}
        self.markdown, self.html = files["md"], files["html"]
        self.json = json.loads(files["json"])

    def table(self, title):
        return next(table for table in self.json["tables"] if table["title"] == title)

    def row(self, title, *first):
        """The one row of a table that begins with these cells, by column."""
        table = self.table(title)
        rows = [row for row in table["rows"] if row[:len(first)] == list(first)]
        assert len(rows) == 1, rows
        return dict(zip(table["columns"], rows[0]))

    def verdict(self, figure):
        return self.row("What must hold", figure)[""]


@pytest.fixture(params=["bench", "peers"])
def any_report(request, tmp_path):
    return Report(tmp_path, json.loads((RECORDED / f"{request.param}.json").read_text()))


@pytest.fixture
def recording():
    return json.loads((RECORDED / "bench.json").read_text())


@pytest.fixture
def report(tmp_path, recording):
    return Report(tmp_path, recording)


def lines_of(recording, **wanted):
    return [line for line in recording["lines"]
            if all(line.get(key) == value for key, value in wanted.items())]


def markdown_tables(text):
    """The cells of each table, its columns first."""
    tables = []
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")]
                for line in block.splitlines()]
        tables.append([rows[0], *rows[2:]])
    return tables


def html_tables(text):
    tables = []
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        tables.append([[html.unescape(re.sub(r"</?code>", "", cell)) for cell in row] for row in cells])
    return tables


def stripped(rows):
    return [[cell.replace("`", "").strip() for cell in row] for row in rows]


def test_the_three_files_have_the_same_cells(any_report):
    expected = [stripped([table["columns"], *table["rows"]]) for table in any_report.json["tables"]]

    assert [stripped(rows) for rows in html_tables(any_report.html)] == expected
    assert [stripped(rows) for rows in markdown_tables(any_report.markdown)] == expected


def test_what_is_printed_is_the_markdown_file(any_report):
    assert any_report.markdown in any_report.printed


def test_the_page_needs_no_other_file_and_no_network(any_report):
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", any_report.html)
    assert "prefers-color-scheme: dark" in any_report.html


def test_charts_are_well_formed_and_have_every_value_of_their_groups(any_report):
    drawn = re.findall(r"<svg.*?</svg>", any_report.html, re.DOTALL)
    charts = [table["chart"] for table in any_report.json["tables"] if table["chart"]]

    assert len(drawn) == len(charts) > 0
    for svg, chart in zip(drawn, charts):
        texts = [element.text for element in xml.etree.ElementTree.fromstring(svg).iter("text")]
        for group in chart["groups"]:
            assert group["label"] in texts
            assert all(f"{bar['value']:.2f}" in texts for bar in group["bars"])


def test_a_speed_is_the_median_and_a_fraction_is_of_the_neighbouring_sample(tmp_path, recording):
    same = {"kind": "throughput", "level": "fast8", "variant": "settled", "shape": "8x128",
            "transport": "unix", "connections": 1, "operation": "fetch"}
    (kvq,), (raw,) = (lines_of(recording, contender=name, **same) for name in ("kvq", "raw"))
    kvq["bytes"] = raw["bytes"] = 6e9
    kvq["seconds"], raw["seconds"] = [2.0, 3.0, 10.0], [1.0, 0.6, 6.0]

    row = Report(tmp_path, recording).row("Fetch over a unix socket", "fast8", "1")

    assert (row["kvq"], row["raw"], row["of raw"]) == ("2.00", "6.00", "0.500")


@pytest.mark.parametrize("factor, verdict", [(1.49, "PASS"), (1.51, "MISS")])
def test_a_ping_beyond_its_bound_is_a_miss(tmp_path, recording, factor, verdict):
    for raw in lines_of(recording, kind="latency", contender="raw", operation="ping"):
        kvq, = lines_of(recording, kind="latency", contender="kvq", operation="ping",
                        placement=raw["placement"])
        kvq["block_medians"] = [factor * seconds for seconds in raw["block_medians"]]

    report = Report(tmp_path, recording)

    assert report.verdict("ping p50 against a raw ping-pong, on one core") == verdict
    assert report.verdict("ping p50 against a raw ping-pong, a core each") == verdict


@pytest.mark.parametrize("changed, figure", [
    ({"cpu_ticks": 1}, "processor ticks of an idle daemon in 3 s"),
    ({"rss_bytes_each": 8193}, "resident memory of an idle connection, of 1000"),
    ({"used_bytes_each": 8193}, "counted memory of an idle connection, of 1000"),
])
def test_an_idle_daemon_that_takes_too_much_is_a_miss(tmp_path, recording, report, changed, figure):
    assert report.verdict(figure) == "PASS"
    lines_of(recording, kind="idle")[0].update(changed)

    assert Report(tmp_path, recording).verdict(figure) == "MISS"


@pytest.mark.parametrize("of_two, verdict", [(0.41, "PASS"), (0.39, "MISS")])
def test_two_connections_may_reach_a_tenth_less_than_one(tmp_path, recording, of_two, verdict):
    for connections, fraction in (1, 0.5), (2, of_two):
        same = {"kind": "throughput", "level": "fast8", "variant": "settled", "shape": "8x128",
                "transport": "unix", "connections": connections, "operation": "append"}
        (kvq,), (raw,) = (lines_of(recording, contender=name, **same) for name in ("kvq", "raw"))
        kvq["seconds"] = [seconds / fraction for seconds in raw["seconds"]]

    report = Report(tmp_path, recording)

    assert report.verdict("append at fast8 over two connections, of the raw socket's two") == verdict


def test_a_quiet_machine_needs_no_warning(report):
    assert report.json["warnings"] == []


def test_a_busy_machine_is_told_in_all_files(tmp_path, recording):
    recording["machine"]["load"] = 2.5
    lines_of(recording, kind="throughput", contender="raw")[0]["seconds"] = [1.0, 1.5, 2.0]

    report = Report(tmp_path, recording)

    load, spread = report.json["warnings"]
    assert "2.50" in load and "in 1 of" in spread
    for text in report.markdown, html.unescape(report.html):
        assert load in text and spread in text


def test_what_could_not_be_measured_is_named_and_the_rest_is_there(tmp_path, recording):
    recording["lines"] = [line for line in recording["lines"] if line.get("transport") != "tcp"]
    recording["lines"].append({"kind": "failed", "what": "tcp, 1 connections, fast8", "status": 1})

    report = Report(tmp_path, recording)

    assert any("tcp, 1 connections, fast8" in warning for warning in report.json["warnings"])
    assert report.row("Fetch over a unix socket", "fast8", "1")


def test_a_machine_without_streaming_stores_says_so(tmp_path, recording):
    recording["lines"] = [line for line in recording["lines"] if line.get("contender") != "streaming"]

    assert "none on this machine" in Report(tmp_path, recording).row("Ceilings: copies",
                                                                     "streaming").values()


def test_the_synthetic_table_stands_beside_the_write_ups_column(report):
    one = report.row("The synthetic table", "chat-turn", "1 x 8 x 512 x 64", "one")
    both = report.row("The synthetic table", "chat-turn", "1 x 8 x 512 x 64", "K and V")

    assert (one["16-bit"], one["pool"], one["ratio"], one["dB"]) == ("0.5", "0.1158", "4.32", "24.9")
    assert one["the write-up's"] == "0.5 MiB, 4.00 x [1]"
    assert (both["dB"], both["the write-up's"]) == ("24.9, 16.1", "")
    assert "[1] what the write-up gives" in report.table("The synthetic table")["note"]


def test_each_neighbour_is_shown_with_its_best_settings(tmp_path):
    recording = json.loads((RECORDED / "peers.json").read_text())
    for line in lines_of(recording, kind="throughput", contender="memcached", variant="pages"):
        line["seconds"] = [seconds / 100 for seconds in line["seconds"]]

    report = Report(tmp_path, recording)

    assert report.row("Over a unix socket, one connection", "memcached")["settings"] == "pages"


def test_the_picture_shows_every_measured_level_with_readmes_bits(report):
    texts = [element.text for element in xml.etree.ElementTree.parse(report.picture).iter()
             if element.tag.endswith("text")]
    bits = re.search(r"^\| `3` \|[^|]*\| ([\d.]+) ", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert {"raw socket", "exact", "fast8", "level 3"} <= set(texts)
    assert any(text.startswith(f"{float(bits[1]):.1f} bits") for text in texts)


def test_readme_shows_the_picture():
    shown = re.search(r"!\[[^]]+\]\(([^)]+\.svg)\)", (ROOT / "README.md").read_text())

    assert "@media (prefers-color-scheme: dark)" in (ROOT / shown[1]).read_text()
