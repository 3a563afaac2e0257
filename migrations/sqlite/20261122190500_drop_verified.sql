-- Whether an uploaded object is there and whole, the store is asked: one HEAD.

ALTER TABLE uploads DROP COLUMN verified;
