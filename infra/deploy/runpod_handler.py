"""The far side on RunPod: `python -m infra.deploy.runpod_handler`, what the image of the endpoint runs.

RunPod counts a returned `error` as a failed job and passes on that text alone, so the error travels inside of it.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import runpod  # pyright: ignore[reportMissingTypeStubs]

from tasks.remote.work import work


def handler(job: dict[str, Any]) -> dict[str, Any]:
    order = job["input"]
    answer = work(order, partial(runpod.serverless.progress_update, job))
    output: dict[str, Any] = {"error": json.dumps(answer)} if "error" in answer else answer
    if order.get("auto_terminate"):
        output["refresh_worker"] = True
    return output


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
