"""Who comes first starts the service, and who may come is the group."""

import pathlib
import stat

from service import as_user, uid_of, user_with


def test_the_first_client_starts_it(service):
    assert not service.is_active()
    service.kvq("ping")
    assert service.is_active() and uid_of(service.pid) != 0


def test_what_is_stored_comes_back(service):
    stored = service.store("chat")
    assert service.fetch("chat") == stored


def test_a_member_of_the_group_may_connect_and_nobody_else(service):
    member, stranger = user_with("member", "kvquantd"), user_with("stranger")
    service.run(*as_user(member), "kvq", "ping")
    assert "ermission denied" in service.fails(*as_user(stranger), "kvq", "ping")


def test_the_socket_and_its_folder_are_closed_to_others(service):
    socket = pathlib.Path("/run/kvquantd/kvquantd.sock")
    assert socket.group() == socket.parent.group() == "kvquantd"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o660 and stat.S_IMODE(socket.parent.stat().st_mode) == 0o750


def test_a_daemon_that_starts_by_itself_opens_the_same_socket(service):
    service.run("systemctl", "stop", "kvquantd.socket")
    service.start()
    service.run(*as_user(user_with("member", "kvquantd")), "kvq", "ping")
