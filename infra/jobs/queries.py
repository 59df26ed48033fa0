"""The queries that matter, by name. All parameters are named; all of one write's rules stand in its WHERE.

A run writes with its fence: the row must be open, in the run's attempt, and owned by the run, or raced for by it.
Of the racers one leads: it is `run_id`, and its progress and its pulse are the row's.
"""
# ruff: noqa: S608  what is put together here are constants of this module

from infra.jobs.job import Job

INSERT = """
INSERT INTO jobs (id, youtube_url, title, status, pct, status_message, options, batch, place, run_id, video_id, queue,
                  replaces, fingerprint, follows, progress_log)
VALUES (%(id)s, %(link)s, %(title)s, 'queued', 0, %(message)s, %(options)s, %(batch)s, %(place)s, %(run)s,
        %(video_id)s, %(queue)s, %(replaces)s, %(fingerprint)s, %(follows)s, %(steps)s)
ON CONFLICT (id) DO NOTHING
"""

# --- one work for many requests -----------------------------------------------------------------

# Who asks for the same song at the same time waits here until the other's row stands.
LOCK_SONG = "SELECT pg_advisory_xact_lock(hashtextextended(%(fingerprint)s, 0))"

# Whom a request for the same song follows. The lock lets no leader end between this and the follower's row; one that
# ends just now is waited for, and is none any more.
LEADER = """
SELECT * FROM jobs
WHERE fingerprint = %(fingerprint)s AND status IN ('queued', 'processing') AND follows IS NULL AND id <> %(id)s
  AND replaces IS NULL
ORDER BY status = 'processing' DESC, created_at LIMIT 1 FOR NO KEY UPDATE
"""

# A song that waits in a later queue than the one who asks now follows him, with its own followers.
FOLLOW_INSTEAD = """
UPDATE jobs SET follows = %(id)s, run_id = NULL, status_message = %(message)s
WHERE (id = %(leader)s OR follows = %(leader)s) AND status = 'queued'
"""

# A row that is born with its end: the same song was made before.
INSERT_FINISHED = """
INSERT INTO jobs (id, youtube_url, options, batch, place, video_id, queue, fingerprint, status, pct, current_stage,
                  completed_at, status_message, progress_log, title, artist, duration, thumbnail, chapters, audio_key,
                  results_url, srt_url, files, quality, pipeline, provider, processing_method, replaces)
SELECT %(id)s, %(link)s, %(options)s, %(batch)s, %(place)s, %(video_id)s, %(queue)s, fingerprint, 'completed', 100,
  'done', now(), %(message)s, %(steps)s, COALESCE(title, %(title)s), artist, duration, thumbnail, chapters, audio_key,
  results_url, srt_url, files, quality, pipeline, provider, processing_method, replaces
FROM jobs WHERE id = %(before)s
"""

# A line of a batch that leads to no song.
INSERT_REFUSED = """
INSERT INTO jobs (id, youtube_url, options, batch, place, queue, status, completed_at, status_message, error_message,
                  error_kind, error_advice, progress_log)
VALUES (%(id)s, %(link)s, %(options)s, %(batch)s, %(place)s, %(queue)s, 'error', now(), %(message)s, %(message)s,
        %(kind)s, %(advice)s, %(steps)s)
"""

# Whoever ends a leader ends or promotes its followers (trigger jobs_lead). Should one be left behind all the same (a
# leader deleted, a restored backup), it works for itself.
STRANDED = """
UPDATE jobs SET follows = NULL, status_message = 'Waiting for its turn'
WHERE status = 'queued' AND follows IS NOT NULL
  AND NOT EXISTS (SELECT FROM jobs AS leader
                  WHERE leader.id = jobs.follows AND leader.status IN ('queued', 'processing'))
"""

ABOUT = "SELECT * FROM jobs WHERE id = ANY (%(ids)s)"

HEIR = """
SELECT * FROM jobs
WHERE fingerprint = %(fingerprint)s AND status = 'queued' AND follows IS NULL AND run_id IS NULL
ORDER BY created_at LIMIT 1
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
WHERE id = %(id)s AND attempt = %(attempt)s AND status = 'queued' AND run_id IS NULL AND follows IS NULL
"""

# The newest run of an attempt takes the row; whoever held it before is refused from here on. A racer joins the others
# instead, and leads where none of them does. A run that was brought back (RETAKEN) names the attempt it began with.
CLAIM = """
UPDATE jobs SET
  status = 'processing',
  run_id = CASE WHEN %(racing)s AND run_id = ANY (racers) THEN run_id ELSE %(run)s END,
  racers = CASE WHEN %(run)s = ANY (racers) THEN racers
                WHEN %(racing)s THEN racers || %(run)s::text ELSE '{}' END
WHERE id = %(id)s AND (attempt = %(attempt)s OR run_id = %(run)s) AND status IN ('queued', 'processing')
  AND follows IS NULL
RETURNING *
"""

OPEN = "id = %(id)s AND attempt = %(attempt)s AND status IN ('queued', 'processing')"
LEADS = f"{OPEN} AND run_id = %(run)s"
FENCE = f"{OPEN} AND (run_id = %(run)s OR %(run)s = ANY (racers))"

HELD = f"SELECT * FROM jobs WHERE {FENCE}"

WANTED = "SELECT * FROM jobs WHERE id = %(id)s AND status IN ('queued', 'processing')"

PROGRESS = f"""
UPDATE jobs SET
  pct = GREATEST(COALESCE(pct, 0), %(pct)s), status_message = %(message)s, current_stage = %(stage)s,
  progress_log = CASE WHEN jsonb_array_length(progress_log) < %(limit)s
                      THEN progress_log || %(steps)s ELSE progress_log END
WHERE {LEADS}
"""

LEARN = f"""
UPDATE jobs SET
  title = COALESCE(%(title)s, title), artist = COALESCE(%(artist)s, artist),
  duration = COALESCE(%(duration)s, duration), video_id = COALESCE(%(video_id)s, video_id),
  audio_key = COALESCE(%(audio_key)s, audio_key), fingerprint = COALESCE(%(fingerprint)s, fingerprint),
  thumbnail = COALESCE(%(thumbnail)s, thumbnail), chapters = COALESCE(%(chapters)s, chapters)
WHERE {FENCE}
"""

# updated_at is the run's pulse: the mirror takes a run that is silent for long as dead. In a race it is the leader's
# alone, so that a rival's pulse does not hide the leader's death.
HEARTBEAT = f"UPDATE jobs SET updated_at = now() WHERE {LEADS}"

# Several heirs race. One of them may have claimed the row before it was handed over.
HAND_OVER = f"""
UPDATE jobs SET
  run_id = CASE WHEN run_id = %(run)s THEN (%(to)s::text[])[1] ELSE run_id END,
  racers = CASE WHEN cardinality(%(to)s::text[]) > 1
                THEN ARRAY(SELECT DISTINCT unnest(racers || %(to)s::text[])) ELSE '{{}}' END
WHERE {OPEN} AND (run_id = %(run)s OR cardinality(%(to)s::text[]) > 1 AND run_id = ANY (%(to)s::text[]))
"""

# The first racer to begin leads; one that was named leader but still waits has nothing to show.
LEAD = f"""
UPDATE jobs SET run_id = %(run)s, provider = %(provider)s
WHERE {FENCE} AND (run_id = %(run)s OR provider IS NULL)
"""

REMEMBER = f"""
UPDATE jobs SET calls = CASE WHEN %(call)s::text IS NULL THEN calls - %(provider)s::text
                             ELSE calls || jsonb_build_object(%(provider)s::text, %(call)s::text) END
WHERE {FENCE}
"""

COMPLETE = f"""
UPDATE jobs SET
  status = 'completed', pct = 100, status_message = %(message)s, current_stage = 'done', completed_at = now(),
  run_id = %(run)s, provider = COALESCE((SELECT provider FROM runs WHERE runs.run_id = %(run)s), provider),
  results_url = %(results_url)s, srt_url = %(srt_url)s, files = %(files)s,
  title = COALESCE(%(title)s, title), duration = COALESCE(%(duration)s, duration),
  quality = %(quality)s, pipeline = %(pipeline)s,
  processing_method = %(method)s, processing_time_seconds = %(seconds)s,
  error_message = NULL, error_kind = NULL, error_advice = NULL,
  progress_log = progress_log || %(steps)s
WHERE {FENCE}
"""

FAIL = f"""
UPDATE jobs SET
  status = 'error', status_message = %(message)s, completed_at = now(),
  error_message = %(message)s, error_kind = %(kind)s, error_advice = %(advice)s,
  progress_log = progress_log || %(steps)s
WHERE {FENCE}
"""

# A racer gives up, or died: the others go on, and one of them leads.
DROP_OUT = f"""
UPDATE jobs SET
  racers = array_remove(racers, %(run)s::text),
  run_id = CASE WHEN run_id = %(run)s THEN (array_remove(racers, %(run)s::text))[1] ELSE run_id END,
  provider = CASE WHEN run_id = %(run)s
                  THEN (SELECT provider FROM runs WHERE runs.run_id = (array_remove(racers, %(run)s::text))[1])
                  ELSE provider END,
  progress_log = progress_log || %(steps)s
WHERE {OPEN} AND %(run)s = ANY (racers) AND cardinality(racers) > 1
"""

# --- not by a run: the user's word, and the mirror's --------------------------------------------

CANCEL = """
UPDATE jobs SET status = 'cancelled', status_message = 'Cancelled', completed_at = now(),
  progress_log = progress_log || %(steps)s
WHERE id = %(id)s AND status IN ('queued', 'processing')
RETURNING *
"""

# Remote calls are kept: the next attempt takes them up again.
NEXT_ATTEMPT = """
  status = 'queued', attempt = attempt + 1, racers = '{}', provider = NULL, pct = 0, current_stage = NULL,
  status_message = %(message)s, progress_log = progress_log || %(steps)s
"""

# Nobody else works on the row: a rival takes it instead (DROP_OUT).
ALONE = f"{OPEN} AND run_id IS NOT DISTINCT FROM %(run)s AND racers <@ ARRAY[%(run)s::text]"

# The run that owned the row is gone: the next attempt begins, or, runs lost too often, the job ends.
LOST = f"""
UPDATE jobs SET {NEXT_ATTEMPT}, run_id = NULL, lost_runs = lost_runs + %(blame)s
WHERE {ALONE} AND lost_runs + %(blame)s < %(max_lost)s
"""

# By the run itself: its next attempt begins later, with a run that is scheduled already.
POSTPONE = f"""
UPDATE jobs SET {NEXT_ATTEMPT}, run_id = %(to)s
WHERE {LEADS}
"""

GIVE_UP = f"""
UPDATE jobs SET status = 'error', lost_runs = lost_runs + 1, completed_at = now(), status_message = %(message)s,
  error_message = %(message)s, error_kind = 'passing', error_advice = %(advice)s,
  progress_log = progress_log || %(steps)s
WHERE {ALONE}
"""

AFRESH = f"""
  {NEXT_ATTEMPT},
  lost_runs = 0, completed_at = NULL, error_message = NULL, error_kind = NULL, error_advice = NULL
"""

RETRY = f"""
UPDATE jobs SET {AFRESH}, run_id = NULL, queue = %(queue)s, follows = %(follows)s
WHERE id = %(id)s AND status IN ('error', 'cancelled')
RETURNING *
"""

# The row's own run lives again: it was retried in Prefect. If another job makes the song by now, the row ends with that
# one instead, and its run is refused.
RETAKEN = f"""
UPDATE jobs SET {AFRESH}, follows = (
  SELECT leader.id FROM jobs AS leader
  WHERE leader.fingerprint = jobs.fingerprint AND leader.status IN ('queued', 'processing') AND leader.follows IS NULL
    AND leader.id <> jobs.id AND leader.replaces IS NULL LIMIT 1)
WHERE run_id = %(run)s AND status IN ('error', 'cancelled')
RETURNING *
"""

# Only what the mirror saw is replaced: a run that tells its progress meanwhile is not talked over.
NOTE = f"""
UPDATE jobs SET status_message = %(message)s
WHERE {OPEN} AND run_id IS NOT DISTINCT FROM %(run)s AND status_message IS NOT DISTINCT FROM %(seen)s
"""

# Asked every second, for a thousand rows: without their logs.
OPEN_JOBS = f"""
SELECT {", ".join(name for name in Job.model_fields if name != "progress_log")}
FROM jobs WHERE status IN ('queued', 'processing') AND follows IS NULL ORDER BY created_at LIMIT %(limit)s
"""

FINISHED_LIKE = """
SELECT * FROM jobs
WHERE fingerprint = %(fingerprint)s AND status = 'completed' AND results_url IS NOT NULL AND id <> %(id)s
ORDER BY completed_at DESC LIMIT 1
"""

# --- the history of runs ------------------------------------------------------------------------

# At the hand-over; a run that began meanwhile knows better.
ENQUEUE_RUN = """
INSERT INTO runs (run_id, job_id, attempt, provider, audio_seconds)
VALUES (%(run)s, %(id)s, %(attempt)s, %(provider)s, %(audio_seconds)s)
ON CONFLICT (run_id) DO NOTHING
"""

RUN_BEGAN = """
INSERT INTO runs (run_id, job_id, attempt, provider, audio_seconds)
VALUES (%(run)s, %(id)s, %(attempt)s, %(provider)s, %(audio_seconds)s)
ON CONFLICT (run_id) DO UPDATE SET
  attempt = EXCLUDED.attempt, provider = EXCLUDED.provider, audio_seconds = EXCLUDED.audio_seconds, began_at = now(),
  ended_at = NULL, seconds = NULL, outcome = NULL, cost = NULL
"""

RUN_ENDED = """
INSERT INTO runs (run_id, job_id, attempt, provider, audio_seconds, ended_at, seconds, outcome, cost)
VALUES (%(run)s, %(id)s, %(attempt)s, %(provider)s, %(audio_seconds)s, now(), %(seconds)s, %(outcome)s, %(cost)s)
ON CONFLICT (run_id) DO UPDATE SET
  ended_at = now(), seconds = EXCLUDED.seconds, outcome = EXCLUDED.outcome, cost = EXCLUDED.cost
"""

CLOSE_RUN = """
UPDATE runs SET ended_at = now(), outcome = %(outcome)s WHERE run_id = %(run)s AND outcome IS NULL
"""

# Runs that nobody waits for: of jobs that ended by another's hand, and of attempts that are over.
SUPERFLUOUS = """
WITH candidates AS (
  SELECT job_id, run_id, attempt FROM runs WHERE outcome IS NULL
  UNION
  SELECT id, unnest(racers || run_id::text), attempt FROM jobs WHERE completed_at > now() - interval '15 minutes'
)
SELECT DISTINCT jobs.id AS job, candidates.run_id AS run
FROM candidates JOIN jobs ON jobs.id = candidates.job_id
WHERE candidates.run_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM runs WHERE runs.run_id = candidates.run_id AND outcome IS NOT NULL)
  AND CASE WHEN jobs.status = 'cancelled' THEN jobs.completed_at > now() - interval '15 minutes'
           WHEN candidates.run_id = jobs.run_id THEN false
           WHEN jobs.completed_at IS NULL THEN candidates.attempt < jobs.attempt
           ELSE jobs.completed_at > now() - interval '15 minutes' END
"""

# By provider: its last runs. A failure is held against it for a day, then it may show that it works again.
# A beaten run was stopped at some time that it would have taken at least: that counts where there is nothing better.
RECORDS = """
SELECT wanted.provider, count(lately.outcome) AS runs,
  count(*) FILTER (WHERE lately.outcome IN ('failed', 'crashed')) AS failed,
  COALESCE(percentile_cont(0.5) WITHIN GROUP (ORDER BY lately.pace) FILTER (WHERE lately.outcome = 'published'),
           max(lately.pace) FILTER (WHERE lately.outcome = 'beaten')) AS seconds_per_minute,
  (SELECT count(*) FROM runs JOIN jobs ON jobs.id = runs.job_id AND jobs.attempt = runs.attempt
   WHERE runs.provider = wanted.provider AND runs.outcome IS NULL AND jobs.status IN ('queued', 'processing')
  ) AS waiting
FROM unnest(%(providers)s::text[]) AS wanted (provider)
LEFT JOIN LATERAL (
  SELECT outcome, seconds * 60 / NULLIF(audio_seconds, 0) AS pace FROM runs
  WHERE runs.provider = wanted.provider AND ended_at > now() - interval '30 days'
    AND (outcome IN ('published', 'beaten') OR outcome IN ('failed', 'crashed') AND ended_at > now() - interval '1 day')
  ORDER BY ended_at DESC LIMIT 50
) AS lately ON true
GROUP BY wanted.provider
"""

# --- how far the mirror is ----------------------------------------------------------------------

FOLLOWED_UNTIL = "SELECT followed_until FROM mirror_place"

FOLLOW = """
INSERT INTO mirror_place (followed_until) VALUES (%(until)s)
ON CONFLICT (only_row) DO UPDATE SET followed_until = GREATEST(mirror_place.followed_until, EXCLUDED.followed_until)
"""
