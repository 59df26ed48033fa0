"""`python -m infra.stack.gate MODULE[,MODULE…] PREFECT-ARGUMENTS…`: Prefect's command line, warmed up.

Imports first, then waits for a line on standard input, then runs the command. The stack's processes so import side
by side while the database and the server that they need are still starting.
"""

from __future__ import annotations

import gc
import importlib
import sys


def main() -> None:
    gc.disable()  # nothing of what is imported is garbage: a tenth of the time
    for module in ("prefect.cli", *sys.argv[1].split(",")):
        importlib.import_module(module)
    gc.freeze()
    gc.enable()
    from prefect.cli import app

    if not sys.stdin.readline():
        return  # the stack is gone before we were needed
    sys.argv = ["prefect", *sys.argv[2:]]
    sys.exit(app())


if __name__ == "__main__":
    main()
