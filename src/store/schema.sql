-- Version 1. Times are Unix milliseconds. Every state carries exactly what it needs: the CHECKs say so.
-- Each index serves one named lookup and is partial where only one state is looked up.

-- Key and value, for what is one thing only: pause, portal stop, heartbeat, rotated tokens.
CREATE TABLE control (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL,
    at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    name  TEXT NOT NULL,
    key   TEXT NOT NULL,
    value INTEGER NOT NULL CHECK (value >= 0),
    PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;

-- The inbox. `repeats` counts further arrivals that joined this row while it was pending.
CREATE TABLE events (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    event            TEXT NOT NULL CHECK (event IN ('ONCRMLEADADD', 'ONCRMLEADUPDATE', 'ONCRMLEADDELETE')),
    lead_id          INTEGER NOT NULL CHECK (lead_id BETWEEN 1 AND 2147483647),
    state            TEXT NOT NULL CHECK (state IN ('pending', 'taken', 'processed')),
    received_at      INTEGER NOT NULL,
    last_received_at INTEGER NOT NULL,
    repeats          INTEGER NOT NULL DEFAULT 0 CHECK (repeats >= 0),
    portal_ts        INTEGER,
    domain           TEXT,
    member_id        TEXT,
    foreign_portal   INTEGER NOT NULL CHECK (foreign_portal IN (0, 1)),
    taken_at         INTEGER,
    processed_at     INTEGER,
    result           TEXT,
    error            TEXT,
    CHECK (state <> 'taken' OR taken_at IS NOT NULL),
    CHECK ((state = 'processed') = (processed_at IS NOT NULL)),
    CHECK ((state = 'processed') = (result IS NOT NULL)),
    CHECK (error IS NULL OR state = 'processed')
) STRICT;
CREATE UNIQUE INDEX events_pending_once ON events (lead_id, event) WHERE state = 'pending';
CREATE INDEX events_pending ON events (id) WHERE state = 'pending';
CREATE INDEX events_taken ON events (id) WHERE state = 'taken';
CREATE INDEX events_processed ON events (processed_at) WHERE state = 'processed';
CREATE INDEX events_lead ON events (lead_id, id);

-- Times in which events may have been lost. A row per occurrence: joining them would let a sweep that has already
-- begun close what happened after it began.
CREATE TABLE gaps (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    reason TEXT NOT NULL,
    at     INTEGER NOT NULL
) STRICT;

-- The texts of rules, once each: event runs are many and their rules few.
CREATE TABLE rule_texts (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE rule_states (
    name            TEXT PRIMARY KEY NOT NULL,
    text            TEXT NOT NULL,
    first_loaded_at INTEGER NOT NULL,
    last_fire_at    INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    rule            TEXT NOT NULL,
    text_id         INTEGER NOT NULL REFERENCES rule_texts (id),
    "trigger"       TEXT NOT NULL CHECK ("trigger" IN ('schedule', 'manual', 'event')),
    mode            TEXT NOT NULL CHECK (mode IN ('plan', 'delete')),
    state           TEXT NOT NULL CHECK (state IN ('running', 'planned', 'held', 'enqueued', 'failed')),
    matched         INTEGER NOT NULL DEFAULT 0 CHECK (matched >= 0),
    protected       INTEGER NOT NULL DEFAULT 0 CHECK (protected >= 0),
    undecidable     INTEGER NOT NULL DEFAULT 0 CHECK (undecidable >= 0),
    already_waiting INTEGER NOT NULL DEFAULT 0 CHECK (already_waiting >= 0),
    would_enqueue   INTEGER NOT NULL DEFAULT 0 CHECK (would_enqueue >= 0),
    enqueued        INTEGER NOT NULL DEFAULT 0 CHECK (enqueued >= 0),
    left_out        INTEGER NOT NULL DEFAULT 0 CHECK (left_out >= 0),
    error           TEXT,
    held_reason     TEXT,
    started_at      INTEGER NOT NULL,
    held_at         INTEGER,
    approved_at     INTEGER,
    finished_at     INTEGER,
    CHECK ((state IN ('running', 'held')) = (finished_at IS NULL)),
    CHECK (state <> 'held' OR (held_at IS NOT NULL AND held_reason IS NOT NULL)),
    CHECK ((state = 'failed') = (error IS NOT NULL)),
    CHECK (enqueued = 0 OR state = 'enqueued'),
    CHECK (state <> 'enqueued' OR matched = protected + already_waiting + enqueued),
    CHECK (state <> 'held' OR matched = protected + already_waiting + would_enqueue)
) STRICT;
CREATE INDEX runs_rule ON runs (rule, id);
CREATE INDEX runs_events ON runs (rule, started_at) WHERE "trigger" = 'event';
CREATE INDEX runs_running ON runs (id) WHERE state = 'running';
CREATE UNIQUE INDEX runs_one_held ON runs (rule) WHERE state = 'held';
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

-- The leads that a held run would enqueue.
CREATE TABLE held_matches (
    run_id  INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    lead_id INTEGER NOT NULL CHECK (lead_id BETWEEN 1 AND 2147483647),
    PRIMARY KEY (run_id, lead_id)
) STRICT, WITHOUT ROWID;

-- `phase` is where a running job is: claimed (nothing sent), sent (an answer is awaited), unknown (no trustworthy
-- answer came: to be read again from settle_at on). `unknown_before` says that an attempt may have deleted the lead.
CREATE TABLE jobs (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    lead_id        INTEGER NOT NULL CHECK (lead_id BETWEEN 1 AND 2147483647),
    rule           TEXT NOT NULL,
    run_id         INTEGER NOT NULL REFERENCES runs (id),
    state          TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done')),
    outcome        TEXT CHECK (outcome IN ('deleted', 'already_gone', 'spared', 'cancelled', 'failed')),
    reason         TEXT,
    attempts       INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at         INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    finished_at    INTEGER,
    last_error     TEXT,
    grace_seconds  INTEGER NOT NULL CHECK (grace_seconds >= 0),
    unknown_before INTEGER NOT NULL DEFAULT 0 CHECK (unknown_before IN (0, 1)),
    phase          TEXT CHECK (phase IN ('claimed', 'sent', 'unknown')),
    claim          INTEGER,
    claimed_at     INTEGER,
    sent_at        INTEGER,
    settle_at      INTEGER,
    CHECK ((state = 'done') = (outcome IS NOT NULL)),
    CHECK ((state = 'done') = (finished_at IS NOT NULL)),
    CHECK ((state = 'running') = (phase IS NOT NULL)),
    CHECK ((phase IN ('claimed', 'sent')) IS (claim IS NOT NULL) OR (phase IS NULL AND claim IS NULL)),
    CHECK ((claim IS NULL) = (claimed_at IS NULL)),
    CHECK (sent_at IS NULL OR phase IN ('sent', 'unknown')),
    CHECK (phase IS NOT 'sent' OR sent_at IS NOT NULL),
    CHECK ((phase IS 'unknown') = (settle_at IS NOT NULL)),
    CHECK (phase IS NOT 'unknown' OR unknown_before = 1)
) STRICT;
CREATE UNIQUE INDEX jobs_one_live ON jobs (lead_id) WHERE state <> 'done';
-- Ready, a rule at a time, so that a rule at its daily cap is skipped without being read.
CREATE INDEX jobs_ready ON jobs (rule, due_at) WHERE state = 'waiting' AND unknown_before = 0;
-- Ready, and already counted against the daily cap by the attempt whose outcome is unknown.
CREATE INDEX jobs_ready_again ON jobs (due_at) WHERE state = 'waiting' AND unknown_before = 1;
CREATE INDEX jobs_running ON jobs (rule, claim) WHERE state = 'running';
CREATE INDEX jobs_claim ON jobs (claim) WHERE claim IS NOT NULL;
CREATE INDEX jobs_unknown ON jobs (settle_at) WHERE phase = 'unknown';
-- What a rule deleted in a day.
CREATE INDEX jobs_deleted ON jobs (rule, finished_at) WHERE outcome = 'deleted';
CREATE INDEX jobs_finished ON jobs (finished_at, outcome) WHERE state = 'done';
CREATE INDEX jobs_lead ON jobs (lead_id, id);
CREATE INDEX jobs_run ON jobs (run_id);

CREATE TABLE attempts (
    id       INTEGER PRIMARY KEY,
    job_id   INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number   INTEGER NOT NULL CHECK (number >= 1),
    claim    INTEGER NOT NULL,
    sent_at  INTEGER NOT NULL,
    ended_at INTEGER,
    result   TEXT,
    error    TEXT,
    CHECK ((ended_at IS NULL) = (result IS NULL))
) STRICT;
CREATE INDEX attempts_job ON attempts (job_id, id);

-- A lead's fields as they were read before its deletion. It outlives its job's row where history is pruned earlier.
CREATE TABLE copies (
    lead_id    INTEGER PRIMARY KEY CHECK (lead_id BETWEEN 1 AND 2147483647),
    job_id     INTEGER NOT NULL,
    taken_at   INTEGER NOT NULL,
    deleted_at INTEGER,
    expires_at INTEGER NOT NULL,
    fields     TEXT NOT NULL CHECK (json_valid(fields))
) STRICT;
CREATE INDEX copies_expiry ON copies (expires_at);

-- Leads that the program protects from itself; an empty rule means every rule.
CREATE TABLE lead_protections (
    lead_id    INTEGER NOT NULL CHECK (lead_id BETWEEN 1 AND 2147483647),
    reason     TEXT NOT NULL CHECK (reason IN ('cancelled', 'failed', 'restored')),
    rule       TEXT NOT NULL,
    until      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (lead_id, reason, rule)
) STRICT, WITHOUT ROWID;
CREATE INDEX lead_protections_until ON lead_protections (until);

-- What a command asks of the running service.
CREATE TABLE requests (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    args       TEXT NOT NULL CHECK (json_valid(args)),
    state      TEXT NOT NULL CHECK (state IN ('pending', 'taken', 'done')),
    progress   TEXT,
    ok         INTEGER CHECK (ok IN (0, 1)),
    result     TEXT CHECK (result IS NULL OR json_valid(result)),
    created_at INTEGER NOT NULL,
    taken_at   INTEGER,
    done_at    INTEGER,
    CHECK ((state = 'done') = (ok IS NOT NULL)),
    CHECK ((state = 'done') = (done_at IS NOT NULL)),
    CHECK ((state = 'done') = (result IS NOT NULL)),
    CHECK (state <> 'taken' OR taken_at IS NOT NULL)
) STRICT;
CREATE INDEX requests_live ON requests (state, id) WHERE state <> 'done';
