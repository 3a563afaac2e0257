-- Archivers at work, as they report themselves. The report is JSON, written and read whole.

CREATE TABLE gtide.agents (
    agent TEXT PRIMARY KEY,
    seen_at BIGINT NOT NULL,
    report TEXT NOT NULL
);
