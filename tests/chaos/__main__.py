"""`python -m tests.chaos --jobs N --seed S`: songs while parts of the stack are killed at random.

Every job must end, completed or with the sentence that it was interrupted too often; no row may move after its end.
"""

from __future__ import annotations

import argparse
import json
import random
from functools import partial

from tests.chaos.killing import chaos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="songs sent")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().randrange(10**6), help="replays a run's kills"
    )
    parser.add_argument("--kills", type=int, default=0, help="0: as long as songs are left")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    tell = partial(print, flush=True)
    report = chaos(jobs=arguments.jobs, kills=arguments.kills or None, seed=arguments.seed, tell=tell)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
