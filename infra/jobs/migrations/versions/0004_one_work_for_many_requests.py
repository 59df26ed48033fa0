"""Requests for the same song share one work; batches; keys of requests that may come twice; limits of sites.

A job that follows another waits in the queue and ends with it. The trigger `jobs_lead` sees to that in the
transaction that ends the leader, whoever ends it: a run, the mirror, a user.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

JOBS = """
ALTER TABLE jobs
  ADD COLUMN IF NOT EXISTS follows varchar(255) REFERENCES jobs ON DELETE SET NULL,
  ADD COLUMN IF NOT EXISTS place integer,
  ADD COLUMN IF NOT EXISTS thumbnail text,
  ADD COLUMN IF NOT EXISTS chapters jsonb NOT NULL DEFAULT '[]'::jsonb,
  ADD CONSTRAINT jobs_who_follows_does_not_work CHECK (follows IS NULL OR status <> 'processing'),
  ADD CONSTRAINT jobs_chapters_are_a_list CHECK (jsonb_typeof(chapters) = 'array');
CREATE INDEX jobs_following ON jobs (follows) WHERE status = 'queued' AND follows IS NOT NULL;
CREATE INDEX jobs_leading ON jobs (fingerprint) WHERE status IN ('queued', 'processing') AND follows IS NULL;
DROP INDEX IF EXISTS jobs_by_batch;
CREATE INDEX jobs_by_batch ON jobs (batch, place) WHERE batch IS NOT NULL;
"""

# The work on a song that its first caller does not want any more goes on for the next who asked.
LEAD = """
CREATE FUNCTION jobs_lead() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  heir varchar(255);
BEGIN
  IF NEW.status = 'cancelled' THEN
    SELECT id INTO heir FROM jobs WHERE follows = NEW.id AND status = 'queued'
    ORDER BY created_at, place, id LIMIT 1 FOR UPDATE;
    UPDATE jobs SET follows = NULLIF(heir, id),
      status_message = CASE WHEN id = heir THEN 'Waiting for its turn' ELSE status_message END
    WHERE follows = NEW.id AND status = 'queued';
  ELSE
    UPDATE jobs SET
      status = NEW.status, pct = GREATEST(pct, CASE NEW.status WHEN 'completed' THEN 100 ELSE 0 END),
      status_message = NEW.status_message, current_stage = NEW.current_stage, completed_at = now(),
      title = COALESCE(NEW.title, title), artist = NEW.artist, duration = NEW.duration, video_id = NEW.video_id,
      thumbnail = NEW.thumbnail, chapters = NEW.chapters, audio_key = NEW.audio_key,
      results_url = NEW.results_url, srt_url = NEW.srt_url, files = NEW.files,
      quality = NEW.quality, pipeline = NEW.pipeline, provider = NEW.provider,
      processing_method = NEW.processing_method, processing_time_seconds = NEW.processing_time_seconds,
      error_message = NEW.error_message, error_kind = NEW.error_kind, error_advice = NEW.error_advice,
      progress_log = progress_log || jsonb_build_array(jsonb_build_object(
        'status', NEW.status, 'percentage', NEW.pct, 'message', NEW.status_message, 'timestamp', now(),
        'attempt', attempt))
    WHERE follows = NEW.id AND status = 'queued';
  END IF;
  RETURN NULL;
END
$$;
CREATE TRIGGER jobs_lead AFTER UPDATE OF status ON jobs FOR EACH ROW
WHEN (OLD.status IN ('queued', 'processing') AND NEW.status NOT IN ('queued', 'processing'))
EXECUTE FUNCTION jobs_lead();
"""

BATCHES = """
CREATE TABLE batches (
  id varchar(255) PRIMARY KEY,
  title text,
  link text,
  options jsonb NOT NULL DEFAULT '{}'::jsonb,
  status varchar(16) NOT NULL,
  message text,
  attempt integer NOT NULL DEFAULT 1,
  lost_runs integer NOT NULL DEFAULT 0,
  run_id varchar(64),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT batches_status_known CHECK (status IN ('listing', 'listed', 'error', 'cancelled')),
  CONSTRAINT batches_listing_has_a_link CHECK (status <> 'listing' OR link IS NOT NULL)
);
CREATE INDEX batches_by_age ON batches (created_at, id);
CREATE INDEX batches_listing ON batches (created_at) WHERE status = 'listing';
"""

KEYS = """
CREATE TABLE request_keys (
  key varchar(255) PRIMARY KEY,
  asked varchar(64) NOT NULL,
  answer jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX request_keys_by_age ON request_keys (created_at);
"""

BREAKERS = """
CREATE TABLE breakers (
  name varchar(255) PRIMARY KEY,
  reason text NOT NULL,
  times integer NOT NULL DEFAULT 1,
  tripped_at timestamptz NOT NULL DEFAULT now(),
  until timestamptz NOT NULL
);
"""


def upgrade() -> None:
    for statements in (JOBS, LEAD, BATCHES, KEYS, BREAKERS):
        op.execute(statements)
