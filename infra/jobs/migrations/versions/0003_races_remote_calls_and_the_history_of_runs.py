"""Several runs may race for a row, remote calls outlive their run, and routing learns from what runs took.

The trigger `jobs_guard` stays as it is: it asks nothing about columns, only that an ended row keeps all of them.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

JOBS = """
ALTER TABLE jobs
  ADD COLUMN IF NOT EXISTS racers text[] NOT NULL DEFAULT '{}',
  ADD COLUMN IF NOT EXISTS calls jsonb NOT NULL DEFAULT '{}'::jsonb,
  ADD COLUMN IF NOT EXISTS queue varchar(32) NOT NULL DEFAULT 'people',
  ADD COLUMN IF NOT EXISTS pipeline integer,
  ADD COLUMN IF NOT EXISTS quality real,
  ADD COLUMN IF NOT EXISTS replaces varchar(255),
  ADD COLUMN IF NOT EXISTS provider varchar(32),
  ADD CONSTRAINT jobs_a_race_has_its_leader CHECK (racers = '{}' OR run_id = ANY (racers)),
  ADD CONSTRAINT jobs_nobody_races_for_what_waits CHECK (racers = '{}' OR status <> 'queued'),
  ADD CONSTRAINT jobs_calls_are_by_provider CHECK (jsonb_typeof(calls) = 'object'),
  ADD CONSTRAINT jobs_quality_is_a_share CHECK (quality BETWEEN 0 AND 1);
CREATE INDEX jobs_by_end ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_by_run ON jobs (run_id) WHERE status IN ('error', 'cancelled');
CREATE INDEX jobs_by_what_they_replace ON jobs (replaces) WHERE replaces IS NOT NULL;
"""

RUNS = """
CREATE TABLE runs (
  run_id varchar(64) PRIMARY KEY,
  job_id varchar(255) NOT NULL REFERENCES jobs ON DELETE CASCADE,
  attempt integer NOT NULL,
  provider varchar(32) NOT NULL,
  audio_seconds real,
  began_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  seconds real,
  outcome varchar(16),
  cost real,
  CONSTRAINT runs_outcome_known CHECK (outcome IN ('published', 'beaten', 'failed', 'crashed', 'cancelled')),
  CONSTRAINT runs_ended_has_a_time CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
CREATE INDEX runs_by_job ON runs (job_id);
CREATE INDEX runs_open ON runs (provider) WHERE outcome IS NULL;
CREATE INDEX runs_ended ON runs (provider, ended_at DESC) WHERE outcome IS NOT NULL;
"""

MIRROR_PLACE = """
CREATE TABLE mirror_place (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  followed_until timestamptz NOT NULL
);
"""


def upgrade() -> None:
    op.execute(JOBS)
    op.execute(RUNS)
    op.execute(MIRROR_PLACE)
