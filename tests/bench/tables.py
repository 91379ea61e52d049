"""The report's tables, from lines (measure.py): each with its cells as text, and a chart of some.

Markdown, HTML and JSON show the same tables: nothing is computed or rounded anywhere else.
"""

import dataclasses

import figures
from figures import select, speed

LEVEL_ORDER = ["exact", "fast8", "0", "1", "2", "3", "4", "5"]

@dataclasses.dataclass
class Table:
    title: str
    note: str
    columns: list
    rows: list
    chart: dict = None


def percent(value):
    return f"{100 * value:.0f} %"


def by_level(line):
    return LEVEL_ORDER.index(line["level"])


def level_name(level):
    return level if level in ("exact", "fast8") else f"level {level}"


def mib(byte_count):
    return f"{byte_count / (1 << 20):.4g}"


def machine_table(machine, lines):
    kernels = [line["kernels"] for line in select(lines, kind="codec")]
    rows = [[key, str(value)] for key, value in machine.items() if key != "load"]
    rows.append(["load average at the start", f"{machine['load']:.2f}"])
    rows.append(["the codec's kernels", kernels[0] if kernels else "not asked"])
    return Table("The machine", "", ["", ""], rows)


def checks_table(lines):
    rows = [[check.name, check.measured, check.bound, check.verdict]
            for check in figures.checks(lines)]
    return Table("What must hold", "", ["figure", "measured", "bound", ""], rows)


def copies_table(lines):
    rows = []
    threads = sorted({line["threads"] for line in select(lines, kind="copy")})
    for name in "memcpy", "streaming":
        found = [figures.copy_speed(lines, name, count) for count in threads]
        rows.append([name, *("none on this machine" if s is None else f"{s:.2f}" for s in found)])
    return Table("Ceilings: copies",
                 "GB/s of the same bytes from memory to memory, by so many threads. Streaming: SSE2 "
                 "stores that go past the caches.",
                 ["", *(f"{count:.0f} thread{'s' if count > 1 else ''}" for count in threads)], rows)


def buffer_name(byte_count):
    return "the system's" if byte_count == 0 else f"{int(byte_count) >> 10} KiB"


def raw_table(lines):
    rows = []
    for transport in "unix", "tcp":
        found = select(lines, kind="throughput", contender="raw", level="fast8", variant="settled",
                       shape="8x128", transport=transport)
        for connections in sorted({line["connections"] for line in found}):
            chosen = select(lines, kind="raw_buffers", transport=transport, shape="8x128",
                            connections=connections, chosen=1)
            append, fetch = (select(found, connections=connections, operation=operation)[0]
                             for operation in ("append", "fetch"))
            rows.append([transport, f"{connections:.0f}", f"{speed(append):.2f}", f"{speed(fetch):.2f}",
                         percent(figures.spread(append["seconds"])),
                         percent(figures.spread(fetch["seconds"])),
                         buffer_name(chosen[0]["buffer_bytes"])])
    return Table("Ceilings: a raw socket",
                 "GB/s of request and response of the same bytes in the same pieces (256 KiB), a thread "
                 "for each connection at both ends, nothing in between; with that of four sizes of "
                 "socket buffer that was quickest. Spread: the middle half of the samples over their "
                 "median.",
                 ["transport", "connections", "append", "fetch", "spread, append", "spread, fetch",
                  "socket buffers"], rows)


def kvq_lines(lines, **wanted):
    found = select(lines, kind="throughput", contender="kvq", **wanted)
    return sorted(found, key=lambda line: (by_level(line), line["connections"]))


def throughput_row(lines, line):
    raw = figures.neighbour(lines, line)
    copy = figures.copy_speed(lines, "memcpy", line["connections"])
    return [line["level"], f"{line['connections']:.0f}", f"{speed(line):.2f}", f"{speed(raw):.2f}",
            f"{figures.fraction(raw, line):.3f}", f"{speed(line) / copy:.3f}",
            percent(figures.spread(line["seconds"])),
            f"{line['bytes'] / line['first_seconds'] / 1e9:.2f}"]


THROUGHPUT_COLUMNS = ["level", "connections", "kvq", "raw", "of raw", "of memcpy", "spread", "first"]


def throughput_chart(lines, found):
    """Bars by level, one for each number of connections; the raw socket's on top."""
    raw = {line["connections"]: speed(figures.neighbour(lines, line))
           for line in found if line["level"] == "fast8"}
    groups = [{"label": "raw socket", "bars": [{"label": f"{c:.0f}", "value": raw[c]} for c in raw]}]
    for level in LEVEL_ORDER:
        of_level = select(found, level=level)
        if of_level:
            groups.append({"label": level_name(level), "bars": [
                {"label": f"{line['connections']:.0f}", "value": speed(line)} for line in of_level]})
    return {"unit": "GB/s", "bars": "connections", "groups": groups}


def throughput_tables(lines):
    for operation in "append", "fetch":
        found = kvq_lines(lines, operation=operation, transport="unix", variant="settled",
                          shape="8x128")
        what = ("sent, and answered when all of it is coded at its level" if operation == "append"
                else "fetched")
        yield Table(f"{operation.capitalize()} over a unix socket",
                    f"GB/s of 16-bit data {what}. Sessions of 32 MiB (32 layers, 8 heads, 128 dims, 256 "
                    "tokens), split among the connections. `of raw`: of the raw socket with as many "
                    "connections, each sample against its neighbour in time; `of memcpy`: of as many "
                    "threads' copies; `first`: the first time, into fresh memory.",
                    THROUGHPUT_COLUMNS, [throughput_row(lines, line) for line in found],
                    throughput_chart(lines, found))


def other_throughput_table(lines):
    rows = []
    for transport, variant, shape, what in (
            ("tcp", "settled", "8x128", "loopback TCP, against raw TCP"),
            ("unix", "at once", "8x128", "reply before settling"),
            ("unix", "settled", "3x64", "30 layers, 3 heads, 64 dims")):
        for operation in ["append"] if variant == "at once" else ["append", "fetch"]:
            for line in kvq_lines(lines, transport=transport, variant=variant, shape=shape,
                                  operation=operation):
                rows.append([what, operation, *throughput_row(lines, line)])
    return Table("Other ways to append and fetch",
                 "As above. Over TCP; with appends that are answered as soon as the session has the "
                 "tokens (at level 3 they land at fast8 and are brought to level 3 in the daemon's own "
                 "time); and with sessions of a smaller model, whose pages are 48 KiB instead of 256.",
                 ["", "operation", *THROUGHPUT_COLUMNS], rows)


def latency_table(lines):
    rows = []
    for kvq in select(lines, kind="latency", contender="kvq"):
        same = {key: kvq[key] for key in ("operation", "level", "placement", "transport")}
        raw, = select(lines, kind="latency", contender="raw", **same)
        rows.append([kvq["operation"], kvq["level"],
                     "one core" if kvq["placement"] == "together" else "a core each",
                     *(f"{side[key]:.1f}" for side in (raw, kvq) for key in ("p50_us", "p99_us")),
                     f"{figures.block_ratio(lines, **same):.2f}", f"{kvq['samples']:.0f}"])
    return Table("Latency",
                 "Microseconds that 50 and 99 of 100 take at most. A token of this model (32 layers, 8 "
                 "heads, 128 dims, float16) is 128 KiB, 128 tokens are 16 MiB; the raw socket moves as "
                 "many bytes, in one piece and in pieces of 256 KiB. `ratio`: medians of kvq's blocks "
                 "over those of the raw socket's, each against its neighbour in time. Appends of one "
                 "token do not settle: each 128th completes a chunk.",
                 ["operation", "level", "client and daemon on", "raw p50", "raw p99", "kvq p50",
                  "kvq p99", "ratio", "samples"], rows)


def idle_table(lines):
    rows = [[f"{line['connections']:.0f}", f"{line['rss_bytes_each']:.0f}",
             f"{line['used_bytes_each']:.0f}", f"{line['seconds']:.0f}", f"{line['cpu_ticks']:.0f}",
             f"{line['context_switches']:.0f}"] for line in select(lines, kind="idle")]
    return Table("Idle", "A daemon with a session and so many connections open that ask nothing.",
                 ["connections", "resident bytes each", "counted bytes each", "seconds",
                  "processor ticks", "context switches"], rows)


def codec_table(lines):
    rows = []
    for line in select(lines, kind="codec"):
        names = {-2: "exact", -1: "fast8"}
        rows.append([names.get(line["level"], f"{line['level']:.0f}"), f"{line['bits_per_value']:.2f}",
                     f"{line['encode_gb_per_second']:.2f}", f"{line['decode_gb_per_second']:.2f}",
                     f"{line['decode_gb_per_second'] / line['memcpy_gb_per_second']:.2f}"])
    return Table("The codec alone",
                 "GB/s of 16-bit data on one core, from memory to memory, without a socket or a daemon. "
                 "`make bench-codec` has more of it.",
                 ["level", "bits a value", "encode", "decode", "decode of memcpy"], rows)


def decibels(row):
    """Of the one tensor, or of K and of V."""
    found = [row[key] for key in ("snr_db", "snr_k_db", "snr_v_db") if key in row]
    return ", ".join("exact" if value is None else f"{value:.1f}" for value in found)


def write_up(row):
    if "writeup_bytes" not in row:
        return ""
    return f"{mib(row['writeup_bytes'])} MiB, {row['writeup_ratio']:.2f} x [1]"


def synthetic_row(row):
    return [row["name"], " x ".join(str(n) for n in row["shape"]),
            "one" if row["tensors"] == "one" else "K and V", str(row["level"]),
            mib(row["bytes_16bit"]), mib(row["pool_bytes"]), mib(row["saved_bytes"]),
            f"{row['ratio']:.2f}", decibels(row), write_up(row)]


def synthetic_table(lines):
    found = select(lines, kind="synthetic")
    if not found:
        return None
    return Table("The synthetic table",
                 "`kvq bench synthetic`: bytes in the pool, everything counted. Sizes in MiB; shapes are "
                 f"batch x heads x tokens x head_dim. Seed {found[0]['seed']}. "
                 f"{found[0]['generator']} {found[0]['footnote']}",
                 ["", "shape", "tensors", "level", "16-bit", "pool", "saved", "ratio", "dB",
                  "the write-up's"], [synthetic_row(row) for row in found[0]["rows"]])


def bench_tables(machine, lines):
    tables = [checks_table(lines), *throughput_tables(lines), other_throughput_table(lines),
              copies_table(lines), raw_table(lines), latency_table(lines), idle_table(lines),
              codec_table(lines), synthetic_table(lines), machine_table(machine, lines)]
    return [table for table in tables if table and table.rows]
