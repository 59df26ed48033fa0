"""The queries that matter, by name. All parameters are named; all of one write's rules stand in its WHERE.

A run writes with its fence: the row must be open, in the run's attempt, and owned by the run.
"""

INSERT = """
INSERT INTO jobs (id, youtube_url, title, status, pct, status_message, options, batch, run_id, video_id, progress_log)
VALUES (%(id)s, %(link)s, %(title)s, 'queued', 0, 'Waiting for its turn', %(options)s, %(batch)s, %(run)s,
        %(video_id)s, %(steps)s)
ON CONFLICT (id) DO NOTHING
"""

GET = "SELECT * FROM jobs WHERE id = %(id)s"

LIST = """
SELECT * FROM jobs
WHERE (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(after)s::text IS NULL OR (created_at, id) < (SELECT created_at, id FROM jobs WHERE id = %(after)s))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
"""

COUNT = "SELECT status, count(*) AS jobs FROM jobs GROUP BY status"

# A queued row learns which run will do it; a run that began meanwhile has claimed it already.
ASSIGN = """
UPDATE jobs SET run_id = %(run)s
WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'queued' AND run_id IS NULL
"""

# The newest run of an attempt takes the row; whoever held it before is refused from here on.
CLAIM = """
UPDATE jobs SET run_id = %(run)s, status = 'processing'
WHERE id = %(id)s AND attempt = %(attempt)s AND status IN ('queued', 'processing')
RETURNING *
"""

FENCE = "id = %(id)s AND attempt = %(attempt)s AND run_id = %(run)s AND status IN ('queued', 'processing')"

PROGRESS = f"""
UPDATE jobs SET
  pct = GREATEST(COALESCE(pct, 0), %(pct)s), status_message = %(message)s, current_stage = %(stage)s,
  progress_log = CASE WHEN jsonb_array_length(progress_log) < %(limit)s
                      THEN progress_log || %(steps)s ELSE progress_log END
WHERE {FENCE}
"""  # noqa: S608  the fence is a constant of this module

LEARN = f"""
UPDATE jobs SET
  title = COALESCE(%(title)s, title), artist = COALESCE(%(artist)s, artist),
  duration = COALESCE(%(duration)s, duration), video_id = COALESCE(%(video_id)s, video_id),
  audio_key = COALESCE(%(audio_key)s, audio_key), fingerprint = COALESCE(%(fingerprint)s, fingerprint)
WHERE {FENCE}
"""  # noqa: S608

# updated_at is the run's pulse: the mirror takes a run that is silent for long as dead.
HEARTBEAT = f"UPDATE jobs SET updated_at = now() WHERE {FENCE}"  # noqa: S608

HAND_OVER = f"UPDATE jobs SET run_id = %(to)s WHERE {FENCE}"  # noqa: S608

COMPLETE = f"""
UPDATE jobs SET
  status = 'completed', pct = 100, status_message = %(message)s, current_stage = 'done', completed_at = now(),
  results_url = %(results_url)s, srt_url = %(srt_url)s, files = %(files)s,
  title = COALESCE(%(title)s, title), duration = COALESCE(%(duration)s, duration),
  processing_method = %(method)s, processing_time_seconds = %(seconds)s,
  error_message = NULL, error_kind = NULL, error_advice = NULL,
  progress_log = progress_log || %(steps)s
WHERE {FENCE}
"""  # noqa: S608

FAIL = f"""
UPDATE jobs SET
  status = 'error', status_message = %(message)s, completed_at = now(),
  error_message = %(message)s, error_kind = %(kind)s, error_advice = %(advice)s,
  progress_log = progress_log || %(steps)s
WHERE {FENCE}
"""  # noqa: S608

# --- not by a run: the user's word, and the mirror's --------------------------------------------

CANCEL = """
UPDATE jobs SET status = 'cancelled', status_message = 'Cancelled', completed_at = now(),
  progress_log = progress_log || %(steps)s
WHERE id = %(id)s AND status IN ('queued', 'processing')
RETURNING *
"""

# The run that owned the row is gone: the next attempt begins, or, runs lost too often, the job ends.
LOST = """
UPDATE jobs SET status = 'queued', attempt = attempt + 1, lost_runs = lost_runs + %(blame)s, run_id = NULL,
  pct = 0, current_stage = NULL, status_message = %(message)s, progress_log = progress_log || %(steps)s
WHERE id = %(id)s AND attempt = %(attempt)s AND status IN ('queued', 'processing')
  AND run_id IS NOT DISTINCT FROM %(run)s AND lost_runs + %(blame)s < %(max_lost)s
"""

GIVE_UP = """
UPDATE jobs SET status = 'error', lost_runs = lost_runs + 1, completed_at = now(), status_message = %(message)s,
  error_message = %(message)s, error_kind = 'passing', error_advice = %(advice)s,
  progress_log = progress_log || %(steps)s
WHERE id = %(id)s AND attempt = %(attempt)s AND status IN ('queued', 'processing')
  AND run_id IS NOT DISTINCT FROM %(run)s
"""

RETRY = """
UPDATE jobs SET status = 'queued', attempt = attempt + 1, lost_runs = 0, run_id = NULL, pct = 0,
  current_stage = NULL, completed_at = NULL, error_message = NULL, error_kind = NULL, error_advice = NULL,
  status_message = 'Waiting for its turn', progress_log = progress_log || %(steps)s
WHERE id = %(id)s AND status IN ('error', 'cancelled')
RETURNING *
"""

NOTE = """
UPDATE jobs SET status_message = %(message)s
WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'queued' AND run_id IS NOT DISTINCT FROM %(run)s
  AND status_message IS DISTINCT FROM %(message)s
"""

OPEN_JOBS = """
SELECT * FROM jobs WHERE status IN ('queued', 'processing') ORDER BY created_at LIMIT %(limit)s
"""

CANCELLED_LATELY = """
SELECT * FROM jobs WHERE status = 'cancelled' AND run_id IS NOT NULL AND updated_at > now() - interval '15 minutes'
"""

FINISHED_LIKE = """
SELECT * FROM jobs
WHERE fingerprint = %(fingerprint)s AND status = 'completed' AND results_url IS NOT NULL AND id <> %(id)s
ORDER BY completed_at DESC LIMIT 1
"""
