"""Jars are fetched once, and what is in the way is told. The Maven is a script of the test's own."""

from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.local.jars import fetched_jars, missing_tools

JAVA = """#!/bin/sh
echo 'openjdk version "17.0.1" 2026-01-01' >&2
"""
# Its last argument names the folder.
MAVEN = """#!/bin/sh
for argument in "$@"; do case $argument in -DoutputDirectory=*) folder=${argument#*=};; esac; done
/bin/mkdir "$folder" && echo jar > "$folder/some.jar" && echo fetched >> "$0.log"
"""
OFFLINE = """#!/bin/sh
echo "[ERROR] Unknown host"
exit 1
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, **scripts: str) -> None:
    for name, script in scripts.items():
        path = folder / name
        path.write_text(script)
        path.chmod(0o755)


def test_they_are_fetched_once_for_each_pom(tools: Path, tmp_path: Path) -> None:
    put(tools, java=JAVA, mvn=MAVEN)
    first = fetched_jars("Debezium", "<one/>", tmp_path / "jars")
    assert (first / "some.jar").read_text() == "jar\n"
    assert fetched_jars("Debezium", "<one/>", tmp_path / "jars") == first
    assert fetched_jars("Debezium", "<another/>", tmp_path / "jars") != first
    assert (tools / "mvn.log").read_text().count("fetched") == 2


def test_what_is_missing_is_said(tools: Path, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"Debezium's jars .* without Java 17 or newer and Maven"):
        fetched_jars("Debezium", "<one/>", tmp_path / "jars")


def test_what_maven_says_is_passed_on(tools: Path, tmp_path: Path) -> None:
    put(tools, java=JAVA, mvn=OFFLINE)
    with pytest.raises(FatalError, match=r"(?s)could not fetch Debezium's jars.*Unknown host"):
        fetched_jars("Debezium", "<one/>", tmp_path / "jars")
    assert not list((tmp_path / "jars").glob("*/"))


def test_an_old_java_is_named(tools: Path) -> None:
    put(tools, java=JAVA.replace("17.0.1", "11.0.2"), mvn=MAVEN)
    assert missing_tools() == 'Java 17 or newer (found: openjdk version "11.0.2" 2026-01-01)'
