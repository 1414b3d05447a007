"""A Docker engine, the project's image on it, and the stack of docker-compose.yml, by the commands a user types."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.patience import HANG_S

REPOSITORY = Path(__file__).parents[2]
PROJECT = "rerank-worker-container-test"
IMAGE = f"{PROJECT}-worker"

BUILD_OPTIONS = "RERANK_WORKER_TESTS_BUILD_OPTIONS"
"""An environment variable with more options for `docker build`, such as `--build-arg TORCH_BACKEND=cpu`."""

# A signal that is lost costs the whole grace period and ends in 137; one that is obeyed, a moment.
GRACE_S = 300
KILLED = 137

HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")

ASK_PAGE = r"""exec 3<>/dev/tcp/127.0.0.1/9464 && printf 'GET %s HTTP/1.0\r\n\r\n' "$0" >&3 && cat <&3"""


def run(
    *command: str, check: bool = True, environment: Mapping[str, str] | None = None, timeout_s: float = HANG_S
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done


def docker(*arguments: str, check: bool = True, timeout_s: float = HANG_S) -> str:
    return run("docker", *arguments, check=check, timeout_s=timeout_s).stdout.strip()


def engine_missing() -> str | None:
    if shutil.which("docker") is None:
        return "docker is not installed"
    asked = run("docker", "version", "--format", "{{.Server.Version}}", check=False)
    return None if asked.returncode == 0 else f"no Docker engine answers: {asked.stderr.strip()}"


def compose_command() -> tuple[str, ...] | None:
    """Compose 2, as a plugin or by itself."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]):
            asked = run(*command, "version", "--short", check=False)
            if asked.returncode == 0 and not asked.stdout.lstrip("v").startswith("1."):
                return command
    return None


def inspect(container: str) -> dict[str, Any]:
    [described] = json.loads(docker("inspect", container))
    assert isinstance(described, dict)
    return described


def stopped(container: str) -> int:
    """Stop it as an orchestrator does, and return its exit code."""
    docker("stop", f"--time={GRACE_S}", container)
    return int(inspect(container)["State"]["ExitCode"])


def log_of(container: str) -> str:
    done = run("docker", "logs", container)
    return done.stdout + done.stderr


def is_ready(container: str) -> bool:
    page = docker("exec", container, "bash", "-c", ASK_PAGE, "/ready", check=False)
    return page.splitlines()[:1] != [] and " 200 " in page.splitlines()[0]


@dataclass(frozen=True)
class Stack:
    """The stack of docker-compose.yml under a name and on ports of its own."""

    command: tuple[str, ...]
    kafka_port: int
    chroma_port: int
    prometheus_port: int

    def compose(self, *arguments: str, check: bool = True, timeout_s: float = HANG_S) -> str:
        environment = {
            "KAFKA_PORT": str(self.kafka_port),
            "CHROMA_PORT": str(self.chroma_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            "RERANK_WORKER_MODELS": "offline",
        }
        command = (*self.command, "--project-name", PROJECT, *arguments)
        return run(*command, check=check, environment=environment, timeout_s=timeout_s).stdout

    def workers(self) -> list[str]:
        return self.compose("ps", "--quiet", "worker").split()

    def ask(self, question: str) -> dict[str, Any]:
        """Ask from this machine, as a client would that knows the published port alone."""
        command = [sys.executable, "-m", "worker.cli.main", "ask", question, "--json", f"--timeout={HANG_S}"]
        kafka = {"RERANK_WORKER_KAFKA__BOOTSTRAP_SERVERS": f"localhost:{self.kafka_port}"}
        answer = json.loads(run(*command, environment=kafka, timeout_s=2 * HANG_S).stdout)
        assert isinstance(answer, dict)
        return answer

    def measured(self, expression: str) -> list[float]:
        """The values of an expression, one for each of its series, as Prometheus has them now."""
        url = f"http://127.0.0.1:{self.prometheus_port}/api/v1/query"
        try:
            found = httpx.get(url, params={"query": expression}, timeout=30).raise_for_status().json()
        except httpx.HTTPError:
            return []
        return [float(series["value"][1]) for series in found["data"]["result"]]
