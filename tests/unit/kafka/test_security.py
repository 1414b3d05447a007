"""How clients get in: librdkafka's own options, tokens of AWS, and every client by the same ones."""

import ast
import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
import trustme
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from worker.errors import FatalError
from worker.kafka.admin.topics import describe
from worker.kafka.codes import CONSUMER_FATAL
from worker.kafka.config import common_config, consumer_config, producer_config
from worker.kafka.security import bearable_refusals
from worker.settings import KafkaSettings

WORKER = Path(__file__).parents[3] / "worker"
MSK = KafkaSettings(security_protocol="sasl_ssl", sasl_mechanism="AWS_MSK_IAM", msk_region="eu-west-1")
OAUTH = KafkaSettings(
    security_protocol="sasl_ssl",
    sasl_mechanism="OAUTHBEARER",
    sasl_oauthbearer_token_endpoint_url="https://issuer.example/token",  # noqa: S106 - an address
    sasl_oauthbearer_client_id="worker",
    sasl_oauthbearer_client_secret=SecretStr("s"),
    sasl_oauthbearer_scope="kafka",
    sasl_oauthbearer_extensions={"logicalCluster": "lkc-1", "identityPoolId": "pool-2"},
    https_ca_location=Path("issuer.pem"),
)
CLIENTS: list[Callable[[KafkaSettings], object]] = [
    lambda kafka: Consumer(consumer_config(kafka)).close(),
    lambda kafka: Producer(producer_config(kafka)).flush(0),
    lambda kafka: AdminClient(common_config(kafka)).poll(0),
]


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's, and nobody asked over the network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def aws(no_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHISTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never-in-a-token")


@pytest.fixture
def own(tmp_path: Path) -> KafkaSettings:
    """A client certificate and its key."""
    issued = trustme.CA().issue_cert(common_name="worker")
    certificate, key = tmp_path / "own.crt", tmp_path / "own.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return KafkaSettings(security_protocol="ssl", ssl_certificate_location=certificate, ssl_key_location=key)


def test_settings_are_options_of_librdkafka() -> None:
    assert {name: value for name, value in common_config(OAUTH).items() if name.startswith(("s", "h"))} == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": "https://issuer.example/token",
        "sasl.oauthbearer.client.id": "worker",
        "sasl.oauthbearer.client.secret": "s",
        "sasl.oauthbearer.scope": "kafka",
        "sasl.oauthbearer.extensions": "logicalCluster=lkc-1,identityPoolId=pool-2",
        "https.ca.location": "issuer.pem",
    }


@pytest.mark.parametrize(
    ("options", "asked"),
    [({}, "system.pem"), ({"https.ca.location": "options.pem"}, "options.pem"), ({"https.ca.pem": "-"}, None)],
    ids=["system", "options", "inline"],
)
def test_a_token_endpoint_is_known_by_the_authorities_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, str], asked: str | None
) -> None:
    (tmp_path / "system.pem").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", "system.pem")
    kafka = OAUTH.model_copy(update={"https_ca_location": None, "client_options": options})
    assert common_config(kafka).get("https.ca.location") == asked


@pytest.mark.parametrize("client", CLIENTS, ids=["consumer", "producer", "admin"])
def test_every_client_takes_a_certificate(own: KafkaSettings, client: Callable[[KafkaSettings], object]) -> None:
    client(own)


def test_a_key_that_is_not_the_certificate_s_is_one_line(own: KafkaSettings, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    trustme.CA().issue_cert(common_name="other").private_key_pem.write_to_path(other)
    with pytest.raises(FatalError, match="no Kafka client can be made with these settings: ") as caught:
        describe(own.model_copy(update={"ssl_key_location": other}))
    assert "\n" not in str(caught.value)


def test_a_token_for_msk_is_a_signed_request_that_holds_no_secret(aws: None) -> None:
    token, ends_s = common_config(MSK)["oauth_cb"]("")
    signed = urlsplit(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    asked = parse_qs(signed.query)
    assert (signed.scheme, signed.hostname) == ("https", "kafka.eu-west-1.amazonaws.com")
    assert asked["Action"] == ["kafka-cluster:Connect"]
    assert asked["X-Amz-Credential"][0].startswith("AKIAOFTHISTEST/")
    assert asked["X-Amz-Credential"][0].endswith("/eu-west-1/kafka-cluster/aws4_request")
    assert asked["X-Amz-Signature"]
    assert "never-in-a-token" not in signed.geturl()
    lives_s = float(asked["X-Amz-Expires"][0])
    assert 0 < ends_s - time.time() <= lives_s


@pytest.mark.parametrize("client", CLIENTS, ids=["consumer", "producer", "admin"])
def test_every_client_asks_for_a_token_before_it_is_made(
    aws: None, client: Callable[[KafkaSettings], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a thread of librdkafka's: nobody has polled yet."""
    from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415 - it takes half a second

    asked: list[str] = []
    sign = MSKAuthTokenProvider.generate_auth_token

    def remembered(region: str) -> Any:
        asked.append(region)
        return sign(region)

    monkeypatch.setattr(MSKAuthTokenProvider, "generate_auth_token", remembered)
    client(MSK)
    assert asked == ["eu-west-1", "eu-west-1"], "once to see that it can be, and once by the client"


def test_no_credentials_of_aws_are_one_line(no_aws: None) -> None:
    with structlog.testing.capture_logs(), pytest.raises(FatalError, match="AWS credentials") as caught:
        describe(MSK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kafka", "bears"),
    [
        (OAUTH, True),
        (MSK, True),
        (KafkaSettings(client_options={"sasl.mechanisms": "OAUTHBEARER"}), True),
        (KafkaSettings(client_options={"sasl.mechanisms": "GSSAPI"}), False),
        (KafkaSettings(security_protocol="sasl_ssl", sasl_mechanism="SCRAM-SHA-512"), False),
        (KafkaSettings(security_protocol="ssl"), False),
    ],
    ids=["oauth", "msk", "oauth-in-options", "kerberos", "password", "certificate"],
)
def test_a_token_comes_again_and_a_password_does_not(kafka: KafkaSettings, bears: bool) -> None:
    refused = KafkaError._AUTHENTICATION
    assert (refused in bearable_refusals(kafka)) is bears
    assert refused in CONSUMER_FATAL, "so it is told apart by this alone"


def test_every_client_of_the_worker_is_made_of_the_one_configuration() -> None:
    """Who made one of its own would be let in by no broker that asks who he is."""
    made = {}
    for path in WORKER.rglob("*.py"):
        # The local stack's broker asks nobody.
        if "local" in path.relative_to(WORKER).parts:
            continue
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {"Consumer", "Producer", "AdminClient"}:
                made[f"{path.relative_to(WORKER)}:{call.lineno}"] = ast.unparse(call.args[0])
    assert made
    assert {where for where, config in made.items() if "config" not in config} == set()
