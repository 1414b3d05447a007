"""What of Kafka's security settings is refused at start, in the user's words."""

from pathlib import Path
from typing import Any

import pytest

from worker.errors import FatalError
from worker.settings import Settings
from worker.settings.rules import check_settings

OAUTH = {
    "security_protocol": "sasl_ssl",
    "sasl_mechanism": "OAUTHBEARER",
    "sasl_oauthbearer_token_endpoint_url": "https://issuer.example/token",
    "sasl_oauthbearer_client_id": "worker",
    "sasl_oauthbearer_client_secret": "s",
}
SCRAM = {
    "security_protocol": "sasl_ssl",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_username": "u",
    "sasl_password": "p",
}
MSK = {"security_protocol": "sasl_ssl", "sasl_mechanism": "AWS_MSK_IAM", "msk_region": "eu-west-1"}
TLS = {"security_protocol": "ssl"}
THIS = __file__


def check(kafka: dict[str, Any]) -> None:
    check_settings(Settings.model_validate({"kafka": kafka}))


@pytest.mark.parametrize(
    "kafka",
    [
        OAUTH,
        OAUTH | {"sasl_oauthbearer_scope": "a b", "sasl_oauthbearer_extensions": {"logicalCluster": "lkc-1"}},
        OAUTH | {"client_options": {"sasl.oauthbearer.sub.claim.name": "azp"}},
        SCRAM,
        SCRAM | {"ssl_certificate_location": THIS, "ssl_key_location": THIS, "ssl_key_password": "k"},
        MSK,
        TLS | {"ssl_ca_location": THIS, "ssl_certificate_location": THIS, "ssl_key_location": THIS},
        TLS | {"ssl_ca_location": str(Path(THIS).parent)},
        TLS | {"ssl_key_password": "k", "client_options": {"ssl.certificate.pem": "-", "ssl.key.pem": "-"}},
        {"security_protocol": "sasl_ssl", "client_options": {"sasl.mechanisms": "GSSAPI"}},
    ],
    ids=lambda kafka: "-".join(kafka)[:60],
)
def test_what_works_together_is_taken(kafka: dict[str, Any]) -> None:
    check(kafka)


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ({"security_protocol": "sasl_ssl"}, "is sasl_ssl without kafka.sasl_mechanism: set it"),
        (SCRAM | {"sasl_password": None}, "is SCRAM-SHA-512 without kafka.sasl_password: set them"),
        (OAUTH | {"sasl_oauthbearer_client_id": None}, "is OAUTHBEARER without kafka.sasl_oauthbearer_client_id"),
        (OAUTH | {"sasl_username": "u"}, "kafka.sasl_username would not be used with kafka.sasl_mechanism OAUTHBEARER"),
        (SCRAM | {"sasl_oauthbearer_scope": "s"}, "kafka.sasl_oauthbearer_scope would not be used"),
        (SCRAM | {"msk_region": "eu-west-1"}, "kafka.msk_region would not be used"),
        (MSK | {"msk_region": None}, "is AWS_MSK_IAM without kafka.msk_region"),
        (MSK | {"security_protocol": "sasl_plaintext"}, "AWS_MSK_IAM needs kafka.security_protocol sasl_ssl"),
        (OAUTH | {"sasl_oauthbearer_token_endpoint_url": "issuer.example"}, "must begin with https://"),
        (OAUTH | {"sasl_oauthbearer_extensions": {"logical_id": "x"}}, "has 'logical_id': a name has letters alone"),
        (OAUTH | {"sasl_oauthbearer_extensions": {"pool": "a,b"}}, "a value no comma"),
        (OAUTH | {"https_ca_location": "no.pem"}, "kafka.https_ca_location: no.pem can't be read: No such file"),
        (TLS | {"sasl_username": "u"}, "kafka.sasl_username would not be used with kafka.security_protocol ssl"),
        ({"ssl_key_password": "k"}, "kafka.ssl_key_password would not be used with kafka.security_protocol plaintext"),
        (TLS | {"ssl_certificate_location": THIS}, "is set without kafka.ssl_key_location: set both"),
        (TLS | {"ssl_key_location": THIS}, "is set without kafka.ssl_certificate_location: set both"),
        (TLS | {"ssl_key_password": "k"}, "kafka.ssl_key_password is set without kafka.ssl_key_location"),
        (TLS | {"ssl_ca_location": "ca.pem"}, "kafka.ssl_ca_location: ca.pem can't be read: No such file"),
        (
            TLS | {"ssl_certificate_location": "/", "ssl_key_location": THIS},
            "kafka.ssl_certificate_location: / can't be read: Is a directory",
        ),
        (TLS | {"client_options": {"ssl.key.location": "k"}}, "has ssl.key.location: set kafka.ssl_key_location"),
        (
            SCRAM | {"client_options": {"sasl.mechanisms": "PLAIN"}},
            "has sasl.mechanisms, which kafka.sasl_mechanism sets as well",
        ),
        (
            OAUTH | {"client_options": {"sasl.oauthbearer.client.credentials.client.secret": "x"}},
            "which kafka.sasl_oauthbearer_client_secret sets as well",
        ),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_what_does_not_is_refused_in_one_line(kafka: dict[str, Any], said: str) -> None:
    with pytest.raises(FatalError) as caught:
        check(kafka)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value), "one problem is one line"
