"""Published jars on this machine: a pom says which, Maven fetches them once, the cache keeps them."""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from worker.errors import FatalError

# Tens of megabytes the first time.
RESOLVE_TIMEOUT_S = 600.0
MINIMUM_JAVA = 17
MANIFEST = "sha256.json"
TAIL_LINES = 15


def missing_tools() -> str | None:
    """Return what this machine lacks to fetch jars and run them, in words; None if nothing."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    if java is None or maven is None:
        return "Java 17 or newer and Maven (Debian: apt install openjdk-17-jre-headless maven)"
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr  # noqa: S603
    version = re.search(r'version "(\d+)', printed)
    if version is None or int(version[1]) < MINIMUM_JAVA:
        return f"Java {MINIMUM_JAVA} or newer (found: {printed.splitlines()[0] if printed else 'nothing'})"
    return None


def fetched_jars(what: str, pom: str, root: Path) -> Path:
    """Return a folder below ``root`` with the jars a pom depends on, fetched by Maven once per pom and machine.

    ``what`` they are is for messages. Blocks; FatalError.
    """
    folder = root / hashlib.sha256(pom.encode()).hexdigest()[:12]
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lock", timeout=RESOLVE_TIMEOUT_S):
        if not _complete(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(what, pom, folder)
    return folder


def finished(command: Sequence[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, its output in one; FatalError if that takes longer."""
    try:
        return subprocess.run(  # noqa: S603 - our own commands
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FatalError(f"{command[0]} took over {timeout_s:g} s") from error


def tail(output: str) -> str:
    """Return the last lines of an output, indented, for a message."""
    return "\n".join(f"  {line}" for line in output.splitlines()[-TAIL_LINES:])


def _fetch(what: str, pom: str, folder: Path) -> None:
    if lacking := missing_tools():
        raise FatalError(f"{what}'s jars are not in {folder} and can't be fetched without {lacking}")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
        pom_path = Path(scratch) / "pom.xml"
        pom_path.write_text(pom)
        jars = Path(scratch) / "jars"
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        fetched = finished(["mvn", "-q", "-B", "-f", str(pom_path), *goal], RESOLVE_TIMEOUT_S)
        if fetched.returncode != 0:
            raise FatalError(f"Maven could not fetch {what}'s jars:\n{tail(fetched.stdout)}")
        manifest = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in sorted(jars.glob("*.jar"))}
        (jars / MANIFEST).write_text(json.dumps(manifest, indent=1))
        jars.rename(folder)


def _complete(folder: Path) -> bool:
    try:
        manifest: dict[str, str] = json.loads((folder / MANIFEST).read_text())
        return bool(manifest) and all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in manifest.items()
        )
    except (OSError, ValueError):
        return False
