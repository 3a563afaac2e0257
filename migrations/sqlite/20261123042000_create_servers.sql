-- What a source's server says of itself, and why it cannot be asked. The report is JSON, written and read whole; times are
-- microseconds since 1970-01-01 UTC.

CREATE TABLE servers (
    source INTEGER PRIMARY KEY REFERENCES sources (id),
    answered_at INTEGER,
    report TEXT,
    error TEXT,
    hint TEXT,
    exit TEXT,
    silent_since INTEGER
) STRICT;
