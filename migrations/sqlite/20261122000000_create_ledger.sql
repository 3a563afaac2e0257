-- The ledger: what the archiver knows about sources, destinations, files and commits.
-- All of it can be rebuilt from the buckets and the data directory.
-- Times are microseconds since 1970-01-01 UTC; digests are the 32 bytes of a SHA-256.

CREATE TABLE sources (
    id INTEGER PRIMARY KEY,
    cluster TEXT NOT NULL,
    server_uuid TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (cluster, server_uuid, incarnation)
) STRICT;

CREATE TABLE destinations (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE
) STRICT;

-- path: where the index named it; device, inode, file_size and mtime_ns are one fingerprint: all or
-- none. Neither when the file is only known from a bucket.
CREATE TABLE files (
    source INTEGER NOT NULL REFERENCES sources (id),
    sequence INTEGER NOT NULL,
    name TEXT NOT NULL,
    path TEXT,
    size INTEGER NOT NULL,
    device INTEGER,
    inode INTEGER,
    file_size INTEGER,
    mtime_ns INTEGER,
    discovered_at INTEGER NOT NULL,
    PRIMARY KEY (source, sequence)
) STRICT, WITHOUT ROWID;

-- What sealing a file into the spool yielded, as JSON. Apart from files, which stays narrow.
CREATE TABLE sealed (
    source INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (source, sequence),
    FOREIGN KEY (source, sequence) REFERENCES files (source, sequence)
) STRICT;

-- Uploads under way: the store's token survives the process.
CREATE TABLE uploads (
    source INTEGER NOT NULL,
    destination INTEGER NOT NULL REFERENCES destinations (id),
    sequence INTEGER NOT NULL,
    token TEXT NOT NULL,
    verified INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (source, destination, sequence),
    FOREIGN KEY (source, sequence) REFERENCES files (source, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE commits (
    source INTEGER NOT NULL,
    destination INTEGER NOT NULL REFERENCES destinations (id),
    sequence INTEGER NOT NULL,
    entry_sha256 BLOB NOT NULL CHECK (length(entry_sha256) = 32),
    plain_sha256 BLOB NOT NULL CHECK (length(plain_sha256) = 32),
    size INTEGER NOT NULL,
    last_commit INTEGER,
    committed_at INTEGER NOT NULL,
    PRIMARY KEY (source, destination, sequence),
    FOREIGN KEY (source, sequence) REFERENCES files (source, sequence)
) STRICT, WITHOUT ROWID;

-- Kept beside the commits, in the same transaction, so that asking is no scan.
-- first <= watermark <= head; every sequence from first to watermark is in commits.
CREATE TABLE positions (
    source INTEGER NOT NULL REFERENCES sources (id),
    destination INTEGER NOT NULL REFERENCES destinations (id),
    first INTEGER NOT NULL,
    watermark INTEGER NOT NULL,
    head INTEGER NOT NULL,
    head_gtids TEXT,
    PRIMARY KEY (source, destination)
) STRICT, WITHOUT ROWID;

-- What keeps a configured source from being watched at all, until it no longer does.
CREATE TABLE troubles (
    source_name TEXT PRIMARY KEY,
    error TEXT NOT NULL,
    hint TEXT,
    exit TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
