-- Archivers at work, as they report themselves. The report is JSON, written and read whole.

CREATE TABLE agents (
    agent TEXT PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    report TEXT NOT NULL
) STRICT, WITHOUT ROWID;
