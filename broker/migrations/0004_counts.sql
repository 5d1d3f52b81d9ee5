-- How many jobs are in each state: the rows themselves keep count.

CREATE TRIGGER jobs_counted_in AFTER INSERT ON jobs BEGIN
    UPDATE counts SET n = n + 1 WHERE state = new.state;
END;

CREATE TRIGGER jobs_counted_out AFTER DELETE ON jobs BEGIN
    UPDATE counts SET n = n - 1 WHERE state = old.state;
END;

CREATE TRIGGER jobs_counted_on AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE counts SET n = n + (state = new.state) - (state = old.state) WHERE state IN (old.state, new.state);
END;
