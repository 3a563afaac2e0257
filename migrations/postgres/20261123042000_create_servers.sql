-- What a source's server says of itself, and why it cannot be asked. The report is JSON, written and read whole; times are
-- microseconds since 1970-01-01 UTC.

CREATE TABLE gtide.servers (
    source BIGINT PRIMARY KEY REFERENCES gtide.sources (id),
    answered_at BIGINT,
    report TEXT,
    error TEXT,
    hint TEXT,
    exit TEXT,
    silent_since BIGINT
);
