"""prefect.yaml, its Docker twin, the images and the compose file: all that they name is there."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow

from infra.jobs.request import Provider, Queue
from infra.stack.pools import pools
from tests.running import ROOT

DEPLOY = ROOT / "infra" / "deploy"
FILES = ("prefect.yaml", "prefect.docker.yaml")
IMAGES = sorted(path.name.removesuffix(".Dockerfile") for path in DEPLOY.glob("*.Dockerfile"))

Deployment = dict[str, Any]


def deployments(file: str) -> dict[str, Deployment]:
    """By flow and name, as Prefect knows them."""
    found = yaml.safe_load((ROOT / file).read_text())["deployments"]
    return {f"{flow_of(deployment).name}/{deployment['name']}": deployment for deployment in found}


def flow_of(deployment: Deployment) -> Flow[..., Any]:
    module, name = deployment["entrypoint"].rsplit(".", 1)
    flow = getattr(import_module(module), name)
    assert isinstance(flow, Flow)
    return flow


def every() -> list[Any]:
    return [pytest.param(it, id=f"{file}: {name}") for file in FILES for name, it in deployments(file).items()]


@pytest.mark.parametrize("deployment", every())
def test_a_deployment_gives_its_flow_parameters_that_it_takes(deployment: Deployment) -> None:
    assert deployment["enforce_parameter_schema"] is True
    assert deployment["tags"] == ["yt-lyrics"]
    assert deployment["description"].endswith(".")
    assert set(deployment.get("parameters", {})) <= set(inspect.signature(flow_of(deployment).fn).parameters)


@pytest.mark.parametrize("deployment", every())
def test_a_form_in_prefect_tells_what_each_parameter_means(deployment: Deployment) -> None:
    parameters = flow_of(deployment).parameters.properties
    assert all(parameter["title"] and parameter["description"] for parameter in parameters.values())


def test_each_provider_is_a_deployment_that_knows_which_one_it_is() -> None:
    for file in FILES:
        for provider in Provider:
            assert deployments(file)[f"transcribe/{provider}"]["parameters"] == {"provider": provider}


def test_docker_takes_the_place_of_the_same_deployments() -> None:
    warm, docker = (deployments(file) for file in FILES)
    assert set(warm) == set(docker)
    for name, deployment in warm.items():
        pool, twin = deployment["work_pool"], docker[name]["work_pool"]
        assert twin["name"] == f"{pool['name']}-docker"
        assert twin["work_queue_name"] == pool["work_queue_name"]
        same = ("entrypoint", "parameters", "schedules", "concurrency_limit")
        assert {key: docker[name].get(key) for key in same} == {key: deployment.get(key) for key in same}


def test_what_runs_by_itself_waits_behind_people_and_runs_once() -> None:
    for file in FILES:
        by_itself = [it for it in deployments(file).values() if it.get("schedules")]
        assert {flow_of(it).name for it in by_itself} == {"reprocess", "upkeep"}
        for deployment in by_itself:
            assert deployment["work_pool"]["work_queue_name"] == Queue.NIGHTLY
            assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_a_list_does_not_wait_behind_the_songs_of_another() -> None:
    for file in FILES:
        deployment = deployments(file)["batch/default"]
        assert deployment["work_pool"]["work_queue_name"] == Queue.PEOPLE


def test_each_pool_has_the_queues_that_deployments_use_and_preloads_what_is_there() -> None:
    pools = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["pools"]
    for deployment in deployments("prefect.yaml").values():
        assert deployment["work_pool"]["work_queue_name"] in pools[deployment["work_pool"]["name"]]["queues"]
    for pool in pools.values():
        served = [pool["queues"][queue]["priority"] for queue in Queue]
        assert served == sorted(set(served)), "the queues of Queue, the first one served first"
        for module, _, function in (name.partition(":") for name in pool["variables"]["preload"]):
            assert not function or callable(getattr(import_module(module), function))


def test_the_cuda_container_asks_for_a_gpu() -> None:
    variables = deployments("prefect.docker.yaml")["transcribe/cuda"]["work_pool"]["job_variables"]
    requested = variables["container_create_kwargs"]["device_requests"]
    assert requested == [{"driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}]


def test_no_secret_stands_in_what_prefect_is_told() -> None:
    for file in FILES:
        assert not re.search(r"(?i)(key|token|secret|password|cookies)\w*:", (ROOT / file).read_text())


def test_each_container_uses_an_image_that_has_a_dockerfile() -> None:
    named = {it["work_pool"]["job_variables"]["image"] for it in deployments("prefect.docker.yaml").values()}
    named |= {service["image"] for service in compose()["services"].values()}
    ours = {name.removeprefix("yt-lyrics-") for name in named if name.startswith("yt-lyrics-")}
    assert ours == set(IMAGES)


@pytest.mark.parametrize("image", IMAGES)
def test_a_dockerfile_copies_what_is_there_and_runs_what_is_there(image: str) -> None:
    steps = dockerfile(DEPLOY / f"{image}.Dockerfile")
    copies = [words for verb, words in steps if verb == "COPY" and not words[0].startswith("--")]
    assert copies
    for *sources, target in copies:
        assert all((ROOT / source).exists() for source in sources), sources
        assert target == "./" or target == sources[0]
    extras = set(re.findall(r"--extra (\w+)", (DEPLOY / f"{image}.Dockerfile").read_text()))
    assert extras <= known_extras()
    assert ("gpu" in extras) is (image == "gpu")
    (command,) = [words for verb, words in steps if verb == "CMD"]
    assert_there(yaml.safe_load(" ".join(command)))


@pytest.mark.parametrize("name", sorted(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]))
def test_a_service_runs_what_is_there_and_waits_for_what_is_there(name: str) -> None:
    service = compose()["services"][name]
    assert set(service.get("depends_on", {})) <= set(compose()["services"])
    if "build" in service:
        assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).exists()
    if "command" in service:
        assert_there(service["command"])
    named = [volume.split(":")[0] for volume in service.get("volumes", ())]
    assert {volume for volume in named if not volume.startswith("/")} <= set(compose()["volumes"])


def test_the_workers_serve_the_pools_that_deployments_use() -> None:
    served = {
        re.search(r"--pool (\S+)", " ".join(service.get("command", ()))) for service in compose()["services"].values()
    }
    used = {deployment["work_pool"]["name"] for deployment in deployments("prefect.yaml").values()}
    defined = yaml.safe_load((ROOT / "prefect.yaml").read_text())["definitions"]["pools"]
    assert {match[1] for match in served if match} == used == set(defined)


def test_containers_join_the_network_and_volume_of_compose() -> None:
    for deployment in deployments("prefect.docker.yaml").values():
        variables = deployment["work_pool"]["job_variables"]
        assert variables["networks"] == [compose()["networks"]["default"]["name"]]
        assert variables["volumes"][0].split(":")[0] == compose()["volumes"]["data"]["name"]


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def dockerfile(path: Path) -> list[tuple[str, list[str]]]:
    """Its steps: the verb and the words behind it."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE))
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(verb, shlex.split(rest, posix=verb != "CMD")) for verb, rest in lines]


def known_extras() -> set[str]:
    import tomllib

    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def assert_there(command: list[str]) -> None:
    """Modules, scripts and programs that a command names."""
    program, *words = command
    if program == "python" and words[0] == "-m":
        assert find_spec(words[1]) is not None, words[1]
    elif program == "sh":
        assert (ROOT / words[0].removeprefix("/app/")).exists()
    else:
        assert (Path(sys.executable).parent / program).exists() or shutil.which(program), program


def test_the_template_of_warm_pools_is_the_workers_own() -> None:
    from infra.stack.pools import TEMPLATE
    from infra.worker import WarmWorker

    assert json.loads(TEMPLATE.read_text()) == WarmWorker.get_default_base_job_template(), (
        "python -m infra.worker > infra/warm/template.json"
    )


def test_every_variable_that_a_pool_sets_is_one_of_the_template() -> None:
    for pool in pools(ROOT / "prefect.yaml"):
        known = pool.template["variables"]["properties"]  # a KeyError names one that is not
        assert {name: known[name]["default"] for name in pool.variables} == pool.variables
