"""Secrets from files: what their variables name, what is refused, and that nothing of it is told."""

from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.settings import ENV_PREFIX, Settings
from worker.settings.load import load_settings, redacted
from worker.settings.secret_files import MAX_BYTES, file_variables

PASSWORD = f"{ENV_PREFIX}ANSWER__API_KEY"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal() -> str:
    with pytest.raises(FatalError) as caught:
        load_settings()
    return str(caught.value)


def test_every_secret_may_stand_in_a_file_and_nothing_else() -> None:
    assert {name.removeprefix(ENV_PREFIX) for name in file_variables(Settings)} == {
        "KAFKA__SASL_PASSWORD_FILE",
        "KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET_FILE",
        "KAFKA__SSL_KEY_PASSWORD_FILE",
        "RECALL__API_KEY_FILE",
        "RECALL__HEADERS_FILE",
        "RERANK__REMOTE_API_KEY_FILE",
        "ANSWER__API_KEY_FILE",
        "ANSWER__HEADERS_FILE",
    }


@pytest.mark.parametrize("written", ["pa$$ word", "pa$$ word\n", "pa$$ word\r\n", "\ufeffpa$$ word"])
def test_a_secret_is_what_stands_in_its_file(monkeypatch: pytest.MonkeyPatch, folder: Path, written: str) -> None:
    (folder / "key").write_text(written, encoding="utf-8", newline="")
    monkeypatch.setenv(f"{PASSWORD}_FILE", str(folder / "key"))
    key = load_settings().answer.api_key
    assert key is not None
    assert key.get_secret_value() == "pa$$ word"
    assert "pa$$" not in str(redacted(load_settings()))


def test_a_mapping_of_secrets_is_json(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "headers").write_text('{"X-Token": "hunter2"}\n')
    monkeypatch.setenv(f"{ENV_PREFIX}RECALL__HEADERS_FILE", "headers")
    assert load_settings().recall.headers["X-Token"].get_secret_value() == "hunter2"
    (folder / "headers").write_text("hunter2")
    assert "hunter2" not in refusal()


def test_the_env_file_may_name_it_too_and_both_stand_above_yaml(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "key").write_text("of-the-file")
    (folder / "worker.yaml").write_text("answer: {api_key: of-yaml}")
    (folder / ".env").write_text(f"{PASSWORD}_FILE=key\n")
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", "worker.yaml")
    key = load_settings().answer.api_key
    assert key is not None
    assert key.get_secret_value() == "of-the-file"


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_secret_that_is_set_both_ways_is_refused(monkeypatch: pytest.MonkeyPatch, folder: Path, place: str) -> None:
    (folder / "key").write_text("hunter2")
    monkeypatch.setenv(f"{PASSWORD}_FILE", "key")
    if place == "environment":
        monkeypatch.setenv(PASSWORD, "hunter3")
    else:
        (folder / ".env").write_text(f"{PASSWORD}=hunter3")
    assert refusal() == f"secrets that can't be had: {PASSWORD} and {PASSWORD}_FILE are both set: leave one of them out"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read: No such file or directory"),
        (b"\n", "is empty"),
        (b"caf\xe9", "is not UTF-8"),
        (b"0" * (MAX_BYTES + 1), "that is no secret"),
    ],
    ids=["missing", "empty", "latin-1", "huge"],
)
def test_a_file_that_will_not_do_is_told_by_its_variable_alone(
    monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes | None, said: str
) -> None:
    """It may be the secret itself that somebody took for the name of its file."""
    if content is not None:
        (folder / "hunter2").write_bytes(content)
    monkeypatch.setenv(f"{PASSWORD}_FILE", "hunter2")
    assert refusal().startswith(f"secrets that can't be had: {PASSWORD}_FILE: the file it names ")
    assert said in refusal()
    assert "hunter2" not in refusal()


def test_all_that_can_not_be_had_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PASSWORD}_FILE", "nowhere")
    monkeypatch.setenv(f"{ENV_PREFIX}RECALL__API_KEY_FILE", "nowhere")
    assert len(refusal().splitlines()) == 3, "a title and two problems"


def test_what_is_no_secret_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}KAFKA__GROUP_ID_FILE", "x")
    assert "RERANK_WORKER_KAFKA__GROUP_ID_FILE in the environment is no setting" in refusal()
