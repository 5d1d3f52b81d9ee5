-- The ledger. Times are microseconds since 1970 in UTC; lists and mappings are JSON; absent is NULL.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE jobs (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    state         TEXT NOT NULL,
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL COLLATE NOCASE,
    user          TEXT NOT NULL COLLATE NOCASE,
    task_id       TEXT,
    model         TEXT NOT NULL COLLATE NOCASE,
    task          TEXT,
    data          TEXT NOT NULL,
    words         TEXT NOT NULL,               -- protocol/filter.py: words_of
    priority      INTEGER NOT NULL,            -- 0 high, 1 normal, 2 low
    rank          REAL NOT NULL,
    reason        TEXT,
    message       TEXT NOT NULL DEFAULT '',
    intent        TEXT,
    node          TEXT,
    gpus          TEXT,
    fence         INTEGER NOT NULL DEFAULT 0,
    infra_deaths  INTEGER NOT NULL DEFAULT 0,
    epoch         INTEGER NOT NULL DEFAULT 0,
    epochs        INTEGER NOT NULL,
    fitness_name  TEXT NOT NULL DEFAULT '',
    fitness       REAL,
    best_fitness  REAL,
    best_epoch    INTEGER,
    parent_id     INTEGER,
    submitted_at  INTEGER NOT NULL,
    queued_at     INTEGER,
    not_before    INTEGER,
    started_at    INTEGER,
    ended_at      INTEGER,
    warnings      TEXT,

    -- Where a job stands in the list that a person sees: active, then waiting in order, then newest ended.
    shelf INTEGER AS (CASE WHEN state IN ('starting', 'running', 'unknown') THEN 0
                           WHEN state IN ('held', 'queued') THEN 1 ELSE 2 END) VIRTUAL,
    lane  INTEGER AS (CASE WHEN state IN ('held', 'queued') THEN priority ELSE 0 END) VIRTUAL,
    place REAL    AS (CASE WHEN state IN ('starting', 'running', 'unknown') THEN id
                           WHEN state IN ('held', 'queued') THEN rank ELSE -ended_at END) VIRTUAL,
    tie   INTEGER AS (id) VIRTUAL,             -- SQLite does not search an index by (a, id) > (?, ?) when id is the rowid
    -- What absent values sort as: keyset cursors cannot compare NULL.
    node_key    TEXT    AS (coalesce(node, '')) VIRTUAL,
    fitness_key REAL    AS (coalesce(fitness, -1e308)) VIRTUAL,
    best_key    REAL    AS (coalesce(best_fitness, -1e308)) VIRTUAL,
    started_key INTEGER AS (coalesce(started_at, 0)) VIRTUAL,
    ended_key   INTEGER AS (coalesce(ended_at, 0)) VIRTUAL
);

CREATE INDEX jobs_in_order    ON jobs (shelf, lane, place, tie);
CREATE INDEX jobs_by_state    ON jobs (state, shelf, lane, place, tie);
CREATE INDEX jobs_by_name     ON jobs (name, tie);
CREATE INDEX jobs_by_model    ON jobs (model, shelf, lane, place, tie);
CREATE INDEX jobs_by_user     ON jobs (user, shelf, lane, place, tie);
CREATE INDEX jobs_by_node     ON jobs (node_key, shelf, lane, place, tie);
CREATE INDEX jobs_by_priority ON jobs (priority, tie);
CREATE INDEX jobs_by_epoch    ON jobs (epoch, tie);
CREATE INDEX jobs_by_fitness  ON jobs (fitness_key, tie);
CREATE INDEX jobs_by_best     ON jobs (best_key, tie);
CREATE INDEX jobs_by_started  ON jobs (started_key, tie);
CREATE INDEX jobs_by_ended    ON jobs (ended_key, tie);
CREATE INDEX jobs_by_task_id  ON jobs (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX jobs_by_reason   ON jobs (reason, shelf, lane, place, tie) WHERE reason IS NOT NULL;
CREATE INDEX jobs_queued      ON jobs (id, priority, rank) WHERE state = 'queued';
CREATE INDEX jobs_failed      ON jobs (ended_at) WHERE state = 'failed';

-- Kept by the writer and not by triggers: with a trigger each inserted row would have its own journal of pages.
CREATE TABLE counts (state TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counts VALUES ('held', 0), ('queued', 0), ('starting', 0), ('running', 0), ('unknown', 0),
                          ('completed', 0), ('failed', 0), ('stopped', 0);

-- Written once for each commit: FTS5 flushes what it holds at every savepoint.
CREATE VIRTUAL TABLE job_words USING fts5(
    words, content = 'jobs', content_rowid = 'id', detail = none, columnsize = 0, tokenize = "ascii tokenchars ':'"
);

-- Beside the jobs, so that a walk over many rows reads few pages.
CREATE TABLE specs (
    job_id INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    spec   TEXT NOT NULL
);

CREATE TABLE attempts (
    job_id     INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    fence      INTEGER NOT NULL,
    node       TEXT NOT NULL,
    engine_ref TEXT NOT NULL DEFAULT '',
    gpus       TEXT NOT NULL,
    directory  TEXT NOT NULL,
    log_offset INTEGER NOT NULL DEFAULT 0,
    last_event INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL,
    running_at INTEGER,
    ended_at   INTEGER,
    exit_code  INTEGER,
    reason     TEXT,
    message    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, fence)
) WITHOUT ROWID;

-- Append-only, but that a removed job's events go with it. An epoch's row stands for two numbers: what it says of the
-- epoch is seq - 1, what it says of the job is seq.
CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    job_id     INTEGER,
    attempt    INTEGER,
    verb       TEXT NOT NULL,
    from_state TEXT,
    to_state   TEXT,
    reason     TEXT,
    message    TEXT NOT NULL DEFAULT '',
    by         TEXT NOT NULL DEFAULT '',
    data       TEXT
);
CREATE INDEX events_of_job ON events (job_id, seq);

CREATE TABLE epochs (
    job_id  INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    epoch   INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    seconds REAL NOT NULL,
    fitness REAL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (job_id, epoch)
) WITHOUT ROWID;

CREATE TABLE metric_names (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key  TEXT NOT NULL                         -- protocol/filter.py: metric_key
);
CREATE INDEX metric_names_by_key ON metric_names (key);

CREATE TABLE metrics (
    job_id  INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    name_id INTEGER NOT NULL REFERENCES metric_names,
    value   REAL,                              -- NULL: not a number
    PRIMARY KEY (job_id, epoch, name_id),
    FOREIGN KEY (job_id, epoch) REFERENCES epochs ON DELETE CASCADE
) WITHOUT ROWID;

-- The newest value of each metric of each job, for filters such as map50>0.6.
CREATE TABLE newest (
    job_id  INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    name_id INTEGER NOT NULL REFERENCES metric_names,
    value   REAL NOT NULL,
    PRIMARY KEY (job_id, name_id)
) WITHOUT ROWID;
CREATE INDEX newest_by_value ON newest (name_id, value);

CREATE TABLE checkpoints (
    job_id  INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    path    TEXT NOT NULL,
    sha256  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (job_id, attempt, epoch, path)
) WITHOUT ROWID;

CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    op       TEXT NOT NULL,
    job_id   INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    rank     REAL NOT NULL,
    body     TEXT
);

CREATE TABLE idempotency (
    key       TEXT PRIMARY KEY,
    body_hash TEXT NOT NULL,
    job_ids   TEXT NOT NULL,
    at        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (at);
