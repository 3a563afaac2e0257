-- The ledger: what the archivers know about sources, destinations, files and commits.
-- All of it can be rebuilt from the buckets and the data directories.
-- Times are microseconds since 1970-01-01 UTC; digests are the 32 bytes of a SHA-256.

CREATE TABLE gtide.sources (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster TEXT NOT NULL,
    server_uuid TEXT NOT NULL,
    incarnation BIGINT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (cluster, server_uuid, incarnation)
);

CREATE TABLE gtide.destinations (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    url TEXT NOT NULL UNIQUE
);

-- path: where the index named it; device, inode, file_size and mtime_ns are one fingerprint: all or
-- none. Neither when the file is only known from a bucket.
CREATE TABLE gtide.files (
    source BIGINT NOT NULL REFERENCES gtide.sources (id),
    sequence BIGINT NOT NULL,
    name TEXT NOT NULL,
    path TEXT,
    size BIGINT NOT NULL,
    device BIGINT,
    inode BIGINT,
    file_size BIGINT,
    mtime_ns BIGINT,
    discovered_at BIGINT NOT NULL,
    PRIMARY KEY (source, sequence)
);

-- What sealing a file into the spool yielded, as JSON. Apart from files, which stays narrow.
CREATE TABLE gtide.sealed (
    source BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (source, sequence),
    FOREIGN KEY (source, sequence) REFERENCES gtide.files (source, sequence)
);

-- Uploads under way: the store's token survives the process.
CREATE TABLE gtide.uploads (
    source BIGINT NOT NULL,
    destination BIGINT NOT NULL REFERENCES gtide.destinations (id),
    sequence BIGINT NOT NULL,
    token TEXT NOT NULL,
    verified BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (source, destination, sequence),
    FOREIGN KEY (source, sequence) REFERENCES gtide.files (source, sequence)
);

CREATE TABLE gtide.commits (
    source BIGINT NOT NULL,
    destination BIGINT NOT NULL REFERENCES gtide.destinations (id),
    sequence BIGINT NOT NULL,
    entry_sha256 BYTEA NOT NULL CHECK (length(entry_sha256) = 32),
    plain_sha256 BYTEA NOT NULL CHECK (length(plain_sha256) = 32),
    size BIGINT NOT NULL,
    last_commit BIGINT,
    committed_at BIGINT NOT NULL,
    PRIMARY KEY (source, destination, sequence),
    FOREIGN KEY (source, sequence) REFERENCES gtide.files (source, sequence)
);

-- A file's commits at all destinations, also for the foreign key's own questions.
CREATE INDEX commits_of_file ON gtide.commits (source, sequence);

-- Kept beside the commits, in the same transaction, so that asking is no scan.
-- first <= watermark <= head; every sequence from first to watermark is in commits.
CREATE TABLE gtide.positions (
    source BIGINT NOT NULL REFERENCES gtide.sources (id),
    destination BIGINT NOT NULL REFERENCES gtide.destinations (id),
    first BIGINT NOT NULL,
    watermark BIGINT NOT NULL,
    head BIGINT NOT NULL,
    head_gtids TEXT,
    PRIMARY KEY (source, destination)
);

-- What keeps a configured source from being watched at all, until it no longer does.
CREATE TABLE gtide.troubles (
    source_name TEXT PRIMARY KEY,
    error TEXT NOT NULL,
    hint TEXT,
    exit TEXT NOT NULL,
    since BIGINT NOT NULL
);
