"""A Debian in a folder, and packages to install into it. tests/packages/root.sh makes the folder that is copied."""

import os
import pathlib
import re
import subprocess
import time

SECONDS_MAX = 600
# Nothing stays mounted after the command. What apt has fetched once it need not fetch for the next test.
ENTER = """set -e
mount -t proc proc "$0/proc" && mount --bind "$1" "$0/var/cache/apt/archives"
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$0/etc/resolv.conf"
root=$0 user=$2; shift 2
exec chroot --userspec="$user" "$root" "$@"
"""
PROXIES = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
               "HOME": "/", "DEBIAN_FRONTEND": "noninteractive", "PYTHONDONTWRITEBYTECODE": "1", **PROXIES}
APT = ("apt-get", "-q", "-y", "-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false")
# The state of dpkg, apt and others, which is there with and without the packages.
OF_OTHERS = re.compile(r"/(proc|dev|sys|tmp)/|/var/(cache|log)/|/var/lib/(dpkg|apt)/")


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.05)


class Debian:
    def __init__(self, base, folder):
        subprocess.run(["cp", "-a", "--reflink=auto", base, folder], check=True)
        self.folder = pathlib.Path(folder)
        self.archives = pathlib.Path(base).with_name("archives")
        pathlib.Path(self.archives, "partial").mkdir(parents=True, exist_ok=True)

    def command(self, command, user="root"):
        return ["unshare", "--mount", "sh", "-c", ENTER, self.folder, self.archives, f"{user}:{user}", *command]

    def run(self, *command, user="root"):
        """What it prints, once it has done what it was asked."""
        done = subprocess.run(self.command(command, user), env=ENVIRONMENT, cwd="/", text=True, timeout=SECONDS_MAX,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}"
        return done.stdout

    def start(self, *command, user, log):
        return subprocess.Popen(self.command(command, user), env=ENVIRONMENT, cwd="/", stdin=subprocess.DEVNULL,
                                stdout=log, stderr=subprocess.STDOUT)

    def path(self, name):
        return self.folder / name.lstrip("/")

    def apt(self, *arguments):
        return self.run(*APT, *arguments)

    def install(self, packages):
        """Files of packages, with what they depend on."""
        names = [f"/tmp/{package.name}" for package in packages]
        for package, name in zip(packages, names):
            self.path(name).write_bytes(package.read_bytes())
        return self.apt("install", *names)

    def names(self):
        """Of all that there is, but for the state of those that install it."""
        found = subprocess.run(["find", self.folder, "-xdev", "-printf", "/%P\n"], check=True, text=True,
                               stdout=subprocess.PIPE).stdout.splitlines()
        return {name for name in found if not OF_OTHERS.match(name)}


def field(package, name):
    return subprocess.run(["dpkg-deb", "--field", package, name], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def as_version(package, version, folder):
    """The same package under another version."""
    tree, mine = folder / package.stem, field(package, "Version")
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(rf"^Version: .*$|(?<== ){re.escape(mine)}(?=\))",
                              lambda found: found[0].replace(mine, version), control.read_text(), flags=re.MULTILINE))
    made = folder / package.name.replace(f"_{mine}_", f"_{version}_")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True, stdout=subprocess.DEVNULL)
    return made
