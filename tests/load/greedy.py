"""A tenant that takes what it gets: python greedy.py SOCKET TOKEN FETCHERS APPENDERS OPENERS.

Fetchers keep 64 fetches of 8 MiB under way each, appenders store sessions without end, openers open and delete
with 64 requests under way. One line, "ready", is printed when all have begun; it goes on until it is ended.
"""

import itertools
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))

from wire import (CLOSING_TYPES, DELETE, FETCH, HEADER, OPEN, PING, Connection, Refused, encode,  # noqa: E402
                  frame)
from wire_support import LARGE, TINY, append, bits  # noqa: E402

UNDER_WAY = 64


def pipeline(connection, requests):
    """Keeps so many of the requests, which have no end, under way; what comes of them is thrown away."""
    sink = bytearray(1 << 21)
    for request in itertools.islice(requests, UNDER_WAY):
        connection.send(request)
    while True:
        _, _, type, _, _, control, payload = HEADER.unpack(connection.receive_bytes(HEADER.size))
        view = memoryview(sink)[:control + payload]
        while view:
            view = view[connection.socket.recv_into(view) or sys.exit():]
        if type in CLOSING_TYPES:
            connection.send(next(requests))


def fetch(connection, number):
    session = b"fetched %d" % number
    append(connection.open(session, geometry=LARGE, level=3), bits(LARGE, 128, number), settle=True)
    message = encode("FetchRequest", session=session)
    return lambda: pipeline(connection, (frame(FETCH, id, message) for id in itertools.count(1000)))


def store(connection, number):
    arrays = bits(LARGE, 128, number)

    def run():
        for at in itertools.count():
            try:
                append(connection.open(b"stored %d %d" % (number, at), geometry=LARGE, level=-1), arrays, wait_ms=50)
            except Refused as error:
                assert error.name in ("quota", "full"), error
    return run


def churn(connection, number):
    def requests():
        for id in itertools.count(1000, 2):
            name = b"opened %d %d" % (number, id % 1000)
            yield frame(OPEN, id, encode("OpenRequest", session=name, model=b"m", geometry=TINY))
            yield frame(DELETE, id + 1, encode("DeleteRequest", session=name))
            yield frame(PING, id + 1_000_001, b"")
    return lambda: pipeline(connection, requests())


def main(address, token, *counts):
    threads = []
    for kind, count in zip((fetch, store, churn), counts):
        for number in range(int(count)):
            connection = Connection(address, token=bytes.fromhex(token))
            threads.append(threading.Thread(target=kind(connection, number), daemon=True))
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
