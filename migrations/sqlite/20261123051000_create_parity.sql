-- Parallel runs: what an older job archived beside this archiver. Times are microseconds since 1970-01-01 UTC; digests are
-- the 32 bytes of a SHA-256; manifests are a JSON list.

CREATE TABLE parity_runs (
    source INTEGER PRIMARY KEY REFERENCES sources (id),
    started_at INTEGER NOT NULL,
    window_seconds INTEGER NOT NULL,
    grace_seconds INTEGER NOT NULL,
    manifests TEXT NOT NULL,
    finished_at INTEGER,
    scanned_at INTEGER,
    scan_error TEXT
) STRICT;

-- before: it was listed when the run began. content: digest and size of the binlog behind what is listed, once known; note:
-- why it cannot be known.
CREATE TABLE parity_listed (
    source INTEGER NOT NULL REFERENCES sources (id),
    manifest TEXT NOT NULL,
    object TEXT NOT NULL,
    listed BLOB NOT NULL CHECK (length(listed) = 32),
    binlog TEXT NOT NULL,
    before_start INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    content BLOB CHECK (length(content) = 32),
    content_size INTEGER,
    note TEXT,
    PRIMARY KEY (source, manifest, object, listed)
) STRICT, WITHOUT ROWID;
