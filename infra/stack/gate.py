"""`python -m infra.stack.gate MODULE[,MODULE…] PREFECT-ARGUMENTS…`: Prefect's command line, warmed up.

Imports first, then waits for a line on standard input, then runs the command. The stack's processes so import side
by side while the database and the server that they need are still starting.
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    for module in sys.argv[1].split(","):
        importlib.import_module(module)
    from prefect.cli import app

    if not sys.stdin.readline():
        return  # the stack is gone before we were needed
    sys.argv = ["prefect", *sys.argv[2:]]
    sys.exit(app())


if __name__ == "__main__":
    main()
