"""The status page in a real browser: what it shows, that nothing runs but its own script, and that it fits."""

import contextlib
import html
import http.server
import re
import shutil
import subprocess
import threading

import pytest
from monitor_support import ask, monitored  # noqa: F401
from wire import Connection
from wire_support import TINY, WIDE, append, gaussian_bits, refused, stored

HOSTILE = ["<script>document.title='run'</script>", "<img src=x onerror=\"document.title='run'\">", "\"><b>bold</b>",
           "' onmouseover='document.title=1", "</script><script>document.title='run'</script>", "{{7*7}}${7*7}",
           "javascript:document.title='run'", "\u202egnp.exe", "\u2028document.title='run'", "&lt;already&gt;"]


class Proxy(http.server.BaseHTTPRequestHandler):
    """As one leads from a port to the daemon's unix socket: a browser takes no path."""

    def do_GET(self):
        answer = ask(self.server.metrics, self.path)
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Security-Policy", "X-Content-Type-Options"):
            self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.text.encode())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(handler, **attributes):
    """The URL of a server of this handler's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        vars(server).update(attributes)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "http://127.0.0.1:%d/" % server.server_address[1]
        server.shutdown()


def browse(url, *options):
    """What the page is after its first answer, and what the console said."""
    program = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))))
    done = subprocess.run([program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                           "--virtual-time-budget=4000", "--dump-dom", *options, url], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, re.findall(r":CONSOLE[:(].*", done.stderr)


def show(daemon, *options):
    with serving(Proxy, metrics=daemon.metrics) as url:
        return browse(url, *options)


def body_of(page, id):
    return re.search(rf'<tbody id="{id}">(.*?)</tbody>', page, re.S)[1]


@pytest.fixture
def busy(monitored):
    """With sessions of several levels, hits and misses."""
    with Connection(monitored.socket) as connection:
        for level in (-2, 1, 3, 5):
            session = connection.open(b"level %d" % level, geometry=WIDE, level=level)
            append(session, gaussian_bits(WIDE, 200), settle=True)
            session.fetch()
        with refused("miss"):
            connection.fetch(b"nobody")
    return monitored


def test_all_of_it_is_shown_and_the_console_is_silent(busy):
    page, console = show(busy)
    assert console == []
    assert 'data-ready="yes"' in page and ">live<" in page
    assert page.count("<svg ") == 5 and page.count("<polygon ") >= 4 and page.count("<rect ") > 4
    assert [html.unescape(name) for name in re.findall(r'<td class="name" title="([^"]*)"', page)] == [
        "level -2", "level 1", "level 3", "level 5"]
    assert 'id="hits">80.0 %' in page and 'id="sessions">4<' in page
    for operation in ("append", "fetch", "open"):
        assert f">{operation}</td>" in body_of(page, "operations")


def test_an_empty_daemon_says_so_in_words(monitored):
    page, console = show(monitored)
    assert console == []
    assert "No sessions" in body_of(page, "largest") and "Nothing has been coded yet" in page
    shown = page.split("<script")[0]
    assert not [word for word in ("NaN", "undefined", "Infinity", "null") if word in shown]


def test_names_of_sessions_are_text_whatever_they_say(monitored):
    with Connection(monitored.socket) as connection:
        for name in HOSTILE:
            stored(connection, name.encode(), TINY, 5)
    page, console = show(monitored)
    assert console == []
    assert "<title>KVQuant</title>" in page
    assert page.count("<script") == 1 and "<img" not in page and "<b>bold" not in page
    shown = re.findall(r'<td class="name"[^>]*>(.*?)</td>', body_of(page, "largest"), re.S)
    assert sorted(map(html.unescape, shown)) == sorted(HOSTILE)


def test_the_browser_would_run_a_script_without_the_policy(tmp_path):
    """That the console is seen, and that the test above can fail."""
    path = tmp_path / "page.html"
    path.write_text("<title>KVQuant</title><img src=x onerror=\"document.title='run'; console.error('heard')\">")
    page, console = browse(path.as_uri())
    assert "<title>run</title>" in page and "heard" in "".join(console)


def test_what_was_slipped_into_the_page_would_not_run(monitored):
    """The policy that comes with the page, over a page with a stranger's script in it."""
    policy = ask(monitored.metrics, "/").headers["Content-Security-Policy"]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Security-Policy", policy)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>kept</title><script>document.title='run'</script>"
                             b"<img src=x onerror=\"document.title='run'\">")

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        page, console = browse(url)
    assert "<title>kept</title>" in page
    assert len([line for line in console if "Content Security Policy" in line]) >= 2


def test_on_a_port_of_its_own_names_are_withheld_and_all_else_is_shown(start_monitored):
    daemon = start_monitored(metrics="127.0.0.1:0")
    with Connection(daemon.socket) as connection:
        stored(connection, b"a secret name", TINY, 5)
    page, console = browse(f"http://{daemon.metrics}/")
    assert console == [] and ">live<" in page and "secret" not in page
    assert "(named on a unix socket only)" in body_of(page, "largest")


@pytest.mark.parametrize("width", [360, 800, 1200])
def test_nothing_is_wider_than_the_screen(busy, tmp_path, width):
    page, _ = show(busy, f"--window-size={width},900")
    measure = "<script>document.title = document.documentElement.scrollWidth</script>"
    path = tmp_path / "page.html"  # as it came to be, and without its script
    path.write_text(re.sub("<script.*?</script>", measure, page, flags=re.S))
    page, _ = browse(path.as_uri(), f"--window-size={width},900")
    assert int(re.search(r"<title>(\d+)</title>", page)[1]) <= width
