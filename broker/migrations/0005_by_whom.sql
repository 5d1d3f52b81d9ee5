-- Where a job stands in the list is not written into these any more: each change of its state had rewritten six indexes,
-- and two thirds of that were these three. Within a model, a user or a node the newest jobs come first.

DROP INDEX jobs_by_model;
DROP INDEX jobs_by_user;
DROP INDEX jobs_by_node;
ALTER TABLE jobs ADD COLUMN recent INTEGER AS (-id) VIRTUAL;
CREATE INDEX jobs_by_model ON jobs (model, recent);
CREATE INDEX jobs_by_user  ON jobs (user, recent);
CREATE INDEX jobs_by_node  ON jobs (node_key, recent);
