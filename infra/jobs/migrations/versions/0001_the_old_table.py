"""The table as the system that this project replaces made it. Where it stands already, nothing happens."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE IF NOT EXISTS jobs (
          id varchar(255) PRIMARY KEY,
          youtube_url text NOT NULL,
          title text,
          duration integer,
          status varchar(50) NOT NULL DEFAULT 'queued',
          results_url text,
          srt_url text,
          error_message text,
          created_at timestamptz NOT NULL DEFAULT now(),
          updated_at timestamptz NOT NULL DEFAULT now(),
          completed_at timestamptz,
          openai_model varchar(255),
          pct integer DEFAULT 0,
          status_message text,
          current_stage varchar(255),
          processing_method varchar(255),
          processing_time_seconds real,
          video_id varchar(255),
          progress_log jsonb DEFAULT '[]'::jsonb
        )
    """)
