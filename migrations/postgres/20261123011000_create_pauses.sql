-- What a person stopped, until a person lets it go on. destination 0: every one; lane -1: every one.

CREATE TABLE gtide.pauses (
    source BIGINT NOT NULL REFERENCES gtide.sources (id),
    destination BIGINT NOT NULL,
    lane BIGINT NOT NULL,
    paused_by TEXT NOT NULL,
    reason TEXT,
    since BIGINT NOT NULL,
    PRIMARY KEY (source, destination, lane)
);
