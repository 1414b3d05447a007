"""The image is built once, the stack comes up once; both are skipped, with the reason, where there is no engine."""

import os
import shlex
from collections.abc import Iterator

import pytest

from tests.containers.engine import BUILD_OPTIONS, IMAGE, PROJECT, Stack, compose_command, docker, engine_missing
from worker.local.process import free_port

# Fetching PyTorch may take long, and writing and compiling its files does.
BUILD_S = 7_200


@pytest.fixture(scope="session")
def image() -> str:
    """The image, built from the checkout."""
    missing = engine_missing()
    if missing is not None:
        pytest.skip(missing)
    options = shlex.split(os.environ.get(BUILD_OPTIONS, ""))
    # Both of the stack's services run it; Compose builds what it does not find under these names.
    tags = [f"--tag={IMAGE}", f"--tag={PROJECT}-ingest"]
    docker("build", "--file=deploy/docker/Dockerfile", *tags, *options, ".", timeout_s=BUILD_S)
    return IMAGE


@pytest.fixture(scope="session")
def stack(image: str) -> Iterator[Stack]:
    """Up, with the project's own documents in its index; gone with all it held when the tests are done."""
    command = compose_command()
    if command is None:
        pytest.skip("Docker Compose 2 is not installed")
    stack = Stack(command, kafka_port=free_port(), chroma_port=free_port(), prometheus_port=free_port())
    try:
        stack.compose("up", "--detach", "--wait")
        yield stack
    finally:
        stack.compose("--profile=observability", "down", "--volumes", "--timeout=60")
