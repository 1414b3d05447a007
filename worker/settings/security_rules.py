"""What of Kafka's security settings can't work together: who we are, whom we trust, and the files of both."""

from collections.abc import Iterable, Iterator

from worker.settings.fields import why_unreadable
from worker.settings.kafka import KafkaSettings

_NAME_AND_PASSWORD = ("sasl_username", "sasl_password")

SASL_NEEDS = {
    "PLAIN": _NAME_AND_PASSWORD,
    "SCRAM-SHA-256": _NAME_AND_PASSWORD,
    "SCRAM-SHA-512": _NAME_AND_PASSWORD,
    "OAUTHBEARER": (
        "sasl_oauthbearer_token_endpoint_url",
        "sasl_oauthbearer_client_id",
        "sasl_oauthbearer_client_secret",
    ),
    "AWS_MSK_IAM": ("msk_region",),
}
"""The settings of each mechanism."""

SASL_TAKES = {"OAUTHBEARER": ("sasl_oauthbearer_scope", "sasl_oauthbearer_extensions", "https_ca_location")}
"""Those that it knows besides."""

_SASL_SETTINGS = (
    "sasl_mechanism",
    *dict.fromkeys(name for names in (*SASL_NEEDS.values(), *SASL_TAKES.values()) for name in names),
)
_TLS_FILES = ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location")
_TLS_SETTINGS = (*_TLS_FILES, "ssl_key_password")


def problems(kafka: KafkaSettings) -> Iterator[str]:
    """Yield what can't work in getting into the broker, and what to set instead; looks whether files can be read."""
    if kafka.security_protocol.startswith("sasl_"):
        yield from _sasl(kafka)
        yield from _unreadable(kafka, ["https_ca_location"])
    else:
        yield from _unused(_given(kafka, _SASL_SETTINGS), kafka, "set sasl_ssl (or sasl_plaintext), or leave them out")
    if kafka.security_protocol.endswith("ssl"):
        yield from _client_certificate(kafka)
        yield from _unreadable(kafka, _TLS_FILES)
    else:
        yield from _unused(_given(kafka, _TLS_SETTINGS), kafka, "set ssl or sasl_ssl, or leave them out")


def _sasl(kafka: KafkaSettings) -> Iterator[str]:
    mechanism = kafka.sasl_mechanism
    if mechanism is None:
        # Mechanisms of which we know nothing (Kerberos, other grants) come through client_options, whole.
        if not kafka.client_options.keys() & {"sasl.mechanism", "sasl.mechanisms"}:
            yield f"kafka.security_protocol is {kafka.security_protocol} without kafka.sasl_mechanism: set it"
        return
    given = _given(kafka, _SASL_SETTINGS)
    needed = SASL_NEEDS[mechanism]
    if missing := [name for name in needed if name not in given]:
        yield f"kafka.sasl_mechanism is {mechanism} without {_listed(missing)}: set them"
    known = {"sasl_mechanism", *needed, *SASL_TAKES.get(mechanism, ())}
    if useless := [name for name in given if name not in known]:
        yield f"{_listed(useless)} would not be used with kafka.sasl_mechanism {mechanism}: leave them out"
    if mechanism == "AWS_MSK_IAM" and kafka.security_protocol != "sasl_ssl":
        yield "kafka.sasl_mechanism AWS_MSK_IAM needs kafka.security_protocol sasl_ssl: MSK speaks it over TLS alone"
    url = kafka.sasl_oauthbearer_token_endpoint_url
    if url is not None and not url.startswith(("http://", "https://")):
        yield "kafka.sasl_oauthbearer_token_endpoint_url must begin with https:// (or http://)"
    for name, value in kafka.sasl_oauthbearer_extensions.items():
        if not (name.isascii() and name.isalpha()) or "," in value:
            yield f"kafka.sasl_oauthbearer_extensions has {name!r}: a name has letters alone, a value no comma"


def _client_certificate(kafka: KafkaSettings) -> Iterator[str]:
    certificate, key = kafka.ssl_certificate_location, kafka.ssl_key_location
    if certificate is not None and key is None:
        yield "kafka.ssl_certificate_location is set without kafka.ssl_key_location: set both, one file may be both"
    if key is not None and certificate is None:
        yield "kafka.ssl_key_location is set without kafka.ssl_certificate_location: set both, one file may be both"
    if kafka.ssl_key_password is not None and key is None and "ssl.key.pem" not in kafka.client_options:
        yield "kafka.ssl_key_password is set without kafka.ssl_key_location: set the key, or leave both out"


def _unreadable(kafka: KafkaSettings, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        path = getattr(kafka, name)
        why = None if path is None else why_unreadable(path, folder="_ca_" in name)
        if why is not None:
            yield f"kafka.{name}: {path} can't be read: {why}"


def _unused(given: list[str], kafka: KafkaSettings, advice: str) -> Iterator[str]:
    if given:
        yield f"{_listed(given)} would not be used with kafka.security_protocol {kafka.security_protocol}: {advice}"


def _given(kafka: KafkaSettings, names: Iterable[str]) -> list[str]:
    return [name for name in names if getattr(kafka, name)]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"kafka.{name}" for name in names)
