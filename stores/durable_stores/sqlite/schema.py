"""The tables, and how an older database becomes one of today.

Names and words are meant to be read by a person in the `sqlite3` shell: statuses, kinds and effects are
words, times are milliseconds since the epoch, users' values are JSON text. May not know what the doors do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.errors import StoreError

if TYPE_CHECKING:
    import sqlite3

__all__ = ["APPLICATION_ID", "VERSION", "prepare"]

APPLICATION_ID = 0x44524231
"""``DRB1`` in the header of the file: by it `file` and we know whose database this is."""

_TABLES = """
CREATE TABLE store (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    registry   INTEGER NOT NULL DEFAULT 0,  -- version of the registry
    sequence   INTEGER NOT NULL DEFAULT 0,  -- no event or wait has a greater one, but for events that are there
    looked_at  INTEGER NOT NULL DEFAULT 0   -- events up to here are kept only for the sake of their runs
) STRICT;
INSERT INTO store (one) VALUES (1);

CREATE TABLE migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;

-- who works here, and what is registered -------------------------------------------------------------

CREATE TABLE engines (
    id         TEXT PRIMARY KEY,
    state      TEXT NOT NULL CHECK (state IN ('alive', 'left', 'dying', 'buried')),
    joined     INTEGER NOT NULL,
    heartbeat  INTEGER NOT NULL DEFAULT 0,
    deliveries INTEGER NOT NULL DEFAULT 0,  -- the number of the last one
    told       INTEGER NOT NULL DEFAULT 0,  -- the number of the last one that an answer held
    hosts      TEXT NOT NULL DEFAULT '[]'   -- functions, as JSON
) STRICT, WITHOUT ROWID;
CREATE INDEX engines_by_state ON engines (state) WHERE state IN ('alive', 'dying');

CREATE TABLE functions (
    id         TEXT PRIMARY KEY,
    version    TEXT NOT NULL,
    about      TEXT NOT NULL,
    paused     INTEGER NOT NULL DEFAULT 0,
    rules      TEXT NOT NULL,               -- [[name, limit, period, burst], ...]
    paths      TEXT NOT NULL                -- [[event name, path], ...]
) STRICT, WITHOUT ROWID;
CREATE INDEX functions_paused ON functions (id) WHERE paused = 1;
CREATE TABLE paths (event TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (event, path)) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (
    name TEXT PRIMARY KEY, at INTEGER NOT NULL, event INTEGER NOT NULL, outcomes TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- events, runs, memos --------------------------------------------------------------------------------

CREATE TABLE events (
    seq      INTEGER PRIMARY KEY,
    id       TEXT NOT NULL,
    name     TEXT NOT NULL,
    ts       INTEGER NOT NULL,
    received INTEGER NOT NULL,
    data     TEXT NOT NULL,
    user     TEXT,
    v        TEXT
) STRICT;
CREATE INDEX events_name ON events (name);
CREATE INDEX events_id ON events (id);

CREATE TABLE runs (
    id         TEXT PRIMARY KEY,
    function   TEXT NOT NULL,
    status     TEXT NOT NULL,
    gen        INTEGER NOT NULL,            -- counts claims; with the owner it is the fence
    owner      TEXT,                        -- the engine that executes it
    affinity   TEXT,                        -- the engine that keeps it warm
    claim      INTEGER NOT NULL DEFAULT 0,  -- the number of the delivery by which the owner has it
    news       INTEGER NOT NULL DEFAULT 0,  -- the number of the last news of it to its owner
    fired      INTEGER NOT NULL DEFAULT 0,  -- how many things have fired
    asked      INTEGER NOT NULL DEFAULT 0,  -- whether it has asked for more places since it was claimed
    placed     INTEGER NOT NULL DEFAULT 0,  -- whether it holds its own place in each of its slots
    extra      INTEGER NOT NULL DEFAULT 0,  -- how many more places it holds in each of them
    created    INTEGER NOT NULL,
    due        INTEGER NOT NULL,
    started    INTEGER,
    ended      INTEGER,
    attempt    INTEGER NOT NULL DEFAULT 0,
    priority   INTEGER NOT NULL DEFAULT 0,
    event      INTEGER NOT NULL,            -- the first of its events; the others stand in `more_events`
    parent_run TEXT,
    parent_ref TEXT,
    throttle   TEXT NOT NULL DEFAULT '',    -- [gate, rule]
    slots      TEXT NOT NULL DEFAULT '',    -- [[gate, rule], ...]
    singleton  TEXT,                        -- its key
    start_by   INTEGER,                     -- its start time-out
    finish_in  INTEGER,                     -- ms from its first claim to its finish time-out
    tied       INTEGER NOT NULL DEFAULT 0,  -- whether it ever had timers, waits or asked for places
    reason     TEXT,
    holder     TEXT,
    origin     TEXT,
    unmet      TEXT,
    output     TEXT,
    error      TEXT,
    trimmed    INTEGER NOT NULL DEFAULT 0   -- whether retention has removed its memos
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_owned ON runs (owner, claim) WHERE owner IS NOT NULL;
CREATE INDEX runs_news ON runs (owner, news) WHERE news > 0;
CREATE INDEX runs_ended ON runs (trimmed, ended) WHERE ended IS NOT NULL;
CREATE INDEX runs_event ON runs (event);

CREATE TABLE more_events (
    run TEXT NOT NULL, place INTEGER NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (run, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX more_events_event ON more_events (event);
CREATE TABLE more_parents (
    run TEXT NOT NULL, parent_run TEXT NOT NULL, parent_ref TEXT NOT NULL,
    PRIMARY KEY (run, parent_run, parent_ref)
) STRICT, WITHOUT ROWID;

CREATE TABLE memos (
    run      TEXT NOT NULL,
    position INTEGER NOT NULL,
    step     TEXT NOT NULL,
    repeat   INTEGER NOT NULL,              -- counts the step's repetitions within the run
    kind     TEXT NOT NULL,
    round    INTEGER NOT NULL,
    state    TEXT NOT NULL,
    value    TEXT,
    digest   BLOB,
    attempts INTEGER NOT NULL,
    started  INTEGER NOT NULL,
    ended    INTEGER NOT NULL,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;

-- what runs wait for ---------------------------------------------------------------------------------

CREATE TABLE jobs (
    no       INTEGER PRIMARY KEY,
    run      TEXT NOT NULL,
    kind     TEXT NOT NULL,                 -- turn, timer, timeout (of a wait), place, flush (of a buffer)
    ref      TEXT NOT NULL,
    due      INTEGER NOT NULL,
    lane     INTEGER,                       -- where it queues, once its time has come
    rank     INTEGER,
    effect   TEXT,
    attempt  INTEGER,
    error    TEXT,
    step     TEXT,
    started  INTEGER
) STRICT;
CREATE INDEX jobs_due ON jobs (due) WHERE lane IS NULL AND kind <> 'turn';
CREATE INDEX jobs_due_turns ON jobs (due) WHERE lane IS NULL AND kind = 'turn';
CREATE INDEX jobs_lane ON jobs (lane, rank) WHERE lane IS NOT NULL;
CREATE UNIQUE INDEX jobs_run ON jobs (run, kind, ref);

CREATE TABLE lanes (
    no       INTEGER PRIMARY KEY,
    pool     TEXT NOT NULL,                 -- a function, or for what only one engine may take its id
    function TEXT NOT NULL,
    throttle TEXT NOT NULL,
    slots    TEXT NOT NULL,
    head     INTEGER NOT NULL,              -- the best rank in it
    gate     TEXT,                          -- the shut gate at which it waits
    rule     TEXT
) STRICT;
CREATE UNIQUE INDEX lanes_of ON lanes (pool, throttle, slots, function);
CREATE INDEX lanes_ready ON lanes (pool, head) WHERE gate IS NULL;
CREATE INDEX lanes_blocked ON lanes (gate, pool, rule, head) WHERE gate IS NOT NULL;
CREATE TABLE askers (gate TEXT NOT NULL, lane INTEGER NOT NULL, PRIMARY KEY (gate, lane)) STRICT, WITHOUT ROWID;

CREATE TABLE waits (
    run        TEXT NOT NULL,
    ref        TEXT NOT NULL,
    event      TEXT,
    path       TEXT,
    keyed      TEXT NOT NULL DEFAULT '',    -- its entry in the index of waits
    condition  TEXT,
    since_seq  INTEGER,
    since_ms   INTEGER,
    signal     TEXT,
    replace    INTEGER NOT NULL DEFAULT 0,
    child      TEXT,
    until      INTEGER,
    effect     TEXT NOT NULL,
    kind       TEXT,
    started    INTEGER NOT NULL,
    registered INTEGER NOT NULL,            -- it sees the events after this sequence
    scanned    INTEGER,                     -- looking back: stored events up to here were made candidates
    closed     INTEGER NOT NULL DEFAULT 0,  -- timed out, but earlier candidates are undecided
    PRIMARY KEY (run, ref)
) STRICT, WITHOUT ROWID;
CREATE INDEX waits_event ON waits (event, keyed) WHERE event IS NOT NULL;
CREATE INDEX waits_signal ON waits (signal) WHERE signal IS NOT NULL;
CREATE INDEX waits_child ON waits (child) WHERE child IS NOT NULL;

CREATE TABLE candidates (
    run     TEXT NOT NULL,
    ref     TEXT NOT NULL,
    event   INTEGER NOT NULL,
    engine  TEXT,                           -- who evaluates it
    matches INTEGER NOT NULL DEFAULT 0,     -- decided: yes, but earlier ones are undecided
    PRIMARY KEY (run, ref, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX candidates_event ON candidates (event);
CREATE INDEX candidates_open ON candidates (engine, event) WHERE matches = 0;

CREATE TABLE fired (
    run     TEXT NOT NULL,
    number  INTEGER NOT NULL,
    ref     TEXT NOT NULL,
    cause   TEXT NOT NULL,
    at      INTEGER NOT NULL,
    event   INTEGER,
    status  TEXT,
    value   TEXT,
    due     INTEGER,                        -- this and the next three: the timer that fired
    attempt INTEGER,
    error   TEXT,
    step    TEXT,
    started INTEGER,                        -- when the step began
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX fired_event ON fired (event) WHERE event IS NOT NULL;

-- gates ----------------------------------------------------------------------------------------------

CREATE TABLE slots (gate TEXT PRIMARY KEY, held INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE throttles (
    gate    TEXT PRIMARY KEY,
    tat_us  INTEGER NOT NULL,               -- the theoretical arrival time, see `durable.gates.throttle`
    opens   INTEGER                         -- when the lanes that wait for it are to be woken
) STRICT, WITHOUT ROWID;
CREATE INDEX throttles_opens ON throttles (opens) WHERE opens IS NOT NULL;
CREATE INDEX throttles_tat ON throttles (tat_us);
CREATE TABLE latches (key TEXT PRIMARY KEY, run TEXT NOT NULL, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX latches_until ON latches (until);
CREATE TABLE singletons (key TEXT PRIMARY KEY, run TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE accepted (
    name TEXT NOT NULL, id TEXT NOT NULL, until INTEGER NOT NULL, event INTEGER NOT NULL, outcomes TEXT NOT NULL,
    PRIMARY KEY (name, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX accepted_until ON accepted (until);
CREATE TABLE rates (
    key TEXT NOT NULL, number INTEGER NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (key, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX rates_until ON rates (until);
CREATE TABLE buffers (
    key     TEXT PRIMARY KEY,
    run     TEXT NOT NULL,                  -- the id of the run to come
    first   INTEGER NOT NULL,               -- when its first event came
    parents TEXT NOT NULL,                  -- [[run, ref], ...]
    plan    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE buffered (
    key TEXT NOT NULL, place INTEGER NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (key, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX buffered_event ON buffered (event);
"""

_LEASES = """
ALTER TABLE engines ADD COLUMN lease INTEGER NOT NULL DEFAULT 0;  -- how long it may be silent; 0: unknown
"""

_MIGRATIONS: tuple[tuple[str, str], ...] = (("the first tables", _TABLES), ("leases of engines", _LEASES))
"""Each makes the next version out of the one before; a migration that was released is never edited."""

VERSION = len(_MIGRATIONS)


def prepare(sql: sqlite3.Connection, path: str) -> None:
    """Make the tables what this version of durable needs, inside the transaction that the caller opened.

    Raises:
        StoreError: The file belongs to somebody else, or to a newer version of durable.
    """
    (version,) = sql.execute("PRAGMA user_version").fetchone()
    (application,) = sql.execute("PRAGMA application_id").fetchone()
    (tables,) = sql.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or version or application):
        raise StoreError(f"{path} is a database of another program: give durable a file of its own.")
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a newer version of durable (schema {version}; this one knows {VERSION}): "
            f"upgrade durable here, or use another file."
        )
    if version == VERSION:
        return
    for number, (name, script) in enumerate(_MIGRATIONS[version:], version + 1):
        for statement in _statements(script):
            sql.execute(statement)
        sql.execute("INSERT INTO migrations VALUES (?, ?)", (number, name))
    sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    sql.execute(f"PRAGMA user_version = {VERSION}")


def _statements(script: str) -> list[str]:
    # `executescript` would commit the transaction under which the lock is held.
    return [statement for statement in script.split(";\n") if statement.strip()]
