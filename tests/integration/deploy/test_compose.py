"""`docker compose up` starts what the settings, the image and the files beside it can carry."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.patience import HANG_S
from worker.settings import ENV_PREFIX, Settings
from worker.settings.load import environment_names, load_settings

REPOSITORY = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (REPOSITORY / "deploy/docker/Dockerfile").read_text(encoding="utf-8")


def compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run(
                [*command, "version", "--short"], capture_output=True, text=True, check=False, timeout=HANG_S
            )
            # The first one, which Debian still has, knows neither `name` nor `condition`.
            if done.returncode == 0 and not done.stdout.lstrip("v").startswith("1."):
                return command
    pytest.skip("Docker Compose 2 is not installed")


def by_default(text: str) -> str:
    """What Compose makes of it when the caller has set nothing: `${NAME:-default}` is its default."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", text)


def worker_environment() -> dict[str, str]:
    return {name: by_default(value) for name, value in SERVICES["worker"]["environment"].items()}


def test_compose_itself_accepts_the_file() -> None:
    done = subprocess.run(
        [*compose_command(), "config", "--quiet"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr


def test_the_workers_variables_are_settings() -> None:
    names = {name for name in SERVICES["worker"]["environment"] if name.startswith(ENV_PREFIX)}
    assert names <= set(environment_names())


def test_the_worker_starts_with_these_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in worker_environment().items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    host, port = settings.kafka.bootstrap_servers.split(":")
    listeners = SERVICES[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INTERNAL://{host}:{port}" in listeners
    # A client on this machine is sent where the port is published.
    published = SERVICES[host]["ports"][0].rpartition(":")[0].partition(":")[2]
    assert f"EXTERNAL://localhost:{published}" in listeners
    assert settings.recall.host in SERVICES
    assert settings.answer.base_url is None, "an empty variable must not be an empty address"


@pytest.mark.parametrize("service", ["worker", "index"])
def test_what_consumes_has_time_to_drain(service: str) -> None:
    grace_s = float(SERVICES[service]["stop_grace_period"].removesuffix("s"))
    kafka = Settings().kafka
    assert grace_s > kafka.drain_timeout_s + kafka.close_timeout_s


@pytest.mark.parametrize("service", sorted(name for name, described in SERVICES.items() if "image" in described))
def test_images_are_pinned(service: str) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+$", SERVICES[service]["image"])


def test_no_port_is_open_to_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_and_built_exists() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    mounts = [by_default(mount) for mount in mounts]
    folders = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert folders
    for folder in [*folders, SERVICES["worker"]["build"]["dockerfile"]]:
        assert (REPOSITORY / folder).exists(), folder
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith("./")}
    assert named == set(COMPOSE["volumes"])


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_no_service_has_more_rights_than_it_needs(service: str) -> None:
    described = SERVICES[service]
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    # What others publish keeps its root file system writable: it was not made to run without.
    assert described.get("read_only", False) is ("build" in described or service == "prometheus")


def test_what_is_asked_and_measured_outlives_its_container() -> None:
    kafka = SERVICES["kafka"]
    assert f"kafka:{kafka['environment']['KAFKA_LOG_DIRS']}" in kafka["volumes"]
    assert "prometheus:/prometheus" in SERVICES["prometheus"]["volumes"]


def test_what_only_watches_is_started_when_asked_for() -> None:
    watching = {name for name, described in SERVICES.items() if described.get("profiles") == ["observability"]}
    assert watching == {"prometheus", "grafana"}


def test_the_live_index_is_a_worker_with_another_command_for_those_who_ask_for_it() -> None:
    assert SERVICES["index"]["profiles"] == ["index"]
    assert SERVICES["index"]["command"] == ["index"]
    assert SERVICES["index"]["environment"] == SERVICES["worker"]["environment"]
    config = yaml.safe_load((REPOSITORY / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    scraped = {job["job_name"]: job["dns_sd_configs"][0]["names"] for job in config["scrape_configs"]}
    assert scraped == {"rerank-worker": ["worker"], "rerank-worker-index": ["index"]}


def test_a_worker_starts_when_there_is_something_to_find() -> None:
    assert SERVICES["worker"]["depends_on"]["ingest"]["condition"] == "service_completed_successfully"
    assert SERVICES["ingest"]["command"][0] == "ingest"


def test_the_images_version_is_the_projects() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f'org.opencontainers.image.version="{project["version"]}"' in DOCKERFILE
    assert f'org.opencontainers.image.licenses="{project["license"]}"' in DOCKERFILE


def test_the_image_is_built_from_the_lock_by_the_makefiles_uv() -> None:
    assert "--constraint constraints.txt" in DOCKERFILE
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    pinned = re.search(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert pinned
    assert f"uv=={pinned[1]}" in DOCKERFILE


def test_everything_the_image_copies_exists_and_is_let_through() -> None:
    let_through = {
        line.removeprefix("!")
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert copied
    assert set(copied) == let_through
    assert all((REPOSITORY / source).exists() for source in copied)


def test_the_image_runs_as_a_user_and_asks_the_worker_for_its_health() -> None:
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    user = re.search(r"^USER (\d+)$", last_stage, re.MULTILINE)
    assert user
    assert int(user[1]) > 0
    port = Settings().telemetry.port
    assert f"/127.0.0.1/${{{ENV_PREFIX}TELEMETRY__PORT:-{port}}}" in last_stage
    assert "GET /live " in last_stage
    assert f"EXPOSE {port}" in last_stage
