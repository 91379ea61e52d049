"""The texts whose KV caches are stored: of six kinds, from this checkout, Debian and Python's library."""

import dataclasses
import hashlib
import pathlib
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON_LIBRARY = pathlib.Path(sysconfig.get_path("stdlib"))
LICENCES = pathlib.Path("/usr/share/common-licenses")


@dataclasses.dataclass
class Text:
    name: str
    content: str

    @property
    def sha256(self):
        return hashlib.sha256(self.content.encode()).hexdigest()

    def tokens(self, model, count):
        """Its first `count` tokens."""
        ids = model.encode(self.content)
        if len(ids) < count:
            raise SystemExit(f"{self.name}: {len(ids):,} tokens, {count:,} are needed")
        return ids[:count]


def read(path):
    try:
        return pathlib.Path(path).read_text(errors="ignore")
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None


def of_files(name, *paths):
    return Text(name, "\n".join(read(path) for path in paths))


def manual_prose():
    """Python's language reference, as its help() has it."""
    from pydoc_data.topics import topics

    return Text("manual prose", "\n".join(topics[name] for name in sorted(topics)))


def default_texts():
    return [
        of_files("documentation", *(ROOT / name for name in (
            "proto/wire/PROTOCOL.md", "proto/page/FORMAT.md", "README.md"))),
        of_files("C source", *sorted((ROOT / "daemon/store").glob("*.c"))),
        of_files("licences", LICENCES / "GPL-3", LICENCES / "Apache-2.0"),
        manual_prose(),
        of_files("Python source", PYTHON_LIBRARY / "argparse.py"),
        of_files("table", "/usr/share/zoneinfo/zone1970.tab"),
    ]
