-- What a person stopped, until a person lets it go on. destination 0: every one; lane -1: every one.

CREATE TABLE pauses (
    source INTEGER NOT NULL REFERENCES sources (id),
    destination INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    paused_by TEXT NOT NULL,
    reason TEXT,
    since INTEGER NOT NULL,
    PRIMARY KEY (source, destination, lane)
) STRICT, WITHOUT ROWID;
