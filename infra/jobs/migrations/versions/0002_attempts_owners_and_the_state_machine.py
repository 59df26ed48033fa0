"""What our runs need beside the old columns, and the state machine in the schema.

Old rows are brought into the state machine without losing one: `done` reads `completed`; work that was open under
the old system and is not older than a day waits in the queue again, older work ends with a sentence that says so.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

# An older system may have made its table without some of the contract's columns.
OLD_COLUMNS = """
  title text, duration integer, results_url text, srt_url text, error_message text,
  created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(), completed_at timestamptz,
  openai_model varchar(255), pct integer, status_message text, current_stage varchar(255),
  processing_method varchar(255), processing_time_seconds real, video_id varchar(255), progress_log jsonb
"""

NEW_COLUMNS = """
  artist text,
  attempt integer NOT NULL DEFAULT 1,
  lost_runs integer NOT NULL DEFAULT 0,
  run_id varchar(64),
  error_kind varchar(16),
  error_advice text,
  options jsonb NOT NULL DEFAULT '{}'::jsonb,
  batch varchar(255),
  fingerprint varchar(64),
  audio_key text,
  files jsonb NOT NULL DEFAULT '{}'::jsonb
"""

# An older system may know its statuses by an enum or a CHECK, and touch `updated_at` by a trigger.
OLD_RULES = """
ALTER TABLE jobs DISABLE TRIGGER USER;
DO $$
DECLARE
  old_check name;
BEGIN
  FOR old_check IN
    SELECT conname FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
    WHERE conrelid = 'jobs'::regclass AND contype = 'c' AND attname = 'status'
  LOOP
    EXECUTE format('ALTER TABLE jobs DROP CONSTRAINT %I', old_check);
  END LOOP;
  IF (SELECT typtype FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
      WHERE attrelid = 'jobs'::regclass AND attname = 'status') = 'e' THEN
    ALTER TABLE jobs ALTER COLUMN status DROP DEFAULT, ALTER COLUMN status TYPE varchar(50) USING status::text;
  END IF;
END
$$;
"""

OLD_ROWS = """
UPDATE jobs SET
  created_at = COALESCE(created_at, now()), updated_at = COALESCE(updated_at, created_at, now()),
  progress_log = COALESCE((
    SELECT jsonb_agg(
      jsonb_build_object('status', 'completed', 'percentage', 0, 'message', '',
                         'timestamp', COALESCE(updated_at, created_at, now()))
      || CASE jsonb_typeof(entry) WHEN 'object' THEN jsonb_strip_nulls(entry)
         ELSE jsonb_build_object('message', COALESCE(entry #>> '{}', '')) END ORDER BY place)
    FROM jsonb_array_elements(CASE jsonb_typeof(progress_log) WHEN 'array' THEN progress_log
                              WHEN 'null' THEN '[]'::jsonb ELSE jsonb_build_array(progress_log) END)
         WITH ORDINALITY AS entries(entry, place)
    WHERE progress_log IS NOT NULL), '[]'::jsonb),
  pct = LEAST(GREATEST(COALESCE(pct, 0), 0), 100),
  status = CASE lower(status)
    WHEN 'done' THEN 'completed' WHEN 'complete' THEN 'completed' WHEN 'finished' THEN 'completed'
    WHEN 'completed' THEN 'completed'
    WHEN 'cancelled' THEN 'cancelled' WHEN 'canceled' THEN 'cancelled'
    WHEN 'queued' THEN 'queued' WHEN 'pending' THEN 'queued' WHEN 'processing' THEN 'queued'
    ELSE 'error' END,
  error_message = CASE WHEN lower(status) IN ('done', 'complete', 'finished', 'completed', 'cancelled', 'canceled',
                                              'queued', 'pending', 'processing')
    THEN error_message ELSE COALESCE(error_message, 'It failed under an earlier version.') END;

UPDATE jobs SET status = 'error', error_kind = 'passing', error_advice = 'submit it again',
  error_message = 'It was never finished by an earlier version.'
WHERE status = 'queued' AND updated_at < now() - interval '1 day';

UPDATE jobs SET pct = 0, current_stage = NULL, completed_at = NULL, status_message = 'Waiting for its turn'
WHERE status = 'queued';
UPDATE jobs SET pct = 100 WHERE status = 'completed';
UPDATE jobs SET error_kind = 'passing' WHERE status = 'error' AND error_kind IS NULL;
UPDATE jobs SET completed_at = updated_at WHERE status IN ('completed', 'error', 'cancelled') AND completed_at IS NULL;
ALTER TABLE jobs ENABLE TRIGGER USER;
"""

CONSTRAINTS = """
ALTER TABLE jobs
  ALTER COLUMN status SET DEFAULT 'queued',
  ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN created_at SET DEFAULT now(),
  ALTER COLUMN updated_at SET NOT NULL, ALTER COLUMN updated_at SET DEFAULT now(),
  ALTER COLUMN pct SET NOT NULL, ALTER COLUMN pct SET DEFAULT 0,
  ALTER COLUMN progress_log SET NOT NULL, ALTER COLUMN progress_log SET DEFAULT '[]'::jsonb,
  ADD CONSTRAINT jobs_status_known CHECK (status IN ('queued', 'processing', 'completed', 'error', 'cancelled')),
  ADD CONSTRAINT jobs_pct_is_a_percentage CHECK (pct BETWEEN 0 AND 100),
  ADD CONSTRAINT jobs_ended_has_a_time CHECK ((status IN ('queued', 'processing')) = (completed_at IS NULL)),
  ADD CONSTRAINT jobs_processing_has_an_owner CHECK (status <> 'processing' OR run_id IS NOT NULL),
  ADD CONSTRAINT jobs_log_is_a_list CHECK (jsonb_typeof(progress_log) = 'array');
CREATE INDEX jobs_open ON jobs (created_at) WHERE status IN ('queued', 'processing');
CREATE INDEX jobs_by_age ON jobs (created_at DESC, id DESC);
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint) WHERE status = 'completed';
CREATE INDEX jobs_by_batch ON jobs (batch) WHERE batch IS NOT NULL;
"""

# Who may move a row where: infra/jobs/states.py says the same in Python, a test holds the two together.
GUARD = """
CREATE FUNCTION jobs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  ended constant text[] := ARRAY['completed', 'error', 'cancelled'];
  kept integer := jsonb_array_length(OLD.progress_log);
BEGIN
  IF NEW.id <> OLD.id THEN
    RAISE EXCEPTION 'a job keeps its id' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.attempt = OLD.attempt THEN
    IF OLD.status = ANY (ended) THEN
      RAISE EXCEPTION 'job % has ended: %', OLD.id, OLD.status USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.status = 'processing' AND NEW.status = 'queued' THEN
      RAISE EXCEPTION 'job % goes back to the queue only as a new attempt', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.pct < OLD.pct THEN
      RAISE EXCEPTION 'progress of job % would fall', OLD.id USING ERRCODE = 'check_violation';
    END IF;
  ELSIF NEW.attempt <> OLD.attempt + 1 OR NEW.status <> 'queued' OR OLD.status = 'completed' THEN
    RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  IF jsonb_array_length(NEW.progress_log) < kept
     OR (NEW.progress_log <> OLD.progress_log
         AND (SELECT jsonb_agg(step) FROM (
                SELECT step FROM jsonb_array_elements(NEW.progress_log) WITH ORDINALITY AS entries(step, place)
                WHERE place <= kept ORDER BY place) AS begin) IS DISTINCT FROM NULLIF(OLD.progress_log, '[]'::jsonb))
  THEN
    RAISE EXCEPTION 'the log of job % only grows', OLD.id USING ERRCODE = 'check_violation';
  END IF;
  NEW.updated_at := now();
  RETURN NEW;
END
$$;
CREATE TRIGGER jobs_guard BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION jobs_guard();
"""


def add(columns: str) -> str:
    return "ALTER TABLE jobs " + ", ".join(
        f"ADD COLUMN IF NOT EXISTS {column.strip()}" for column in columns.strip().split(",")
    )


def upgrade() -> None:
    op.execute(add(OLD_COLUMNS))
    op.execute(add(NEW_COLUMNS))
    op.execute(OLD_RULES)
    op.execute(OLD_ROWS)
    op.execute(CONSTRAINTS)
    op.execute(GUARD)
