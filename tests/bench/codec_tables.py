"""The codec report's tables: speeds against memcpy, bits a value, and what is aimed at."""

from figures import select
from tables import Table

LEVEL_NAMES = {-2: "exact", -1: "fast8"}
WHERE = {"memory": "from memory to memory", "cache": "in cache",
         "repeated": "from memory, four pages over and over"}

# (kernels, levels, decode or age, encode): fractions of memcpy's speed, from memory to memory.
SPEED_AIMS = [
    ("avx512", (-1,), 1.5, 1.0), ("avx512", (3, 4), 0.85, 0.42), ("avx512", (2,), 0.8, 0.4),
    ("avx512", (1,), 0.65, 0.4), ("avx512", (-2,), 0.5, 0.35), ("avx2", (3, 4), 0.4, 0.2),
    ("portable", (3, 4), 0.12, 0.05),
]
AGE_AIM = ("avx512", (0, 1, 2, 3, 4), 0.45)
# Bits a value of SmolLM2, 1,024 tokens, by dtype and level.
BITS_AIMS = [("f16", 1, 5.25), ("f16", 2, 4.25), ("f16", 3, 3.27), ("f16", 4, 2.33), ("f16", 5, 1.45),
             ("f16", -2, 13.5), ("bf16", -2, 10.5), ("f16", -1, 8.35)]


def level_name(level):
    return LEVEL_NAMES.get(level, f"level {level:.0f}")


def number(value, digits=2):
    return "" if value is None else f"{value:.{digits}f}"


def fraction(line, operation):
    return line.get(f"{operation}_of_memcpy")


def best_decode(line):
    """Pages are fetched in pairs."""
    return fraction(line, "pair")


def copies_beside(lines, line):
    same = {key: line[key] for key in ("kernels", "placement", "data", "dtype")}
    return select(lines, kind="codec copies", **same)[0]


def groups_of(lines):
    return list(dict.fromkeys((line["placement"], line["data"], line["dtype"], line["kernels"])
                              for line in select(lines, kind="codec")))


def speed_row(line):
    cells = [level_name(line["level"]), number(line["bits_per_value"])]
    for operation in "encode", "decode", "pair", "age", "age_pair":
        cells.append(number(line.get(f"{operation}_gb_per_second")))
        cells.append(number(fraction(line, operation), 3))
    return cells


def speed_table(lines, group):
    placement, data, dtype, kernels = group
    found = select(lines, kind="codec", placement=placement, data=data, dtype=dtype, kernels=kernels)
    copies = copies_beside(lines, found[0])
    streaming = copies.get("streaming_gb_per_second")
    beside = (f"; a copy with streaming stores {streaming:.2f} GB/s, "
              f"{copies['streaming_of_memcpy']:.2f} of memcpy" if streaming else "")
    shape = f"{found[0]['heads']:.0f}x{found[0]['head_dim']:.0f}"
    return Table(f"{kernels}: {data} {shape} {dtype}, {WHERE[placement]}",
                 f"{found[0]['pages']:.0f} pages; memcpy {copies['memcpy_gb_per_second']:.2f} GB/s{beside}.",
                 ["level", "bits", "encode", "of memcpy", "decode", "of memcpy", "in pairs", "of memcpy",
                  "ageing", "of memcpy", "in pairs", "of memcpy"], [speed_row(line) for line in found])


def aim_row(name, line, operation, least, found):
    if found is None:
        return [name, line["data"], operation, "not measured", f"{least:.2f}", ""]
    return [name, line["data"], operation, number(found, 3), f"{least:.2f}",
            "PASS" if found >= least else "MISS"]


def speed_aims_table(lines):
    rows = []
    in_memory = select(lines, kind="codec", placement="memory", dtype="f16")
    for kernels, levels, decode, encode in SPEED_AIMS:
        for line in [line for line in in_memory if line["kernels"] == kernels and line["level"] in levels]:
            name = f"{level_name(line['level'])}, {kernels}"
            rows.append(aim_row(name, line, "decode in pairs", decode, best_decode(line)))
            rows.append(aim_row(name, line, "encode", encode, fraction(line, "encode")))
    kernels, levels, least = AGE_AIM
    for line in [line for line in in_memory if line["kernels"] == kernels and line["level"] in levels]:
        name = f"{level_name(line['level'])}, {kernels}"
        rows.append(aim_row(name, line, "ageing by one level, in pairs", least, fraction(line, "age_pair")))
    missing = {aim[0] for aim in SPEED_AIMS} - {line["kernels"] for line in in_memory}
    note = f" Not on this processor or not built: {', '.join(sorted(missing))}." if missing else ""
    return Table("What is aimed at: speed", "Fractions of glibc's memcpy of the same 16-bit values, page by "
                 "page from memory to memory in the same rounds." + note,
                 ["level, kernels", "values", "", "of memcpy", "at least", ""], rows)


def bits_aims_table(lines):
    rows = []
    for dtype, level, most in BITS_AIMS:
        for line in select(lines, kind="codec", data="real", placement="memory", dtype=dtype,
                           level=level)[:1]:
            found = line["bits_per_value"]
            rows.append([level_name(level), dtype, f"{found:.3f}", f"{most:.2f}",
                         "PASS" if found <= most else "MISS"])
    return Table("What is aimed at: bits a value", "SmolLM2, sequences of 1,024 tokens: all bytes of the "
                 "pages (headers, sinks, side information).",
                 ["level", "dtype", "bits a value", "at most", ""], rows)


def machine_table(data):
    rows = [[key, str(value)] for key, value in data["machine"].items() if key != "load"]
    names = dict.fromkeys(line["kernels"] for line in data["lines"])
    rows += [["load average at the start", f"{data['machine']['load']:.2f}"],
             ["kernels measured", ", ".join(names)],
             ["values of a pass from memory", f"{data['mib']} MiB"]]
    return Table("The machine", "", ["", ""], rows)


def tables_of(data):
    lines = data["lines"]
    made = [speed_aims_table(lines), bits_aims_table(lines),
            *(speed_table(lines, group) for group in groups_of(lines)), machine_table(data)]
    return [table for table in made if table.rows]
