"""What the tests of the configuration share: a daemon whose file changes while it runs."""

import signal

from wire_support import wait_until


class Reloading:
    """A daemon and its configuration file, which has this text at first."""

    def __init__(self, start_daemon, path, text="", **options):
        self.path = path
        path.write_text(text)
        self.daemon = start_daemon(arguments=["--config", path], **options)

    def log(self):
        return self.daemon.log.read_text()

    def change(self, text):
        self.path.write_text(text)
        self.daemon.process.send_signal(signal.SIGHUP)

    def reload(self, text):
        """Returns the one line that the log says of it."""
        before = len(self.log())

        def said():
            return [line for line in self.log()[before:].splitlines() if "debug" not in line.split(": ")[:2]]

        self.change(text)
        wait_until(said)
        assert len(said()) == 1
        return said()[0]
