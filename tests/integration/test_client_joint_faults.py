"""A joint append of which one connection breaks, is refused or falls silent; against a daemon that is played."""

import threading
import time

import pytest
import wire
from fake_daemon import PATIENCE_SECONDS, play  # noqa: F401
from kvquantd._kvq import ffi
from library import Library
from test_client_joint_append import BOTH_FORMS, LAYERS, PAGE, SHAPE, TOKENS, VALUES, append
from wire import decode


class Joint:
    """Takes joint appends. ends[i] is what the i-th connection does to its first append: `lost`, the name of
    an error, `silent`, `late` or a version to answer with, `at` so many DATA frames, "commit" or "all commits"."""

    def __init__(self, *ends):
        self.attempts, self.commits, self.cancels = [], [], []
        self.change = threading.Condition()
        self.scripts = [lambda peer, end=end: self.serve(peer, dict(end)) for end in ends]

    def serve(self, peer, end):
        peer.greet()
        while True:
            kind, request_id, control, payload = peer.receive()
            if kind == wire.PING:
                peer.reply(request_id, "PingReply")
            elif kind == wire.APPEND:
                attempt = self.attempt_of(decode("AppendRequest", control))
                if not self.take(peer, request_id, attempt, end):
                    return
                end = {}

    def attempt_of(self, request):
        with self.change:
            for attempt in self.attempts:
                if request.group and attempt.request.group == request.group:
                    return attempt
            self.attempts.append(wire.SimpleNamespace(request=request, committed=0, failed=False, frames={}))
            return self.attempts[-1]

    def fail(self, attempt):
        with self.change:
            attempt.failed = True
            self.change.notify_all()

    def take(self, peer, request_id, attempt, end):
        """One connection's part of an append; False: the connection is to end."""
        at, frames = end.get("at"), 0
        while True:
            if end and at == frames:
                return self.end(peer, request_id, attempt, end)
            kind, got, control, payload = peer.receive()
            assert got == request_id
            if kind == wire.CANCEL:
                self.fail(attempt)
                self.cancels.append(request_id)
                peer.error(request_id, "cancelled")
                return True
            if kind == wire.COMMIT:
                return self.commit(peer, request_id, attempt, end)
            frames += 1
            first, tokens, layer, part = wire.DATA_CONTROL.unpack(control)
            with self.change:
                assert (first, layer, part) not in attempt.frames
                attempt.frames[first, layer, part] = tokens
                if not end:
                    expected = VALUES[part, layer, first:first + tokens].tobytes()
                    assert payload == expected

    def commit(self, peer, request_id, attempt, end):
        if end.get("at") == "commit":
            return self.end(peer, request_id, attempt, end)
        with self.change:
            self.commits.append(request_id)
            attempt.committed += 1
            self.change.notify_all()
            wanted = attempt.request.group_connections or 1
            assert self.change.wait_for(lambda: attempt.failed or attempt.committed == wanted, PATIENCE_SECONDS)
            assert attempt.failed or sum(attempt.frames.values()) == TOKENS * LAYERS * 2
        if end:
            return self.end(peer, request_id, attempt, end)
        if attempt.failed:
            peer.error(request_id, "cancelled")
        else:
            peer.reply(request_id, "AppendReply", version=7, tokens=TOKENS, tail_tokens=TOKENS % PAGE)
        return True

    def end(self, peer, request_id, attempt, end):
        how = end["how"]
        if how == "late":
            time.sleep(0.2)
            assert not self.commits
            return self.take(peer, request_id, attempt, {})
        if how == "silent":
            peer.until_closed()
        if how in ("lost", "silent"):
            self.fail(attempt)
            return False
        if isinstance(how, int):
            peer.reply(request_id, "AppendReply", version=how, tokens=TOKENS, tail_tokens=TOKENS % PAGE)
            return True
        peer.error(request_id, how, tokens=77, tail_tokens=5)
        self.fail(attempt)
        while end["at"] not in ("commit", "all commits") and peer.receive()[0] not in (wire.COMMIT, wire.CANCEL):
            pass
        return True


def new_state():
    made = ffi.new("struct kvq_session_state *")
    made.session, made.model, made.geometry, made.page_tokens = b"s", b"m", SHAPE, PAGE
    made.append_tokens_max = 1 << 20
    return made


def groups_of(joint):
    return [(attempt.request.group_connections, len(attempt.request.group)) for attempt in joint.attempts]


def run(play, joint, connections=2, non_blocking=False, **options):
    state = new_state()
    with Library(play(*joint.scripts), non_blocking, connections=connections) as library:
        error = append(library, state, **options)
        assert library.ping() == "ok" or error in ("deadline", "connection_lost", "daemon_protocol")
    return error, state


@BOTH_FORMS
def test_each_connection_commits_when_all_have_sent_their_values(play, non_blocking):
    joint = Joint({}, dict(how="late", at=1), {})
    error, state = run(play, joint, 3, non_blocking)
    assert (error, state.version, state.tokens) == ("ok", 7, TOKENS)
    assert groups_of(joint) == [(3, 16)] and len(joint.commits) == 3


@pytest.mark.parametrize("taken", [1, 2])
@BOTH_FORMS
def test_connections_that_cannot_be_had_are_done_without(play, taken, non_blocking):
    joint = Joint(*[{}] * taken)
    assert run(play, joint, 3, non_blocking)[0] == "ok"
    assert groups_of(joint) == [(2, 16) if taken == 2 else (0, 0)]


@pytest.mark.parametrize("at", [0, 1, 20])
@BOTH_FORMS
def test_a_further_connection_that_breaks_costs_time_only(play, at, non_blocking):
    joint = Joint({}, dict(how="lost", at=at), {})
    error, state = run(play, joint, 3, non_blocking)
    assert (error, state.tokens) == ("ok", TOKENS)
    assert groups_of(joint) == [(3, 16), (0, 0)] and len(joint.commits) == 1


@pytest.mark.parametrize("at", [0, 1, 20])
@BOTH_FORMS
def test_a_first_connection_that_breaks_is_made_anew(play, at, non_blocking):
    joint = Joint(dict(how="lost", at=at), {}, {})
    assert run(play, joint, 2, non_blocking)[0] == "ok"
    first, second = (attempt.request.group for attempt in joint.attempts)
    assert groups_of(joint) == [(2, 16), (2, 16)] and first != second


@pytest.mark.parametrize("broken", [0, 1])
@BOTH_FORMS
def test_what_breaks_after_a_commit_is_not_repeated(play, broken, non_blocking):
    ends = [{}, {}, {}]
    ends[broken] = dict(how="lost", at="commit")
    joint = Joint(*ends)
    error, state = run(play, joint, 2, non_blocking)
    assert (error, state.tokens, groups_of(joint)) == ("connection_lost", 0, [(2, 16)])


@pytest.mark.parametrize("broken", [0, 1])
def test_an_answer_on_one_connection_is_the_answer(play, broken):
    ends = [{}, {}]
    ends[broken] = dict(how="lost", at="all commits")
    joint = Joint(*ends)
    state = new_state()
    with Library(play(*joint.scripts), connections=2) as library:
        joint.fail = lambda attempt: None
        assert (append(library, state), state.version, state.tokens) == ("ok", 7, TOKENS)


@pytest.mark.parametrize("at", [0, 5, "commit"])
@pytest.mark.parametrize("refused", [0, 1])
@pytest.mark.parametrize("name", ["full", "miss", "internal", "wrong_first"])
def test_the_refusal_wins_over_what_follows_from_it(play, name, refused, at):
    ends = [{}, {}]
    ends[refused] = dict(how=name, at=at)
    joint = Joint(*ends)
    state = new_state()
    with Library(play(*joint.scripts), connections=2) as library:
        assert append(library, state) == name and library.message == f"this is {name}"
        assert library.ping() == "ok"
        assert state.tokens == (77 if name == "wrong_first" else 0)
        assert append(library, new_state(), first=0) == "ok"
    assert groups_of(joint) == [(2, 16), (2, 16)]


@pytest.mark.parametrize("first, second", [("busy", "full"), ("incomplete", "full"), ("cancelled", "busy")])
@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_refusals_the_cause_is_told(play, first, second, swapped):
    ends = [dict(how=first, at=0), dict(how=second, at=0)]
    assert run(play, Joint(*ends[::-1] if swapped else ends))[0] == second


@BOTH_FORMS
def test_a_tail_that_moved_is_cut_anew_for_all_connections(play, non_blocking):
    joint = Joint(dict(how="tail_moved", at=0), {})
    error, state = run(play, joint, 2, non_blocking, first=0)
    assert error == "ok" and groups_of(joint) == [(2, 16), (2, 16)]
    assert joint.attempts[1].request.tail_tokens == 5


def test_connections_that_came_too_late_are_done_without(play):
    joint = Joint(dict(how="incomplete", at="commit"), {})
    assert run(play, joint)[0] == "ok"
    assert groups_of(joint) == [(2, 16), (0, 0)]


def test_two_answers_to_one_append_are_the_daemons_fault(play):
    error, state = run(play, Joint(dict(how=8, at="all commits"), {}))
    assert (error, state.tokens) == ("daemon_protocol", 0)


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("at", [3, "commit", "all commits"])
@BOTH_FORMS
def test_a_connection_that_falls_silent_ends_with_the_deadline(play, silent, at, non_blocking):
    ends = [{}, {}, {}]
    ends[silent] = dict(how="silent", at=at)
    joint = Joint(*ends)
    assert run(play, joint, 2, non_blocking, deadline_ms=500)[0] == "deadline"
    assert groups_of(joint) == [(2, 16)]
