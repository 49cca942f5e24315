-- Which change of the registry a session was proved under: what a later one ends, ends also where it came while no gateway ran.

ALTER TABLE sessions ADD COLUMN as_of BIGINT NOT NULL DEFAULT 0;
