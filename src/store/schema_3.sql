-- Version 3. Notices: who is told what, and what is still to be told. A notice is written in the transaction of what it
-- tells of. `more` are those of its kind that were not kept because too many wait, and, once it is sent, those that it
-- summed up.
CREATE TABLE notice_targets (
    target   TEXT NOT NULL,
    occasion TEXT NOT NULL CHECK (occasion IN ('held', 'finished', 'stopped', 'reload_failed', 'silence')),
    PRIMARY KEY (target, occasion)
) STRICT, WITHOUT ROWID;
CREATE TABLE notices (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    target      TEXT NOT NULL,
    occasion    TEXT NOT NULL CHECK (occasion IN ('held', 'finished', 'stopped', 'reload_failed', 'silence')),
    text        TEXT NOT NULL,
    rule        TEXT,
    run_id      INTEGER,
    count       INTEGER NOT NULL CHECK (count >= 0),
    more        INTEGER NOT NULL DEFAULT 0 CHECK (more >= 0),
    state       TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'summed', 'given_up')),
    tries       INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
    due_at      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    finished_at INTEGER,
    error       TEXT,
    CHECK ((state = 'waiting') = (finished_at IS NULL)),
    CHECK ((rule IS NULL) = (run_id IS NULL))
) STRICT;
CREATE INDEX notices_waiting ON notices (target, occasion, id) WHERE state = 'waiting';
CREATE INDEX notices_sent ON notices (finished_at) WHERE state = 'sent';
CREATE INDEX notices_finished ON notices (finished_at) WHERE finished_at IS NOT NULL;
