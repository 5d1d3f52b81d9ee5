-- What is known of nodes: what was seen of each last, and what people have said of it.

CREATE TABLE nodes (
    name     TEXT PRIMARY KEY,
    seen     TEXT NOT NULL DEFAULT 'up',       -- up, degraded or unreachable
    message  TEXT NOT NULL DEFAULT '',         -- of what was seen
    withheld TEXT,                             -- draining or paused; NULL: jobs may start there
    since    INTEGER,
    until    INTEGER,                          -- NULL: until somebody says resume
    by       TEXT
) WITHOUT ROWID;

-- Where it happened, for what happened to an attempt; for what happened to a node, the node.
ALTER TABLE events ADD COLUMN node TEXT;
UPDATE events SET node = (SELECT node FROM attempts WHERE attempts.job_id = events.job_id AND fence = events.attempt)
    WHERE to_state = 'starting' OR from_state IN ('starting', 'running', 'unknown');
CREATE INDEX events_of_node ON events (node, seq) WHERE node IS NOT NULL;
