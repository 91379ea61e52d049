"""What the kernel counts for the service (MemoryMax=), beside what the daemon counts itself (`memory`)."""

import json
import pathlib

from service import TOKEN_BYTES

MIB = 1 << 20
LIMIT, BESIDE = 96 * MIB, 64 * MIB
GROUP = pathlib.Path("/sys/fs/cgroup/system.slice/kvquantd.service")


def counted(name):
    return int((GROUP / name).read_text())


def statistic(name):
    return int(dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())[name])


def store(service, session, mib):
    service.store(session, tokens=mib * MIB // TOKEN_BYTES, options=["--floor", "exact"])


def status(service):
    return json.loads(service.kvq("status", "--json"))["memory"]


def test_full_to_its_limit_it_is_within_memory_max(service):
    service.drop_in(f"MemoryMax={LIMIT + BESIDE}")
    service.configure(memory=LIMIT)
    for number in range(8):
        store(service, f"chat-{number}", 16)
    used = status(service)
    assert used["used_bytes"] > 0.8 * used["limit_bytes"]
    peak = counted("memory.peak")
    print(f"memory.peak {peak >> 20} of {LIMIT + BESIDE >> 20} MiB, used {used['used_bytes'] >> 20} of {LIMIT >> 20},",
          *(f"{name} {statistic(name) / MIB:.1f}" for name in ("anon", "file", "shmem", "kernel", "sock")))
    assert service.show("NRestarts") == "0" and "oom" not in service.journal()
    assert statistic("shmem") <= LIMIT and counted("memory.swap.current") == 0


def test_a_limit_of_the_kernels_that_is_too_small_is_warned_of(service):
    service.drop_in(f"MemoryMax={LIMIT}")
    service.configure(memory=LIMIT)
    service.kvq("ping")
    assert "MemoryMax=" in service.journal("PRIORITY=4")
    service.configure(memory=LIMIT - BESIDE)
    service.restart()
    assert service.journal().count("MemoryMax=") == 1


def test_what_was_taken_over_is_counted_above_the_service(service):
    """The group that touched the pool ended with its process: its pages are of the slice now."""
    store(service, "chat", 48)
    assert statistic("shmem") > 40 * MIB
    service.restart()
    assert service.has("chat")
    print(f"shmem of the service {statistic('shmem') / MIB:.1f} MiB")
    assert statistic("shmem") < 40 * MIB
    slice_shmem = int(dict(line.split() for line in (GROUP.parent / "memory.stat").read_text().splitlines())["shmem"])
    assert slice_shmem > 40 * MIB
    service.run("systemctl", "stop", "kvquantd.socket", service.UNIT)
    assert not GROUP.exists()
