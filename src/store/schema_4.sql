-- Version 4. Lists of jobs and runs by their state and rule, a page at a time: without these a filter that few of a million
-- rows pass reads them all. An index's rows end with the id, which is the order of the lists. The conditions hold for
-- every row: only a statement that repeats them uses the index. Without statistics SQLite would otherwise take it for
-- statements that look up a short time in another index.
CREATE INDEX jobs_by_outcome ON jobs (outcome) WHERE lead_id >= 1;
CREATE INDEX jobs_by_rule ON jobs (rule, outcome) WHERE lead_id >= 1;
CREATE INDEX runs_by_state ON runs (state) WHERE left_out >= 0;
CREATE INDEX runs_by_rule ON runs (rule, state) WHERE left_out >= 0;
