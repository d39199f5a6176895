"""`python -m durable demo`: what it proves, that the proof can fail, and what it says of wrong input."""

import gzip
import io
import json
import os
import re
import subprocess
import sys

import pytest

from durable.__main__ import main
from durable.demo import payloads, report
from durable.demo.evidence import Evidence, Snapshot, Tally, in_flight, weigh
from durable.demo.ledger import BEGIN, EFFECT, ERROR, READY, Entry, Ledger, read
from durable.demo.screen import Screen
from durable.demo.table import table

# ---------------------------------------------------------------- the whole of it


def demo(tmp_path, *arguments):
    """Run it as a user does, in a pipe."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTHONASYNCIO"))}
    return subprocess.run(
        [sys.executable, "-m", "durable", "demo", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env={**kept, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8"},
        cwd=tmp_path,
        check=False,
    )


def rows(output):
    """The first table, by function: its numbers."""
    found = re.findall(r"^ *│ ([\w-]+) +│((?: +\d+ │)+)$", output, re.MULTILINE)
    return {name: [int(number) for number in re.findall(r"\d+", numbers)] for name, numbers in found}


def expected_runs():
    """How many runs the shipped webhooks start: counted without durable, and without CEL."""
    counts = dict.fromkeys(
        (
            "archive",
            "review-pull-request",
            "triage-issue",
            "build-push",
            "announce-release",
            "thank-stargazer",
        ),
        0,
    )
    for line in gzip.decompress(payloads.SHIPPED.read_bytes()).splitlines():
        event = json.loads(line)
        name, data = event["name"].removeprefix("github/"), event["data"]
        kind, _, action = name.partition(".")
        counts["archive"] += 1
        if kind == "pull_request" and action in ("opened", "reopened", "ready_for_review", "synchronize"):
            counts["review-pull-request"] += not data["pull_request"]["draft"]
        counts["triage-issue"] += name == "issues.opened"
        counts["triage-issue"] += name == "issues.assigned" and bool(data["issue"]["labels"])
        counts["build-push"] += name == "push" and not data["deleted"]
        counts["announce-release"] += kind == "release" and not data["release"]["prerelease"]
        counts["thank-stargazer"] += name in ("star.created", "watch.started")
    return {**counts, "notify": counts["triage-issue"] + counts["announce-release"]}


def test_the_demo_loses_nothing_and_repeats_nothing(tmp_path):
    done = demo(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGKILL" in done.stdout
    found = rows(done.stdout)
    total = found.pop("all")
    assert {name: numbers[0] for name, numbers in found.items()} == expected_runs()
    runs, completed, lost, steps, retried, again, repeated = total
    assert (completed, lost, repeated) == (runs, 0, 0)
    assert (steps, retried > 0, again > 0) == (143, True, True), "retries, and steps in flight at the kill"
    assert "0 lost, 0 repeated" in done.stdout
    assert done.stderr == ""
    assert "\x1b" not in done.stdout, "a pipe gets no control characters"
    assert not list(tmp_path.iterdir()), "it leaves nothing behind"


def test_the_demo_takes_other_events_and_a_store(tmp_path):
    lines = [{"name": "order/created", "data": {"n": n}} for n in range(3)] + [{"name": "hello"}]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    done = demo(tmp_path, "--events", "events.jsonl", "--store", "sqlite:///own.db")
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows(done.stdout)["archive"][:3] == [4, 4, 0]
    assert (tmp_path / "own.db").exists()


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"name": "a/b"}\nnonsense\n', "line 2 is not JSON"),
        (b"[1]\n", 'line 1 is no event: an object with a "name" (text) and "data" (an object)'),
        (b'{"nam": "a/b"}\n', "line 1 is no event"),
        (b'{"name": 7}\n', "line 1 is no event"),
        (b'{"name": ""}\n', "line 1: an event's name must be text"),
        (b'{"name": "a/b", "data": [1]}\n', "line 1: event 'a/b': data must be a JSON object"),
        (b'{"name": "a/b", "date": {}}\n', 'line 1: only "name" and "data" are known, not \'date\''),
        (b'{"name": "a/b", "data": {"x": "\xff"}}\n', "line 1 is not JSON"),
        (b"\n\n", "holds no events"),
        (payloads.SHIPPED.read_bytes()[:900], "is a gzip file that is damaged or cut off"),
    ],
)
def test_a_bad_file_of_events_is_refused(tmp_path, capsys, content, message):
    path = tmp_path / "events"
    path.write_bytes(content)
    assert main(["demo", "--events", str(path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"durable demo: {path}")
    assert message in said.err
    assert said.out == ""


def test_a_missing_file_is_refused(tmp_path, capsys):
    assert main(["demo", "--events", str(tmp_path / "none")]) == 2
    assert "none cannot be read: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://", "is gone with its process"),
        ("demo.db", "is no URL"),
        ("paper://x", "nobody serves the scheme 'paper'"),
        ("sqlite:////no/such/directory/demo.db", "does not exist"),
    ],
)
def test_a_store_that_cannot_serve_is_refused(capsys, url, message):
    assert main(["demo", "--store", url]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err + said.out


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "COMMAND" in capsys.readouterr().err


# ---------------------------------------------------------------- events


def test_the_shipped_webhooks_are_many_and_small():
    events = payloads.load()
    assert len({event.name for event in events}) > 25
    assert payloads.SHIPPED.stat().st_size < 150_000
    assert payloads.patterns_of(events) == ["github/*"]
    assert payloads.SHIPPED.with_name("github-webhooks.LICENSE.txt").exists()


def test_patterns_fit_the_names():
    names = ["a/b", "a/c", "x.y", "/slash", "end/", "star*", "s*r/x", *(f"k{n}/x" for n in range(20))]
    patterns = payloads.patterns_of([payloads.Event(name) for name in names])
    assert patterns[:5] == ["a/*", "x.y", "/slash", "end/", "k0/*"]
    assert len(patterns) == payloads.MOST_PATTERNS


# ---------------------------------------------------------------- the ledger


def test_the_ledger_is_read_in_whole_lines(tmp_path):
    path = tmp_path / "ledger"
    assert read(path) == ([], 0)
    ledger = Ledger(path)
    ledger.write(READY)
    ledger.write(BEGIN, "run", "function", "step", 2)
    ledger.close()
    with path.open("ab") as file:
        file.write(b'{"what": "eff')
    first, end = read(path)
    assert [(one.what, one.pid, one.run, one.function, one.step, one.attempt) for one in first] == [
        (READY, os.getpid(), "", "", "", 0),
        (BEGIN, os.getpid(), "run", "function", "step", 2),
    ]
    assert read(path, end) == ([], end)


# ---------------------------------------------------------------- the proof

OLD, NEW = 1, 2


def lines(*told):
    """A ledger: ``(pid, what, step)``, a second apart, all of one run."""
    return [Entry(what, pid, float(at), "r", "f", step) for at, (pid, what, step) in enumerate(told)]


def weighed(entries, committed=(), status="completed", known=("a", "b")):
    restarted = next((one.at for one in entries if one.pid == NEW), 99.0)
    at_kill = Snapshot({"r": "f"}, {"r": "running"}, frozenset(("r", step) for step in committed))
    at_end = Snapshot({"r": "f"}, {"r": status}, frozenset(("r", step) for step in known), last_end=50.0)
    return weigh(entries, at_kill, at_end, killed=OLD, restarted=restarted)


A = [(OLD, BEGIN, "a"), (OLD, EFFECT, "a")]
B = [(NEW, READY, ""), (NEW, BEGIN, "b"), (NEW, EFFECT, "b")]


def test_committed_once_and_fresh_once_is_proof():
    evidence = weighed(lines(*A, *B), committed="a")
    assert evidence.holds
    assert (evidence.before, evidence.in_flight, evidence.after) == (1, 0, 1)
    assert (evidence.until_ready, evidence.until_resumed, evidence.until_done) == (0.0, 1.0, 48.0)


@pytest.mark.parametrize("old", [A, A[:1]], ids=["effect not committed", "no effect yet"])
def test_a_step_in_flight_may_run_again(old):
    evidence = weighed(lines(*old, *B, (NEW, BEGIN, "a"), (NEW, EFFECT, "a")))
    assert evidence.holds
    assert (evidence.in_flight, evidence.total.again, evidence.total.repeated) == (1, 1, 0)


def test_a_failed_attempt_is_no_repetition():
    evidence = weighed(lines((OLD, BEGIN, "a"), (OLD, ERROR, "a"), (NEW, BEGIN, "a"), (NEW, EFFECT, "a"), *B))
    assert (evidence.holds, evidence.total.retries, evidence.in_flight) == (True, 1, 0)


@pytest.mark.parametrize(
    "more",
    [
        [(NEW, BEGIN, "a")],
        [(NEW, BEGIN, "a"), (NEW, EFFECT, "a")],
        [(OLD, BEGIN, "a"), (OLD, EFFECT, "a")],
    ],
    ids=["begun again", "done again", "done twice before"],
)
def test_a_committed_step_that_runs_again_is_found(more):
    evidence = weighed(sorted(lines(*A, *B, *more), key=lambda one: one.pid), committed="a")
    assert not evidence.holds
    assert evidence.total.repeated == 1


def test_a_fresh_step_that_runs_twice_is_found():
    evidence = weighed(lines(*A, *B, *B[1:]), committed="a")
    assert (evidence.holds, evidence.total.repeated) == (False, 1)


def test_a_step_in_flight_that_runs_three_times_is_found():
    again = [(NEW, BEGIN, "a"), (NEW, EFFECT, "a")]
    evidence = weighed(lines(*A, *B, *again, *again))
    assert (evidence.holds, evidence.total.repeated) == (False, 1)


@pytest.mark.parametrize("status", ["failed", "running", "waiting", "queued", "cancelled"])
def test_a_run_that_did_not_complete_is_lost(status):
    evidence = weighed(lines(*A, *B), committed="a", status=status)
    assert (evidence.holds, evidence.total.lost) == (False, 1)


def test_a_result_without_an_effect_is_found():
    evidence = weighed(lines(*A, B[0]), committed="a")
    assert (evidence.holds, evidence.total.lost) == (False, 1)


def test_nothing_at_all_proves_nothing():
    assert not Evidence([], 0, 0, 0).holds
    assert Evidence([Tally("f", 1, 1)], 0, 0, 0).holds


def test_in_flight_for_the_eye():
    assert in_flight(lines(*A, (OLD, BEGIN, "b")), frozenset({EFFECT})) == {("r", "b")}


# ---------------------------------------------------------------- what is shown


def test_tables_in_plain_ascii():
    assert table(["name", "s"], [[["a", "1.5 s"]], [["all", "-"]]], ascii_only=True) == [
        "+------+-------+",
        "| name |     s |",
        "+------+-------+",
        "| a    | 1.5 s |",
        "+------+-------+",
        "| all  |     - |",
        "+------+-------+",
    ]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_terminal_is_redrawn(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen(stream := Terminal())
    screen.show(["one", "two"], "summary")
    screen.show(["three"], "summary")
    screen.say("good", "good")
    assert stream.getvalue() == (
        "\x1b[2mone\x1b[0m\n\x1b[2mtwo\x1b[0m\n\x1b[2A\x1b[0J\x1b[2mthree\x1b[0m\n\x1b[1A\x1b[0J\x1b[32mgood\x1b[0m\n"
    )


def test_a_pipe_is_told_now_and_then_in_what_it_can_show():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    screen = Screen(stream)
    screen.show(["block"], "too soon")
    screen.say(screen.bar(("█", 1), ("░", 1), width=4) + " ✓ ·")
    stream.flush()
    assert stream.buffer.getvalue() == b"##.. + |\n"


def test_a_failed_proof_says_so():
    stream = Terminal()
    report.show(Screen(stream), Evidence([Tally("f", 2, 1, 3, 0, 1, 1, 0)], 1, 1, 1, lines=7))
    said = stream.getvalue()
    assert re.search(r"1 of 2 +│ ✗", said)
    assert "1 lost, 1 repeated" in said
