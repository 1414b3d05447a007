"""The blocks of docs/guides/secure-kafka.md load, with the files and secrets that they speak of, and make clients."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from confluent_kafka import Consumer, Producer

from worker.kafka.config import consumer_config, outcome_config
from worker.settings import CONFIG_FILE_VARIABLE, ENV_PREFIX, Settings
from worker.settings.load import load_settings
from worker.settings.secret_files import file_variables

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "secure-kafka.md").read_text(encoding="utf-8")
CERTIFICATE, PASSWORD, TOKENS, MSK, CHROMA = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
SECRETS = dict(re.findall(rf"^({ENV_PREFIX}\w+)=(/\S+)$", GUIDE, re.MULTILINE))

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Reads a block as the YAML file of a machine where every file is there that the guide names."""
    issued = trustme.CA().issue_cert("client.example")
    contents = {".crt": issued.cert_chain_pems[0].bytes(), ".key": issued.private_key_pem.bytes(), "": b"secret\n"}

    def here(path: str) -> str:
        file = tmp_path / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents[file.suffix])
        return str(file)

    def load(block: str, *secrets: str) -> Settings:
        config = tmp_path / "worker.yaml"
        config.write_text(re.sub(r"(?<=location: )/\S+", lambda path: here(path[0]), block), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(config))
        for name in secrets:
            monkeypatch.setenv(f"{ENV_PREFIX}{name}_FILE", here(SECRETS[f"{ENV_PREFIX}{name}_FILE"]))
        return load_settings()

    return load


@pytest.mark.parametrize(
    ("block", "secrets"),
    [
        (CERTIFICATE, []),
        (PASSWORD, ["KAFKA__SASL_PASSWORD"]),
        (TOKENS, ["KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET"]),
        (MSK, []),
    ],
    ids=["certificate", "password", "tokens", "msk"],
)
def test_a_block_for_kafka_makes_clients(
    load: Load, monkeypatch: pytest.MonkeyPatch, block: str, secrets: list[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHISTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    kafka = load(block, *secrets).kafka
    # No broker and no provider of tokens is there, which is not their business here.
    Consumer(consumer_config(kafka) | {"log_level": 0}).close()
    Producer(outcome_config(kafka) | {"log_level": 0}).flush(0)


def test_the_block_for_chroma_loads(load: Load) -> None:
    recall = load(CHROMA, "RECALL__API_KEY").recall
    assert (recall.tenant, recall.database, recall.ssl) == ("acme", "live", True)
    assert recall.api_key is not None
    assert recall.api_key.get_secret_value() == "secret"


def test_the_variables_that_name_files_exist() -> None:
    assert SECRETS
    assert SECRETS.keys() <= set(file_variables(Settings))
