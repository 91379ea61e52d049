"""kill -9 at any moment: what was acknowledged as on disk is there exactly, the rest is a prefix or a miss."""

import random
import threading
import time

import pytest
from disk_support import disk, values
from wire import EXACT, ON_DISK, Closed
from wire_support import SMALL, append, assert_holds

__all__ = ["disk"]
SESSIONS, ROUNDS = 3, 6


class Writer:
    """Appends, cuts and deletes one durable session, and knows what was acknowledged and what was asked."""

    def __init__(self, name, seed):
        self.name, self.seed, self.random = name, seed, random.Random(seed)
        self.acknowledged, self.asked = 0, {0}

    def run(self, disk):
        try:
            with disk.connect() as connection:
                session = connection.open(self.name, geometry=SMALL, level=EXACT, durability=ON_DISK)
                while True:
                    self.step(session)
        except (Closed, OSError):
            pass

    def step(self, session):
        tokens = self.random.choice((1, 5, 100, 128, 200))
        if session.tokens + tokens > 1500:
            self.asked = {self.acknowledged, 200}
            session.truncate(200)
        else:
            self.asked = {self.acknowledged, session.tokens + tokens}
            whole = values(session.tokens + tokens, self.seed)
            append(session, tuple(part[:, session.tokens:] for part in whole))
        self.acknowledged = session.tokens
        self.asked = {self.acknowledged}


@pytest.mark.parametrize("key", [False, True], ids=["plain", "encrypted"])
def test_what_was_acknowledged_is_there_after_each_kill(disk, tmp_path, key):
    options = {}
    if key:
        options["disk_key"] = tmp_path / "key"
        options["disk_key"].write_bytes(bytes(range(32)))
        options["disk_key"].chmod(0o600)
    disk.start(**options)
    writers = [Writer(b"%d" % number, number) for number in range(SESSIONS)]
    for number in range(ROUNDS):
        threads = [threading.Thread(target=writer.run, args=(disk,)) for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(0.05 + 0.1 * random.Random(number).random())
        disk.daemon.kill()
        for thread in threads:
            thread.join()
        disk.start(**options)
        with disk.connect() as connection:
            for writer in writers:
                if max(writer.asked) == 0:
                    continue
                session = connection.open(writer.name, geometry=SMALL, level=EXACT, mode=0)
                assert session.tokens in writer.asked
                assert_holds(session, values(session.tokens, writer.seed))
                writer.acknowledged = session.tokens
                writer.asked = {session.tokens}
