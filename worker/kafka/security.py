"""How a client shows who it is, and whom it trusts: librdkafka's options of security, from our settings."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from confluent_kafka import KafkaError
from pydantic import SecretStr

from worker.errors import FatalError
from worker.settings import KafkaSettings
from worker.settings.kafka import CLIENT_OPTIONS_BY_NAME

logger = structlog.get_logger()

AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Red Hat, SUSE and Alpine keep the authorities they trust."""

TokenSource = Callable[[str], tuple[str, float]]
"""Takes ``sasl.oauthbearer.config``, returns a token and when it ends, in seconds since 1970."""


def security_config(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the options; the same for every client there is.

    FatalError if a token of AWS is asked for and can't be made. With ``AWS_MSK_IAM`` AWS may be asked who we are.
    """
    config: dict[str, Any] = {}
    if kafka.security_protocol != "plaintext":
        config["security.protocol"] = kafka.security_protocol
    for name in CLIENT_OPTIONS_BY_NAME:
        value = getattr(kafka, name)
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            config[name.replace("_", ".")] = plain
    if kafka.sasl_mechanism == "OAUTHBEARER":
        # librdkafka asks the provider itself, on a thread of its own, and again at 80 % of a token's life.
        config["sasl.oauthbearer.method"] = "oidc"
        if "https.ca.location" not in config and not kafka.client_options.keys() & {
            "https.ca.location",
            "https.ca.pem",
        }:
            config |= _authorities_of_the_system()
    if kafka.sasl_oauthbearer_extensions:
        pairs = kafka.sasl_oauthbearer_extensions.items()
        config["sasl.oauthbearer.extensions"] = ",".join(f"{name}={value}" for name, value in pairs)
    if kafka.sasl_mechanism == "AWS_MSK_IAM":
        config |= {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": _msk_iam_tokens(kafka.msk_region or "")}
    return config


def bearable_refusals(kafka: KafkaSettings) -> frozenset[int]:
    """Return error codes that say we are not let in and, once we were, are no reason to end.

    A token that can't be renewed, or has become too old meanwhile, is an outage of whoever gives it: with the next one
    the client is let in again. A password or a certificate that is refused stays refused.
    """
    in_options = {kafka.client_options.get(name) for name in ("sasl.mechanism", "sasl.mechanisms")}
    if kafka.sasl_mechanism in {"OAUTHBEARER", "AWS_MSK_IAM"} or "OAUTHBEARER" in in_options:
        return frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED})  # noqa: SLF001
    return frozenset()


def _authorities_of_the_system() -> dict[str, Any]:
    # librdkafka's own curl looks where Red Hat has them, and fails on other systems, told to probe too (2.16).
    places = (os.environ.get("SSL_CERT_FILE"), *AUTHORITIES)
    found = next((place for place in places if place and Path(place).is_file()), None)
    return {} if found is None else {"https.ca.location": found}


def _msk_iam_tokens(region: str) -> TokenSource:
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise FatalError(
            "kafka.sasl_mechanism AWS_MSK_IAM needs a package that is not there: pip install 'rerank-worker[msk-iam]'"
        ) from error

    def token(_config: str) -> tuple[str, float]:
        try:
            # Signed here: AWS is asked for nothing but, where they are not at hand, our credentials.
            signed, ends_ms = MSKAuthTokenProvider.generate_auth_token(region)
        except Exception as error:
            # The client passes on that there was an exception, and not which.
            logger.warning("no token for MSK could be signed", reason=str(error))
            raise
        return signed, ends_ms / 1000

    try:
        token("")
    except Exception as error:
        raise FatalError(
            f"no token for MSK in {region!r} could be signed ({error}): has this process AWS credentials, by its "
            "environment, a profile or a role?"
        ) from error
    return token
