-- Version 2. Leads that were created again from their copies: one row a deletion, so that none is restored twice. It is
-- `sending` before the request leaves. `marker` is what the new lead carries, so that a lost answer can be looked up;
-- `missing` says that a lookup showed no lead with it.
CREATE TABLE restores (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    lead_id     INTEGER NOT NULL CHECK (lead_id BETWEEN 1 AND 2147483647),
    job_id      INTEGER NOT NULL,
    marker      TEXT NOT NULL UNIQUE,
    state       TEXT NOT NULL CHECK (state IN ('sending', 'unknown', 'missing', 'restored', 'failed')),
    new_lead_id INTEGER CHECK (new_lead_id BETWEEN 1 AND 2147483647),
    error       TEXT,
    sent_at     INTEGER NOT NULL,
    finished_at INTEGER,
    CHECK ((state = 'restored') = (new_lead_id IS NOT NULL)),
    CHECK ((state IN ('sending', 'unknown')) = (finished_at IS NULL))
) STRICT;
CREATE UNIQUE INDEX restores_once ON restores (lead_id, job_id);
CREATE INDEX restores_open ON restores (state, sent_at) WHERE state IN ('sending', 'unknown');
