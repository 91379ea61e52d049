"""How long a restart takes that loses nothing: out of the memory that a service manager keeps, and from disk.

Fills a daemon with so many GiB of pages, ends it with SIGTERM, starts the next one, and checks a session of it byte
for byte. Prints a table; the memory limit is a quarter above what is stored.
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

from conftest import Daemon  # noqa: E402
from manager_support import POOL, Service  # noqa: E402
from wire import EXACT, OPEN_EXISTING, Geometry  # noqa: E402
from wire_support import assert_holds, bits, packed  # noqa: E402

MODEL = Geometry(layers=32, heads=8, head_dim_k=128, head_dim_v=128)  # 128 KiB a token, 16 MiB a chunk
TOKENS = 1032  # with a tail


def values():
    """Random bits, but none of infinity or NaN: those take long to code."""
    return tuple(part & 0xBFFF for part in bits(MODEL, TOKENS))


def fill(connection, stored_bytes):
    """Sessions of the same values until pages take so much; how many."""
    rows, count = packed(values()), 0
    while connection.stats().memory.pages_bytes < stored_bytes:
        connection.open(b"%d" % count, geometry=MODEL, level=EXACT).append(TOKENS, rows)
        count += 1
    return count


class Starter:
    """Starts daemons as the fixture of that name does."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0

    def __call__(self, memory, arguments, kept, environment):
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        return Daemon(folder, memory, arguments, environment, kept=kept)


def restart(gib, disk_folder, by_disk):
    """Seconds to end, to start until a session answers, and of the latter those that the daemon tells."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=disk_folder) as disk, \
            contextlib.ExitStack() as stack:
        service = Service(Starter(pathlib.Path(folder)), pathlib.Path(folder))
        stack.callback(service.manager.close)
        options = {"disk": disk, "disk_size": f"{2 * gib + 1}G"} if by_disk else {}
        service.start(memory=f"{gib * 1280 + 256}M", **options)
        with service.connect() as connection:
            count = fill(connection, gib << 30)
        begun = time.monotonic()
        assert service.daemon.stop() == 0
        ended = time.monotonic()
        if by_disk:
            service.manager.catch_up()
            service.manager.drop(POOL)
        service.start(memory=f"{gib * 1280 + 256}M", **options)
        with service.connect() as connection:
            session = connection.open(b"0", mode=OPEN_EXISTING)
            started = time.monotonic()
            took = connection.stats().takeover.took_us / 1e6
            assert_holds(session, values())
            assert connection.stats().sessions == count
        stack.callback(service.daemon.kill)
        return ended - begun, started - ended, took


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=int, default=1, help="of pages in memory (1)")
    parser.add_argument("--disk-folder", help="where the disk's files go (a temporary folder)")
    parser.add_argument("--no-disk", action="store_true", help="by memory alone")
    options = parser.parse_args()
    print("| restart by | GiB | ends in s | starts in s | of that takeover s |\n|---|---|---|---|---|")
    for by_disk in (False,) if options.no_disk else (False, True):
        ends, starts, took = restart(options.gib, options.disk_folder, by_disk)
        print(f"| {'disk' if by_disk else 'memory'} | {options.gib} | {ends:.2f} | {starts:.2f} | {took:.3f} |")


main()
