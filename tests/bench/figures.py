"""From lines (measure.py) to figures: speeds, fractions of a neighbour, and what must hold."""

import statistics

PING_RATIO_MAX = 1.5
IDLE_CONNECTION_BYTES_MAX = 8 << 10
TWO_CONNECTIONS_SLACK = 0.1
OF_RAW_MIN = [("fetch", "fast8", "settled", 0.75), ("fetch", "3", "settled", 0.6),
              ("append", "3", "at once", 0.5)]
QUIET_SPREAD_MAX = 0.25
QUIET_LOAD_MAX = 0.5


def select(lines, **wanted):
    """The lines that have all these values."""
    return [line for line in lines if all(line.get(key) == value for key, value in wanted.items())]


def speed(line, key="seconds"):
    """GB/s of 16-bit data: the median of the samples."""
    return line["bytes"] / statistics.median(line[key]) / 1e9


def spread(samples):
    """The middle half's width over the median: 0.1 is 10 %."""
    if len(samples) < 4:
        return (max(samples) - min(samples)) / statistics.median(samples)
    quarter, median, three_quarters = statistics.quantiles(samples, n=4)
    return (three_quarters - quarter) / median


def neighbour(lines, line):
    """The raw store's line of the same rounds."""
    same = {key: line[key] for key in
            ("level", "variant", "shape", "transport", "connections", "operation")}
    return select(lines, kind="throughput", contender="raw", **same)[0]


def fraction(raw, line):
    """What it reaches of the raw store's speed: the median over samples taken one after the other."""
    return statistics.median(r / k for r, k in zip(raw["seconds"], line["seconds"]))


def copy_speed(lines, name, threads):
    """Over all its samples; None where it was not measured."""
    found = select(lines, kind="copy", contender=name, threads=threads)
    if not found:
        return None
    return found[0]["bytes"] / statistics.median(s for line in found for s in line["seconds"]) / 1e9


def block_ratio(lines, **wanted):
    """kvq against raw: the median over blocks taken one after the other."""
    raw, = select(lines, kind="latency", contender="raw", **wanted)
    kvq, = select(lines, kind="latency", contender="kvq", **wanted)
    return statistics.median(k / r for r, k in zip(raw["block_medians"], kvq["block_medians"]))


def latency_placements(lines):
    return list(dict.fromkeys(line["placement"] for line in select(lines, kind="latency")))


class Check:
    """A figure with the bound that it must keep."""

    def __init__(self, name, measured, bound, passed):
        self.name, self.measured, self.bound, self.passed = name, measured, bound, passed

    @property
    def verdict(self):
        return "PASS" if self.passed else "MISS"


def ping_checks(lines):
    for placement in latency_placements(lines):
        ratio = block_ratio(lines, operation="ping", placement=placement, transport="unix")
        where = "on one core" if placement == "together" else "a core each"
        yield Check(f"ping p50 against a raw ping-pong, {where}", f"{ratio:.2f}",
                    f"at most {PING_RATIO_MAX}", ratio <= PING_RATIO_MAX)


def idle_checks(lines):
    for line in select(lines, kind="idle"):
        yield Check(f"processor ticks of an idle daemon in {line['seconds']:.0f} s",
                    f"{line['cpu_ticks']:.0f}", "0", line["cpu_ticks"] == 0)
        for key, what in ("rss_bytes_each", "resident"), ("used_bytes_each", "counted"):
            yield Check(f"{what} memory of an idle connection, of {line['connections']:.0f}",
                        f"{line[key]:.0f} B", f"at most {IDLE_CONNECTION_BYTES_MAX} B",
                        line[key] <= IDLE_CONNECTION_BYTES_MAX)


def connection_fraction(lines, operation, connections, level="fast8", variant="settled"):
    found = select(lines, kind="throughput", contender="kvq", level=level, variant=variant,
                   shape="8x128", transport="unix", operation=operation, connections=connections)
    return fraction(neighbour(lines, found[0]), found[0]) if found else None


def of_raw_checks(lines):
    """Of one connection; with AVX-512, of which the machine's table tells."""
    for operation, level, variant, least in OF_RAW_MIN:
        found = connection_fraction(lines, operation, 1, level, variant)
        if found is None:
            continue
        name = level if level == "fast8" else f"level {level}"
        behind = ", coded behind the reply" if variant == "at once" else ""
        yield Check(f"{operation} at {name}{behind}, of a raw socket", f"{found:.3f}",
                    f"at least {least} (with AVX-512)", found >= least)


def two_connections_checks(lines):
    for operation in "append", "fetch":
        one = connection_fraction(lines, operation, 1)
        two = connection_fraction(lines, operation, 2)
        if one is None or two is None:
            continue
        least = one - TWO_CONNECTIONS_SLACK
        yield Check(f"{operation} at fast8 over two connections, of the raw socket's two",
                    f"{two:.3f}", f"at least {least:.3f} (one: {one:.3f})", two >= least)


def checks(lines):
    return [*ping_checks(lines), *idle_checks(lines), *of_raw_checks(lines),
            *two_connections_checks(lines)]


def warnings(machine, lines):
    """Why these figures may not be the machine's best."""
    found = []
    if machine["load"] > QUIET_LOAD_MAX:
        found.append(f"The machine was not quiet: load average {machine['load']:.2f} at the start.")
    noisy = [line for line in select(lines, kind="throughput", contender="raw")
             if spread(line["seconds"]) > QUIET_SPREAD_MAX]
    total = len(select(lines, kind="throughput", contender="raw"))
    if noisy:
        found.append(f"The raw socket's own speed varied by more than {QUIET_SPREAD_MAX:.0%} in "
                     f"{len(noisy)} of {total} measurements: trust fractions more than GB/s.")
    found += [f"Not measured, the program failed: {line['what']}."
              for line in select(lines, kind="failed")]
    return found
