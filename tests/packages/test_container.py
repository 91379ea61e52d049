"""deploy/container: the images are built as the Containerfile says, and their example runs as compose.yaml says.

No engine is needed: buildah runs each step and each service in a chroot, with the Debian that
tests/packages/root.sh made in the place of debian:12-slim.
"""

import pathlib
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import BUILD
from debian import wait_until

ROOT = pathlib.Path(__file__).parents[2]
CONTAINER = ROOT / "deploy/container"
CONTAINERFILE = CONTAINER / "Containerfile"
STORE = BUILD / "packages/containers"
BUILD_SECONDS_MAX = 3600
SERVICES = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]


def buildah_command(command, *arguments):
    return ["buildah", "--root", STORE / "store", "--runroot", STORE / "run", command, *arguments]


def buildah(command, *arguments):
    done = subprocess.run(buildah_command(command, *arguments), cwd=ROOT, text=True, timeout=BUILD_SECONDS_MAX,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, f"buildah {command}:\n{done.stdout[-5000:]}{done.stderr[-5000:]}"
    return done.stdout.strip()


def import_debian():
    """debian:12-slim, once for a root."""
    made_by, stamp = BUILD / "packages/debian.made-by", STORE / "made-by"
    if stamp.exists() and stamp.read_text() == made_by.read_text():
        return
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, BUILD / "packages/debian", "/")
    buildah("commit", "--quiet", "--rm", container, "docker.io/library/debian:12-slim")
    stamp.write_text(made_by.read_text())


@pytest.fixture(scope="module")
def images():
    """One of each name in compose.yaml. What a step left is taken again where nothing before it has changed."""
    STORE.mkdir(parents=True, exist_ok=True)
    import_debian()
    built = {service["image"]: service["build"] for service in SERVICES.values()}
    for image, build in built.items():
        buildah("build", "--isolation=chroot", "--format=docker", "--pull-never", "--layers",
                f"--ignorefile={CONTAINERFILE}.dockerignore", f"--file={CONTAINER / build['context'] / build['dockerfile']}",
                f"--target={build['target']}", f"--tag={image}", CONTAINER / build["context"])
    return built


class Service:
    """A service of compose.yaml; its volumes are folders here."""

    def __init__(self, name, volumes):
        service = SERVICES[name]
        self.container = buildah("from", "--pull-never", service["image"])
        self.command = service["command"]
        self.volumes = [f"--volume={volumes / volume.split(':')[0]}:{volume.split(':')[1]}"
                        for volume in service["volumes"]]

    def settings(self):
        return yaml.safe_load(buildah("inspect", self.container))["Docker"]["config"]

    def arguments(self, command):
        return ["--isolation=chroot", *self.volumes, self.container, "--", *command]

    def run(self, command):
        return buildah("run", *self.arguments(command))

    def run_its_command(self):
        return self.run([*self.settings()["Entrypoint"], *self.command])

    def start(self, log):
        command = [*self.settings()["Entrypoint"], *self.command]
        return subprocess.Popen(buildah_command("run", *self.arguments(command)), stdin=subprocess.DEVNULL, stdout=log,
                                stderr=subprocess.STDOUT)

    def answers(self):
        """What the health check says."""
        kind, *command = self.settings()["Healthcheck"]["Test"]
        assert kind == "CMD"
        return subprocess.run(buildah_command("run", *self.arguments(command)), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT).returncode == 0


@pytest.fixture
def volumes(images, tmp_path):
    """Folders in their place, as the image has them."""
    for volume in {volume for service in SERVICES.values() for volume in service["volumes"]}:
        folder = tmp_path / volume.split(":")[0]
        folder.mkdir(mode=0o700)
        shutil.chown(folder, 742, 742)
    return tmp_path


@pytest.fixture
def daemon(volumes):
    service = Service("kvquantd", volumes)
    log = volumes / "log"
    with open(log, "w") as output:
        process = service.start(output)
    try:
        wait_until(lambda: service.answers() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield service
    finally:
        process.terminate()
        process.wait(120)
        buildah("rm", service.container)


def test_hadolint_finds_nothing():
    hadolint = pathlib.Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, CONTAINERFILE], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_not_root_and_has_neither_network_nor_privileges(name, images):
    service = SERVICES[name]
    settings = yaml.safe_load(buildah("inspect", "--type=image", service["image"]))["Docker"]["config"]
    assert settings["User"] == "742"
    assert (service["network_mode"], service["cap_drop"], service["read_only"]) == ("none", ["ALL"], True)
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_sessions_go_with_their_container_where_no_volume_is_named(images):
    settings = yaml.safe_load(buildah("inspect", "--type=image", "kvquantd"))["Docker"]["config"]
    assert not settings.get("Volumes")


def test_one_worker_resumes_what_another_has_stored(daemon, volumes):
    first, second = Service("first", volumes), Service("second", volumes)
    assert "stored 512 tokens in chat" in first.run_its_command()
    assert "went on to 1024 tokens" in second.run_its_command()
    for worker in (first, second):
        buildah("rm", worker.container)


def test_without_a_daemon_the_health_check_fails(volumes):
    service = Service("kvquantd", volumes)
    assert not service.answers()
    buildah("rm", service.container)
