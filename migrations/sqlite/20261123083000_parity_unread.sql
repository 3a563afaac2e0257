-- Lines of the older job's manifests that are no sums, as of the last look: a JSON list. They keep a run from parity.

ALTER TABLE parity_runs ADD COLUMN unread TEXT;
