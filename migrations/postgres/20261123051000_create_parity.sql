-- Parallel runs: what an older job archived beside this archiver. Times are microseconds since 1970-01-01 UTC; digests are
-- the 32 bytes of a SHA-256; manifests are a JSON list.

CREATE TABLE gtide.parity_runs (
    source BIGINT PRIMARY KEY REFERENCES gtide.sources (id),
    started_at BIGINT NOT NULL,
    window_seconds BIGINT NOT NULL,
    grace_seconds BIGINT NOT NULL,
    manifests TEXT NOT NULL,
    finished_at BIGINT,
    scanned_at BIGINT,
    scan_error TEXT
);

-- before: it was listed when the run began. content: digest and size of the binlog behind what is listed, once known; note:
-- why it cannot be known.
CREATE TABLE gtide.parity_listed (
    source BIGINT NOT NULL REFERENCES gtide.sources (id),
    manifest TEXT NOT NULL,
    object TEXT NOT NULL,
    listed BYTEA NOT NULL CHECK (length(listed) = 32),
    binlog TEXT NOT NULL,
    before_start BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    content BYTEA CHECK (length(content) = 32),
    content_size BIGINT,
    note TEXT,
    PRIMARY KEY (source, manifest, object, listed)
);
