-- Troubles by archiver, source and destination ('' for the source as a whole): two archivers may call different
-- servers alike. What is lost here is found again within the minute.
DROP TABLE gtide.troubles;

CREATE TABLE gtide.troubles (
    agent TEXT NOT NULL,
    source_name TEXT NOT NULL,
    destination TEXT NOT NULL,
    error TEXT NOT NULL,
    hint TEXT,
    exit TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (agent, source_name, destination)
);
