"""Rows of the jobs table, as the tests of its rules need them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, LiteralString

import pytest

from infra import database as db
from infra import settings as configuration
from infra.jobs import table
from infra.jobs.job import Job
from infra.jobs.request import Request
from infra.jobs.run import Run

LINK = Request(link="https://www.youtube.com/watch?v=dQw4w9WgXcQ")

Row = dict[str, Any]


@contextmanager
def pointed_at(url: str) -> Generator[None]:
    """infra.database works on this database meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        configuration.settings.cache_clear()
        db.pool.cache_clear()
        try:
            yield
        finally:
            if db.pool.cache_info().currsize:
                db.pool().close()
            db.pool.cache_clear()
            configuration.settings.cache_clear()


def sql(query: LiteralString, **parameters: Any) -> list[Row]:
    with db.connection() as conn:
        cursor = conn.execute(query, parameters)
        return cursor.fetchall() if cursor.description else []


def row_of(id: str) -> Row:
    (row,) = sql("SELECT * FROM jobs WHERE id = %(id)s", id=id)
    return row


def new_job(**more: Any) -> str:
    id = table.new_id()
    assert table.insert(LINK, id=id, **more)
    return id


def job_of(id: str) -> Job:
    job = table.get(id)
    assert job is not None
    return job


def complete(run: Run, message: str = "Done") -> None:
    run.complete(
        results_url="/files/r.json",
        files={"json": "/files/r.json", "srt": "/files/r.srt"},
        message=message,
        title="A song",
        duration=201.4,
        method="cpu",
        seconds=12.5,
    )
