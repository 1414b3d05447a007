"""A PostgreSQL of the example's own, with logical decoding: by the machine's programs, or those of a published jar."""

import os
import platform
import pwd
import re
import secrets
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg

from worker.errors import FatalError
from worker.local.jars import fetched_jars, finished, missing_tools, tail
from worker.local.process import ServerProcess, on_free_port

FOLDER = Path(__file__).parent
USER = "postgres"
DATABASE = "postgres"
# Debezium needs pgoutput and publications: 10. Older ones than these are no longer looked after by their makers.
MINIMUM_VERSION = 13
# Where Debian, Red Hat and Homebrew put what is not on PATH.
USUAL_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
# The jars' own words for what `platform` says.
PLATFORMS = {
    ("Linux", "x86_64"): "linux-amd64",
    ("Linux", "aarch64"): "linux-arm64v8",
    ("Darwin", "arm64"): "darwin-arm64v8",
    ("Darwin", "x86_64"): "darwin-amd64",
}
# Both take seconds, and minutes where everything else on the machine starts too.
VERSION_TIMEOUT_S = 30.0
INITDB_TIMEOUT_S = 180.0
START_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Database:
    """Where a database is and who gets in."""

    port: int
    password: str
    host: str = "127.0.0.1"
    user: str = USER
    name: str = DATABASE

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """Return a connection on which each statement is a transaction."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=self.name,
            connect_timeout=10,
            autocommit=True,
        )


def lacking() -> str | None:
    """Return what this machine lacks to have a PostgreSQL, in words; None if nothing."""
    if installed_programs() is not None:
        return None
    if _platform() is None:
        return "PostgreSQL (Debian: apt install postgresql), of which there is no jar for this platform"
    return missing_tools() and f"PostgreSQL (Debian: apt install postgresql), or to fetch it {missing_tools()}"


def installed_programs() -> Path | None:
    """Return the folder of this machine's PostgreSQL, the newest of several; None if there is none that will do."""
    on_path = shutil.which("initdb")
    folders = [] if on_path is None else [Path(on_path).resolve().parent]
    for pattern in USUAL_FOLDERS:
        folders += Path("/").glob(pattern.removeprefix("/"))
    versions = {folder: _version(folder) for folder in folders}
    good = [folder for folder, version in versions.items() if version >= MINIMUM_VERSION]
    return max(good, key=versions.__getitem__, default=None)


def resolve_jar(cache_dir: Path) -> Path:
    """Return the jar of PostgreSQL's programs, fetched once per machine. Blocks; FatalError."""
    if (known := _platform()) is None:
        raise FatalError(f"not on this machine: {lacking()}")
    pom = (FOLDER / "postgres" / "pom.xml").read_text().replace("linux-amd64", known)
    [jar] = fetched_jars("PostgreSQL", pom, cache_dir.expanduser() / "postgres").glob("*.jar")
    return jar


@contextmanager
def running_postgres(cache_dir: Path, log_path: Path) -> Iterator[Database]:
    """Run a new, empty PostgreSQL and yield it; nothing of it is left afterwards. Blocks; FatalError.

    PostgreSQL refuses to run as root: then it runs as another user, which can neither enter root's folders nor a
    temporary folder inside them, so it has one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="rerank-worker-postgres-", ignore_cleanup_errors=True) as folder:
        data, password, owner = Path(folder) / "data", secrets.token_urlsafe(), _owner()
        programs = installed_programs() or _unpacked(resolve_jar(cache_dir), Path(folder) / "programs")
        password_file = Path(folder) / "password"
        password_file.write_text(password)
        for path in (Path(folder), password_file):
            if owner is not None:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        _initialise([*_run_as(owner), str(programs / "initdb")], data, password_file)
        command = [*_run_as(owner), str(programs / "postgres"), "-D", str(data)]
        database, server = on_free_port(partial(_start, command, password, log_path))
        with server:
            yield database


def _initialise(initdb: list[str], data: Path, password_file: Path) -> None:
    options = ["-D", str(data), "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync"]
    made = finished([*initdb, *options, "--auth=scram-sha-256", f"--pwfile={password_file}"], INITDB_TIMEOUT_S)
    if made.returncode != 0:
        raise FatalError(f"PostgreSQL could not make a database:\n{tail(made.stdout)}")


def _start(command: list[str], password: str, log_path: Path, port: int) -> tuple[Database, ServerProcess]:
    database = Database(port, password)
    settings = {
        "listen_addresses": database.host,
        "port": str(port),
        "unix_socket_directories": "",
        # Debezium reads the log, which by default does not hold enough to tell rows from it.
        "wal_level": "logical",
        # Nothing here outlives the example.
        "fsync": "off",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    server = ServerProcess("PostgreSQL", [*command, *options], log_path=log_path)
    server.await_ready(partial(_answers, database), timeout_s=START_TIMEOUT_S)
    return database, server


def _answers(database: Database) -> bool:
    try:
        database.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def _owner() -> pwd.struct_passwd | None:
    """Return the user that PostgreSQL runs as in root's stead; None where we are somebody else."""
    if os.geteuid() != 0:
        return None
    users = {user.pw_name: user for user in pwd.getpwall()}
    return users["postgres"] if "postgres" in users else users["nobody"]


def _run_as(owner: pwd.struct_passwd | None) -> list[str]:
    if owner is None:
        return []
    # It replaces itself by the program, which so hears the signals that are meant for it.
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--"]


def _version(folder: Path) -> int:
    try:
        said = finished([str(folder / "postgres"), "--version"], VERSION_TIMEOUT_S)
    except OSError:
        return 0
    version = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    return 0 if version is None else int(version[1])


def _platform() -> str | None:
    return PLATFORMS.get((platform.system(), platform.machine()))


def _unpacked(jar: Path, folder: Path) -> Path:
    """Unpack the jar's programs into a folder, where any user may run them; return that of the commands."""
    with zipfile.ZipFile(jar) as packed:
        [archive] = [name for name in packed.namelist() if name.endswith(".txz")]
        with packed.open(archive) as compressed, tarfile.open(fileobj=compressed, mode="r:xz") as programs:
            programs.extractall(folder, filter="data")
    return folder / "bin"
