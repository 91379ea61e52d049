"""The tables of `make bench-peers`, from the lines of bench_peers."""

import figures
from figures import select, speed
from tables import Table, machine_table


def contenders(lines):
    """Each contender's name, level and variant, in the order measured."""
    found = select(lines, kind="throughput")
    return list(dict.fromkeys((line["contender"], line["level"], line["variant"]) for line in found))


def lines_of(lines, key, connections):
    """Its append and its fetch."""
    name, level, variant = key
    return [select(lines, kind="throughput", contender=name, level=level, variant=variant,
                   operation=operation, connections=connections)[0]
            for operation in ("append", "fetch")]


def raw_of(lines, connections):
    return lines_of(lines, ("raw", "", ""), connections)


def seconds_of(lines, key, connections):
    """Append and fetch of the same bytes, one after the other."""
    return sum(line["bytes"] / speed(line) for line in lines_of(lines, key, connections))


def best(lines, name, connections):
    keys = [key for key in contenders(lines) if key[0] == name]
    return min(keys, key=lambda key: seconds_of(lines, key, connections))


def chosen(lines, connections):
    """The raw socket, kvq at each level, and each neighbour's best settings."""
    keys = [key for key in contenders(lines) if key[0] in ("raw", "kvq")]
    names = dict.fromkeys(key[0] for key in contenders(lines))
    return keys + [best(lines, name, connections) for name in names if name not in ("raw", "kvq")]


def label(key):
    name, level, _ = key
    return {"raw": "raw socket", "kvq": f"kvq {level}"}.get(name, name)


def of_bytes(line, key):
    """Memory a byte of the sessions; empty where nobody tells."""
    return "" if line[key] is None else f"{line[key] / line['bytes']:.2f}"


def row(lines, key, connections):
    append, fetch = lines_of(lines, key, connections)
    raw_append, raw_fetch = raw_of(lines, connections)
    return [label(key), "" if key[0] in ("raw", "kvq") else key[2],
            f"{speed(append):.2f}", f"{speed(fetch):.2f}",
            f"{figures.fraction(raw_append, append):.3f}", f"{figures.fraction(raw_fetch, fetch):.3f}",
            f"{append['bytes'] / append['first_seconds'] / 1e9:.2f}",
            of_bytes(append, "used_bytes"), of_bytes(append, "rss_bytes")]


COLUMNS = ["", "settings", "append", "fetch", "append of raw", "fetch of raw",
           "first append", "RAM counted", "RAM resident"]


def chart(lines, connections):
    groups = []
    for key in chosen(lines, connections):
        append, fetch = lines_of(lines, key, connections)
        groups.append({"label": label(key), "bars": [{"label": "append", "value": speed(append)},
                                                     {"label": "fetch", "value": speed(fetch)}]})
    return {"unit": "GB/s", "bars": "operation", "groups": groups}


def ram_chart(lines, connections):
    groups = []
    for key in chosen(lines, connections):
        append, _ = lines_of(lines, key, connections)
        if append["used_bytes"]:
            value = append["used_bytes"] / append["bytes"]
            groups.append({"label": label(key), "bars": [{"label": "counted", "value": value}]})
    return {"unit": "of the 16-bit bytes", "bars": "RAM", "groups": groups}


def connection_counts(lines):
    return sorted({line["connections"] for line in select(lines, kind="throughput")})


def words_of(connections):
    return {1: "one connection", 2: "two connections"}.get(connections, f"{connections:.0f} connections")


def best_tables(lines):
    for connections in connection_counts(lines):
        yield Table(f"Over a unix socket, {words_of(connections)}",
                    "GB/s of 16-bit data, each neighbour with its best settings and size of value (all "
                    "are below). kvq's appends settle; its levels below `exact` lose what README says. "
                    "RAM: bytes for each byte of the sessions, as the store counts them and as the "
                    "system does; kvq's without what it touches ahead.",
                    COLUMNS, [row(lines, key, connections) for key in chosen(lines, connections)],
                    chart(lines, connections))


def ram_table(lines):
    connections = connection_counts(lines)[0]
    rows = [[group["label"], f"{group['bars'][0]['value']:.2f}"]
            for group in ram_chart(lines, connections)["groups"]]
    return Table("RAM for the same sessions", "Bytes for each byte of 16-bit data, as each store counts "
                 "them.", ["", "RAM counted"], rows, ram_chart(lines, connections))


def all_tables(lines):
    for connections in connection_counts(lines):
        rows = [row(lines, key, connections) for key in contenders(lines)
                if key[0] not in ("raw", "kvq")]
        yield Table(f"All that was tried, {words_of(connections)}",
                    "Pages are values of 256 KiB (128 tokens of one layer's K or V), chunks of 16 MiB "
                    "(128 tokens of all layers). In flight: how many values are asked for at a time, "
                    "one where it does not say; values are sent without waiting.", COLUMNS, rows)


def settings_table(lines, versions):
    programs = dict.fromkeys((line["program"], line["settings"])
                             for line in select(lines, kind="peer"))
    rows = [[program, versions.get(program, "unknown"), settings] for program, settings in programs]
    return Table("The neighbours", "From Debian. The client is the bench's own: it sends values from "
                 "where they stand and receives them in place, as libhiredis and libmemcached do not.",
                 ["program", "version", "settings of all"], rows)


def peers_tables(machine, lines):
    known, = select(lines, kind="versions")
    return [*best_tables(lines), ram_table(lines), *all_tables(lines), settings_table(lines, known),
            machine_table(machine, lines)]
