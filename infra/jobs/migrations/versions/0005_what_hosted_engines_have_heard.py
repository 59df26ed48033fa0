"""How many seconds of sound each hosted engine was sent, and until when one may not be asked."""

from alembic import op

revision = "0005"
down_revision = "0004"

USAGE = """
CREATE TABLE engine_usage (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  engine varchar(64) NOT NULL,
  seconds double precision NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT engine_usage_is_of_some_length CHECK (seconds > 0)
);
CREATE INDEX engine_usage_by_age ON engine_usage (engine, at);
"""

BLOCKS = """
CREATE TABLE engine_blocks (
  engine varchar(64) PRIMARY KEY,
  until timestamptz NOT NULL
);
"""


def upgrade() -> None:
    for statements in (USAGE, BLOCKS):
        op.execute(statements)
