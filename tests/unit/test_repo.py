"""What holds for the repository as a whole."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.patience import HANG_S

REPOSITORY = Path(__file__).parents[2]

LAYOUT = {
    ".ci",
    ".github",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "constraints.txt",
    "deploy",
    "docker-compose.yml",
    "docs",
    "examples",
    "pyproject.toml",
    "schemas",
    "tests",
    "worker",
}
DOTFILES = {".dockerignore", ".editorconfig", ".gitignore", ".pre-commit-config.yaml"}

# Lines of a file: under the one it is perhaps no thought of its own, over the other more than one.
SHORT, LONG = 40, 250

# Put together from pieces, so that this file is not found by its own search.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "repo." + "maven", "repo1." + "maven"]
MACHINE_PATHS = re.compile(r"(?<![\w./-])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me/(?!worker)"]) + r")/")


def tracked() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=HANG_S
    )
    paths = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked():
        try:
            found.append((path.relative_to(REPOSITORY), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # weights
    return found


def test_the_top_level_is_what_the_contributors_know() -> None:
    names = {path.relative_to(REPOSITORY).parts[0] for path in tracked()}
    assert names == LAYOUT | DOTFILES


def test_no_file_names_a_registry_or_a_path_of_somebodys_machine() -> None:
    found = [
        f"{path}: {match}"
        for path, text in texts()
        for match in [*(host for host in REGISTRIES if host in text), *MACHINE_PATHS.findall(text)]
    ]
    assert found == []


def test_nothing_lies_loose_at_the_workers_root_but_what_everybody_imports() -> None:
    loose = {path.name for path in (REPOSITORY / "worker").iterdir() if path.is_file()}
    assert loose == {"__init__.py", "client.py", "domain.py", "errors.py", "py.typed"}


def test_a_file_that_is_very_short_or_very_long_says_why() -> None:
    silent = []
    for path in (REPOSITORY / "worker").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        why = {lines < SHORT: "short", lines > LONG: "long"}.get(True)
        docstring = ast.get_docstring(ast.parse(text)) or ""
        if path.name != "__init__.py" and why is not None and why not in docstring.lower():
            silent.append(f"{path.relative_to(REPOSITORY)}: {lines} lines")
    assert silent == []


def test_a_unit_test_of_the_worker_stands_where_its_module_does() -> None:
    unit, rooms = REPOSITORY / "tests/unit", REPOSITORY / "worker"
    modules = {
        test: test.with_name(test.name.removeprefix("test_")).relative_to(unit)
        for test in unit.rglob("test_*.py")
        if test.parent != unit and (rooms / test.relative_to(unit).parts[0]).is_dir()
    }
    assert modules
    assert [test.name for test, module in modules.items() if not (rooms / module).exists()] == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path}: {target}"
        for path, text in texts()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in target and not (REPOSITORY / path.parent / target).exists()
    ]
    assert broken == []


def test_ci_lints_and_then_runs_exactly_the_readmes_test_command() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^```sh\n(make \S+)\n```$", readme, re.MULTILINE)
    assert "make test" in commands
    script = (REPOSITORY / ".ci/run").read_text(encoding="utf-8").splitlines()
    made = [line for line in script if line.startswith("make ")]
    assert made == ["make lint", "make test"]
    assert script[-1] == "make test", "pytest's summary is the last thing printed"


def test_the_workflow_calls_nothing_but_ci_run() -> None:
    jobs = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step] == [".ci/run"]


def test_ci_can_be_run() -> None:
    assert os.access(REPOSITORY / ".ci/run", os.X_OK)
    subprocess.run(["bash", "-n", REPOSITORY / ".ci/run"], check=True, timeout=HANG_S)


def test_the_license_is_apache_2() -> None:
    text = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_dependency_is_pinned_and_torch_is_the_one_that_was_tested() -> None:
    pinned = {}
    for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, separator, version = line.partition(";")[0].strip().partition("==")
        assert separator, line
        pinned[name] = version
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[>=<; ]", requirement)[0].lower() for requirement in wanted}
    assert names <= {name.lower() for name in pinned}
    assert pinned["torch"] == "2.13.0"
    # Neither has a place here: one comes with another torch, the other compiles for minutes.
    assert not {"torchvision", "llama-cpp-python"} & pinned.keys()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make setup` reads, in a folder with spaces in its name."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    folder = tmp_path / "a clone with spaces"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-C", folder, *arguments], capture_output=True, text=True, check=False, timeout=HANG_S, cwd="/"
    )


def fake_python(folder: Path, script: str) -> Path:
    path = folder / "FakePython"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_make_help_lists_every_target(checkout: Path) -> None:
    makefile = (checkout / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    listed = re.findall(r"^  make (\S+) +\S", make(checkout, "help").stdout, re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 1", "Python 3.11 or newer is needed"),
        ('[ "$1" = -c ] || { echo "No module named venv" >&2; exit 1; }', "apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_told_in_one_line(checkout: Path, script: str, said: str) -> None:
    done = make(checkout, f"PYTHON={fake_python(checkout.parent, script)}", "setup")
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ") and said in line]
    assert not (checkout / ".venv/.installed").exists(), "the next make tries again"
