"""Databases of every age are brought forward, and no row is lost on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from infra.errors import TakenOver
from infra.jobs import admission, table
from infra.jobs.job import Step
from infra.jobs.migrate import migrate
from infra.jobs.request import Request
from infra.jobs.run import Run
from infra.jobs.stages import Stage
from infra.jobs.states import Status
from tests.stack.rows import pointed_at

CONTRACT = {  # docs of the contract: column → type
    "id": "character varying",
    "youtube_url": "text",
    "title": "text",
    "duration": "integer",
    "status": "character varying",
    "results_url": "text",
    "srt_url": "text",
    "error_message": "text",
    "created_at": "timestamp with time zone",
    "updated_at": "timestamp with time zone",
    "completed_at": "timestamp with time zone",
    "openai_model": "character varying",
    "pct": "integer",
    "status_message": "text",
    "current_stage": "character varying",
    "processing_method": "character varying",
    "processing_time_seconds": "real",
    "video_id": "character varying",
    "progress_log": "jsonb",
}

OLD_TABLE: LiteralString = """
CREATE TABLE jobs (
  id varchar(255) PRIMARY KEY, youtube_url text NOT NULL, title text, duration integer,
  status varchar(50) NOT NULL DEFAULT 'queued', results_url text, srt_url text, error_message text,
  created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(), completed_at timestamptz,
  openai_model varchar(255), pct integer, status_message text, current_stage varchar(255),
  processing_method varchar(255), processing_time_seconds real, video_id varchar(255), progress_log jsonb
)
"""

OLD_STEP = {"status": "in_progress", "percentage": 30, "message": "Separating", "timestamp": "2024-05-01T10:00:00Z"}
LONG_AGO = "2024-05-01T10:00:00+00:00"

# id → (what its row holds, the status it must come to have)
OLD_ROWS: dict[str, tuple[dict[str, Any], Status]] = {
    "done": (
        {
            "status": "done",
            "title": "Sång",
            "duration": 215,
            "results_url": "https://res.example/a.json",
            "srt_url": "https://res.example/a.srt",
            "pct": 100,
            "completed_at": LONG_AGO,
            "created_at": LONG_AGO,
            "updated_at": LONG_AGO,
            "processing_time_seconds": 71.5,
            "openai_model": "whisper-1",
            "video_id": "dQw4w9WgXcQ",
            "progress_log": [OLD_STEP, {**OLD_STEP, "status": "completed", "duration": 12.5}],
        },
        Status.COMPLETED,
    ),
    "done-without-a-time": ({"status": "done", "results_url": "https://res.example/b.json"}, Status.COMPLETED),
    "completed": ({"status": "completed", "pct": 95, "results_url": "https://res.example/c.json"}, Status.COMPLETED),
    "processing-now": (
        {"status": "processing", "pct": 42, "current_stage": "separate", "progress_log": [OLD_STEP]},
        Status.QUEUED,
    ),
    "processing-long-ago": (
        {"status": "processing", "pct": 42, "created_at": LONG_AGO, "updated_at": LONG_AGO},
        Status.ERROR,
    ),
    "processing-with-an-end": ({"status": "processing", "completed_at": LONG_AGO}, Status.QUEUED),
    "queued": ({"status": "queued"}, Status.QUEUED),
    "queued-long-ago": ({"status": "queued", "created_at": LONG_AGO, "updated_at": LONG_AGO}, Status.ERROR),
    "error": ({"status": "error", "error_message": "ffmpeg died", "pct": 35}, Status.ERROR),
    "failed": ({"status": "failed"}, Status.ERROR),
    "cancelled": ({"status": "Cancelled"}, Status.CANCELLED),
    "of-no-known-status": ({"status": "on hold"}, Status.ERROR),
    "without-times": ({"status": "done", "created_at": None, "updated_at": None}, Status.COMPLETED),
    "without-pct": ({"status": "processing", "pct": None}, Status.QUEUED),
    "with-too-much-pct": ({"status": "error", "pct": 250}, Status.ERROR),
    "with-too-little-pct": ({"status": "error", "pct": -1}, Status.ERROR),
    "log-null": ({"status": "queued", "progress_log": None}, Status.QUEUED),
    "log-json-null": ({"status": "done", "progress_log": Jsonb(None)}, Status.COMPLETED),
    "log-object": ({"status": "done", "progress_log": OLD_STEP}, Status.COMPLETED),
    "log-text": ({"status": "done", "progress_log": "starting"}, Status.COMPLETED),
    "log-of-odd-entries": (
        {"status": "done", "progress_log": ["starting", 7, None, ["x"], {"note": "kept"}, OLD_STEP]},
        Status.COMPLETED,
    ),
}
KEPT = ("id", "youtube_url", "title", "duration", "results_url", "srt_url", "openai_model", "video_id")


def connect(url: str) -> psycopg.Connection[dict[str, Any]]:
    return psycopg.Connection[dict[str, Any]].connect(url, autocommit=True, row_factory=dict_row)


def put(conn: psycopg.Connection[dict[str, Any]], **row: Any) -> None:
    if "progress_log" in row and isinstance(row["progress_log"], dict | list | str):
        row["progress_log"] = Jsonb(row["progress_log"])
    names = sql.SQL(", ").join(map(sql.Identifier, row))
    places = sql.SQL(", ").join(map(sql.Placeholder, row))
    conn.execute(sql.SQL("INSERT INTO jobs ({}) VALUES ({})").format(names, places), row)


def fill(conn: psycopg.Connection[dict[str, Any]]) -> None:
    for id, (row, _) in OLD_ROWS.items():
        put(conn, id=id, youtube_url=f"https://youtu.be/{id}", **row)


def rows(conn: psycopg.Connection[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in conn.execute("SELECT * FROM jobs").fetchall()}


def columns(conn: psycopg.Connection[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = conn.execute("SELECT * FROM information_schema.columns WHERE table_name = 'jobs'").fetchall()
    return {row["column_name"]: row for row in found}


def assert_works(url: str) -> None:
    """A job goes through this database from its first to its last step."""
    with pointed_at(url):
        id = table.new_id()
        assert table.insert(Request(link="https://youtu.be/dQw4w9WgXcQ"), id=id)
        run = Run.claim(id, 1, "run")
        run.report(Stage.DOWNLOAD, 0.5, "Downloading")
        run.complete(results_url="/r.json", files={"json": "/r.json"}, message="Done")
        job = table.get(id)
        assert job is not None
        assert job.status is Status.COMPLETED


def test_an_empty_database_gets_a_table_that_works(database: str) -> None:
    migrate(database)
    assert_works(database)


def test_a_migrated_table_has_the_contracts_columns(database: str) -> None:
    migrate(database)
    with connect(database) as conn:
        found = columns(conn)
        assert {name: found[name]["data_type"] for name in CONTRACT} == CONTRACT
        assert found["id"]["character_maximum_length"] == 255
        required = ("id", "youtube_url", "status")
        assert [found[name]["is_nullable"] for name in required] == ["NO"] * 3
        put(conn, id="a", youtube_url="https://youtu.be/a")
        assert rows(conn)["a"]["status"] == "queued"
        with pytest.raises(psycopg.errors.UniqueViolation):
            put(conn, id="a", youtube_url="https://youtu.be/a")


def test_an_old_table_is_brought_forward_without_losing_a_row(database: str) -> None:
    with connect(database) as conn:
        conn.execute(OLD_TABLE)
        fill(conn)
        before = rows(conn)
        migrate(database)
        after = rows(conn)
    assert set(after) == set(before)
    assert {id: row["status"] for id, row in after.items()} == {id: str(new) for id, (_, new) in OLD_ROWS.items()}
    for id, old in before.items():
        new = after[id]
        assert {name: new[name] for name in KEPT} == {name: old[name] for name in KEPT}, id
        assert old["created_at"] is None or new["created_at"] == old["created_at"], id
        assert new["processing_time_seconds"] == old["processing_time_seconds"], id
        assert {name: new[name] for name in ("attempt", "lost_runs", "run_id")} == {
            "attempt": 1,
            "lost_runs": 0,
            "run_id": None,
        }, id
    assert after["error"]["error_message"] == "ffmpeg died"
    assert after["done"]["completed_at"] == before["done"]["completed_at"]
    assert after["done"]["progress_log"] == before["done"]["progress_log"]
    assert after["processing-long-ago"]["error_message"]


def test_every_old_row_reads_as_a_job(database: str) -> None:
    with connect(database) as conn:
        conn.execute(OLD_TABLE)
        fill(conn)
    migrate(database)
    with pointed_at(database):
        for id, (_, status) in OLD_ROWS.items():
            job = table.get(id)
            assert job is not None
            assert job.status is status, id
            assert 0 <= job.pct <= 100, id
            assert (job.completed_at is not None) == job.ended, id
            assert (job.error_message is not None) == (status is Status.ERROR), id
            assert job.request.link == f"https://youtu.be/{id}"
            for entry in job.progress_log:
                Step.model_validate(entry)
        listed = table.recent(limit=100)
        assert {job.id for job in listed} == set(OLD_ROWS)


def test_odd_entries_of_an_old_log_are_kept_as_messages(database: str) -> None:
    with connect(database) as conn:
        conn.execute(OLD_TABLE)
        fill(conn)
        migrate(database)
        log = rows(conn)["log-of-odd-entries"]["progress_log"]
    assert len(log) == 6
    assert log[0]["message"] == "starting"
    assert log[4]["note"] == "kept"
    assert log[5] == OLD_STEP


def test_an_old_open_row_can_be_worked_on_and_an_old_failed_one_retried(database: str) -> None:
    with connect(database) as conn:
        conn.execute(OLD_TABLE)
        fill(conn)
    migrate(database)
    with pointed_at(database):
        assert {job.id for job in table.open_jobs()} == {id for id, (_, new) in OLD_ROWS.items() if new == "queued"}
        for job in table.open_jobs():
            run = Run.claim(job.id, 1, "run")
            run.report(Stage.CACHE, 0.0, "Looking")
            run.complete(results_url="/r.json", files={}, message="Done")
        again = admission.retry("failed")
        assert again is not None
        assert (again.status, again.attempt) == (Status.QUEUED, 2)


@pytest.mark.parametrize(
    "old_table",
    [
        "CREATE TABLE jobs (id varchar(255) PRIMARY KEY, youtube_url text NOT NULL, status varchar(20) NOT NULL)",
        """CREATE TABLE jobs (id varchar(255) PRIMARY KEY, youtube_url text NOT NULL,
             status text NOT NULL DEFAULT 'queued', created_at timestamptz NOT NULL DEFAULT now(),
             results_url text, progress_log jsonb NOT NULL DEFAULT '[]')""",
    ],
    ids=["hardly any column", "half of the columns"],
)
def test_an_old_table_that_misses_columns_gets_them(database: str, old_table: LiteralString) -> None:
    with connect(database) as conn:
        conn.execute(old_table)
        put(conn, id="old", youtube_url="https://youtu.be/old", status="done")
        migrate(database)
        found = columns(conn)
        assert set(CONTRACT) <= set(found)
        assert {name: found[name]["data_type"] for name in CONTRACT if name != "status"} == {
            name: kind for name, kind in CONTRACT.items() if name != "status"
        }
        assert rows(conn)["old"]["status"] == "completed"
    assert_works(database)


def test_an_old_table_with_rules_of_its_own_is_brought_forward(database: str) -> None:
    """An enum or a CHECK that knows no `completed`, and a trigger that would make every old row look fresh."""
    with connect(database) as conn:
        conn.execute("CREATE TYPE job_status AS ENUM ('queued', 'processing', 'done', 'error')")
        conn.execute(OLD_TABLE)
        conn.execute("""
            ALTER TABLE jobs ADD CONSTRAINT old_check CHECK (status IN ('queued', 'processing', 'done', 'error'));
            ALTER TABLE jobs DROP CONSTRAINT old_check, ALTER COLUMN status DROP DEFAULT,
              ALTER COLUMN status TYPE job_status USING status::job_status;
            ALTER TABLE jobs ALTER COLUMN status SET DEFAULT 'queued',
              ADD CONSTRAINT old_check CHECK (status IN ('queued', 'processing', 'done', 'error'));
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
            CREATE TRIGGER touch BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION touch();
        """)
        put(conn, id="done", youtube_url="https://youtu.be/a", status="done")
        put(conn, id="stale", youtube_url="https://youtu.be/b", status="processing", updated_at=LONG_AGO)
        migrate(database)
        assert {id: row["status"] for id, row in rows(conn).items()} == {"done": "completed", "stale": "error"}
    assert_works(database)


def test_migrating_twice_is_harmless(database: str) -> None:
    with connect(database) as conn:
        conn.execute(OLD_TABLE)
        fill(conn)
        migrate(database)
        once = rows(conn)
        migrate(database)
        assert rows(conn) == once


def test_two_migrations_at_once_do_not_collide(database: str) -> None:
    with connect(database) as conn:
        conn.execute(OLD_TABLE)
        fill(conn)
    impatient = f"{database}&options=-c%20lock_timeout%3D20s"  # two that wait for each other fail, not hang
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(migrate, impatient) for _ in range(4)]:
            done.result()
    with connect(database) as conn:
        assert set(rows(conn)) == set(OLD_ROWS)
    assert_works(database)


def test_a_database_at_the_old_tables_version_is_brought_to_the_newest(database: str) -> None:
    migrate(database, "0001")
    with connect(database) as conn:
        put(conn, id="old", youtube_url="https://youtu.be/old", status="done")
    migrate(database)
    with connect(database) as conn:
        assert rows(conn)["old"]["status"] == "completed"


def test_a_database_that_the_version_before_races_used_keeps_its_jobs_and_can_race(database: str) -> None:
    migrate(database, "0002")
    with connect(database) as conn:
        put(conn, id="waits", youtube_url="https://youtu.be/a")
        put(conn, id="works", youtube_url="https://youtu.be/b", status="processing", run_id="old-run")
        put(conn, id="ended", youtube_url="https://youtu.be/c", status="error", run_id="a-run", completed_at=LONG_AGO)
        before = rows(conn)
        migrate(database)
        after = rows(conn)
        assert {id: {name: row[name] for name in before[id]} for id, row in after.items()} == before
        new = {"racers": [], "calls": {}, "queue": "people", "pipeline": None, "quality": None, "replaces": None}
        for row in after.values():
            assert {name: row[name] for name in new} == new
    with pointed_at(database):
        (working,) = table.recent(status=Status.PROCESSING)
        old = Run(working, "old-run")
        old.report(Stage.DOWNLOAD, 0.5, "It began before the migration")
        old.hand_over(["one", "other"])
        Run.claim("works", 1, "other", racing=True).complete(results_url="/r.json", files={}, message="Done")
        with pytest.raises(TakenOver):
            Run.claim("works", 1, "one", racing=True)
    assert_works(database)


def test_the_database_keeps_the_history_and_the_mirrors_place_in_order(database: str) -> None:
    migrate(database)
    with connect(database) as conn:
        put(conn, id="job", youtube_url="https://youtu.be/a")
        conn.execute("INSERT INTO runs (run_id, job_id, attempt, provider) VALUES ('run', 'job', 1, 'cuda')")
        conn.execute("INSERT INTO mirror_place (followed_until) VALUES (now())")
        breaches: tuple[LiteralString, ...] = (
            "INSERT INTO runs (run_id, job_id, attempt, provider) VALUES ('orphan', 'no job', 1, 'cuda')",
            "UPDATE runs SET outcome = 'won', ended_at = now()",
            "UPDATE runs SET outcome = 'published'",
            "UPDATE runs SET ended_at = now()",
            "INSERT INTO mirror_place (followed_until) VALUES (now())",
            "INSERT INTO mirror_place (only_row, followed_until) VALUES (false, now())",
        )
        for breach in breaches:
            with pytest.raises(psycopg.IntegrityError):
                conn.execute(breach)
        conn.execute("DELETE FROM jobs")
        assert conn.execute("SELECT * FROM runs").fetchall() == []
