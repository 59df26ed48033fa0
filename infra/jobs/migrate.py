"""Brings the jobs table of any database forward to what this version needs."""

from __future__ import annotations

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

MIGRATIONS = Path(__file__).parent / "migrations"
ONE_AT_A_TIME = 0x1_79_71_C5  # advisory lock: two services that start at once must not both migrate


def migrate(url: str, revision: str = "head") -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.set_main_option("version_table", "yt_lyrics_version")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
