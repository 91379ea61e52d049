"""Replays a trace's requests against a daemon with a pool of a given size, one after the other: finds the
longest stored prefix of each, forks it, fetches it, checks what came, and appends the rest."""

import collections
import contextlib
import dataclasses
import pathlib
import subprocess
import tempfile
import time

import kvquantd
from measure import await_socket
from trace_requests import BLOCK_TOKENS
from trace_values import BLOCK_BYTES, PAGE_TOKENS, Values, geometry, room, token_ids

PIECE_BLOCKS = 16  # of a fetch or an append
CHECKED_WHOLE = 16  # of so many pieces one's whole loss is compared with the one reported
SLACK_DB, ESTIMATE_SLACK_DB = 0.05, 1  # what is told is that near to what is measured, or estimated
MODEL = "trace"


@contextlib.contextmanager
def private_daemon(program, memory_bytes, settings):
    """A client of a daemon that runs as long as this; settings are those of its configuration file."""
    with tempfile.TemporaryDirectory(prefix="kvq-trace.") as folder:
        path, config = f"{folder}/kvquantd.sock", pathlib.Path(folder, "kvquantd.conf")
        settings = {"socket": path, "memory": memory_bytes, "log_level": "warning", **settings}
        config.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        command = [program, "--config", config]
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            await_socket(daemon, path)
            with kvquantd.connect(path) as client:
                yield client
        finally:
            daemon.terminate()
            daemon.wait()


def limit_for(program, pool_bytes, settings):
    """The memory limit that leaves so much for what is stored. The daemon's own buffers grow with the
    limit, up to some 100 MB: from a limit that is too large this comes down to the one that fits."""
    limit = 2 * pool_bytes + (64 << 20)
    while True:
        with private_daemon(program, limit, settings) as client:
            wanted = pool_bytes + client.status()["memory"]["fixed_bytes"]
        if wanted >= limit:
            return wanted
        limit = wanted


@dataclasses.dataclass
class Outcome:
    """What a replay came to. Tokens are the trace's."""

    requests: int = 0
    asked_tokens: int = 0
    saved_tokens: int = 0
    requests_hit: int = 0  # beyond the block with which every request begins
    tokens_by_level: dict = dataclasses.field(default_factory=dict)
    refused: int = 0
    wrong_blocks: int = 0
    beyond_loss: int = 0
    held_blocks: int = 0  # at the end
    held_bytes: int = 0

    def add(self, request, hit_blocks):
        self.requests += 1
        self.asked_tokens += request.tokens
        self.saved_tokens += hit_blocks * BLOCK_TOKENS
        self.requests_hit += hit_blocks > 1


class Replay:
    def __init__(self, client):
        self.client, self.outcome = client, Outcome()
        self.values = self.stored_values = Values()
        self.pair, self.pieces, self.names = room(PIECE_BLOCKS), 0, 0

    def run(self, requests):
        for request in requests:
            self.outcome.add(request, self.serve(request.blocks))
        self.account()
        return self.outcome

    def serve(self, blocks):
        """How many of its blocks came from the store."""
        session, count = self.find(blocks)
        hit = self.fetch(session, blocks[:count]) if session else 0
        if len(blocks) > count:
            self.store(session, blocks)
        return hit

    def find(self, blocks):
        """A session with as many of the first blocks as there are, and nothing else if it will grow."""
        while match := self.client.match(token_ids(blocks), MODEL):
            (name, tokens), count = match, match[1] // PAGE_TOKENS
            with contextlib.suppress(kvquantd.Miss, kvquantd.VersionChanged):  # evicted since
                session = self.client.open(name)
                if count < len(blocks) and tokens < match.session_tokens:
                    session = session.fork(self.new_name(), tokens, if_version=match.version)
                return session, count
        return None, 0

    def new_name(self):
        self.names += 1
        return f"chat-{self.names}"

    def fetch(self, session, blocks):
        """How many blocks came: less than asked if the rest is evicted meanwhile."""
        for first in range(0, len(blocks), PIECE_BLOCKS):
            piece = blocks[first:first + PIECE_BLOCKS]
            tokens = range(first * PAGE_TOKENS, (first + len(piece)) * PAGE_TOKENS)
            out = [part[:, :len(tokens)] for part in self.pair]
            try:
                self.check(piece, session.fetch(tokens, out=tuple(out)))
            except kvquantd.Miss:
                return first
        return len(blocks)

    def check(self, blocks, fetched):
        outcome = self.outcome
        for row in fetched.levels:
            level, tokens = str(row["level"]), row["tokens"] * BLOCK_TOKENS // PAGE_TOKENS
            outcome.tokens_by_level[level] = outcome.tokens_by_level.get(level, 0) + tokens
        outcome.wrong_blocks += self.values.others(blocks, fetched)
        self.pieces += 1
        if self.pieces % CHECKED_WHOLE == 0:
            slack = ESTIMATE_SLACK_DB if fetched.estimated else SLACK_DB
            kept = zip(self.values.decibels(blocks, fetched), (fetched.snr_k_db, fetched.snr_v_db))
            outcome.beyond_loss += any(found < (told or float("inf")) - slack for found, told in kept)

    def store(self, session, blocks):
        """Appends those that the session has not; without one, or if it is evicted, to a new one."""
        held = self.held_blocks(session)
        if held == 0:
            session = self.client.open(self.new_name(), model=MODEL, geometry=geometry(), sharing="ids")
        for first in range(held, len(blocks), PIECE_BLOCKS):
            piece = blocks[first:first + PIECE_BLOCKS]
            values = self.stored_values.fill(piece, self.pair)
            try:
                session.append(*values, token_ids=token_ids(piece), settle=True)
            except (kvquantd.Full, kvquantd.Miss, kvquantd.WrongFirst):
                self.outcome.refused += 1
                return

    @staticmethod
    def held_blocks(session):
        with contextlib.suppress(kvquantd.Miss):
            if session:
                session.refresh()
                return session.tokens // PAGE_TOKENS
        return 0

    def account(self):
        status = self.client.status()
        memory = status["memory"]
        self.outcome.held_blocks = sum(row["tokens"] for row in status["levels"]) // PAGE_TOKENS
        self.outcome.held_bytes = sum(memory[f"{kind}_bytes"] for kind in ("pages", "tails", "sessions"))


def replay(program, requests, settings, pool_bytes):
    """The line of a run."""
    start = time.monotonic()
    with private_daemon(program, limit_for(program, pool_bytes, settings), settings) as client:
        outcome = Replay(client).run(requests)
    return {**dataclasses.asdict(outcome), "seconds": time.monotonic() - start}


def replay_lru(requests, pool_bytes, block_bytes=BLOCK_BYTES):
    """The same for whole blocks of a fixed size of which the least recently used goes first; a request
    uses its last block first, so that a prefix goes from its end."""
    held, outcome = collections.OrderedDict(), Outcome()
    for request in requests:
        hit = next((i for i, block in enumerate(request.blocks) if block not in held), len(request.blocks))
        outcome.add(request, hit)
        for block in reversed(request.blocks):
            held[block] = None
            held.move_to_end(block)
        while len(held) * block_bytes > pool_bytes:
            held.popitem(last=False)
    outcome.held_blocks, outcome.held_bytes = len(held), len(held) * int(block_bytes)
    return dataclasses.asdict(outcome)
