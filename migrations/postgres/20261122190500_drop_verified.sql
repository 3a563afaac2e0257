-- Whether an uploaded object is there and whole, the store is asked: one HEAD.

ALTER TABLE gtide.uploads DROP COLUMN verified;
