"""A broker that knows its workers by a password, a certificate or a token, and lets nobody do what no ACL allows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from confluent_kafka.cimpl import NewTopic
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from tests.fakes.issuer import ISSUER, FakeIssuer, fake_issuer
from tests.patience import HANG_S
from worker.kafka.admin.topics import ensure
from worker.local.kafka import java_kafka
from worker.local.process import free_port
from worker.settings import KafkaSettings

USER = "worker"
PASSWORD = "correct-horse-battery-staple"  # noqa: S105 - of a broker that lives for this test
KEY_PASSWORD = "what-only-the-key-opens-with"  # noqa: S105 - as above
CLIENT_SECRET = "what-the-issuer-knows-it-by"  # noqa: S105 - as above
GRANTED = (
    (ResourceType.TOPIC, "queries", (AclOperation.READ, AclOperation.DESCRIBE)),
    (ResourceType.TOPIC, "answers", (AclOperation.WRITE, AclOperation.DESCRIBE)),
    (ResourceType.TOPIC, "dead-letters", (AclOperation.WRITE, AclOperation.DESCRIBE)),
    (ResourceType.TOPIC, "contexts", (AclOperation.WRITE, AclOperation.DESCRIBE)),
    (ResourceType.GROUP, "workers", (AclOperation.READ,)),
    # Exactly once: one id per process, of the group's name and worker_id.
    (ResourceType.TRANSACTIONAL_ID, "workers-one", (AclOperation.WRITE, AclOperation.DESCRIBE)),
)
"""All that the worker needs, as docs/security.md says."""

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
OAUTHBEARER = "org.apache.kafka.common.security.oauthbearer"


@dataclass(frozen=True)
class SecureBroker:
    """Its administrator's way in, without TLS or name, and the workers' ways in."""

    admin: AdminClient
    plain: KafkaSettings
    secure: KafkaSettings
    """By TLS, with name and password."""
    expired: KafkaSettings
    """As above, where the broker's certificate has expired."""
    mutual: KafkaSettings
    """By TLS, with a certificate whose key is encrypted."""
    tokens: KafkaSettings
    """By TLS, with tokens of `issuer`."""
    issuer: FakeIssuer

    def add_topic(self, name: str, *operations: AclOperation) -> None:
        """Create a topic with which the worker may do no more than this."""
        self.admin.create_topics([NewTopic(name, 1, 1)])[name].result(HANG_S)
        self.allow(ResourceType.TOPIC, name, *operations)

    def allow(self, resource: ResourceType, name: str, *operations: AclOperation) -> None:
        """Grant the worker these operations."""
        bindings = [_binding(resource, name, operation) for operation in operations]
        for allowed in self.admin.create_acls(bindings).values() if bindings else ():
            allowed.result(HANG_S)

    def deny(self, topic: str, operation: AclOperation) -> None:
        """Take back what was granted."""
        granted = _binding(ResourceType.TOPIC, topic, operation)
        as_filter = AclBindingFilter(
            granted.restype,
            granted.name,
            granted.resource_pattern_type,
            granted.principal,
            granted.host,
            granted.operation,
            granted.permission_type,
        )
        [taken_back] = self.admin.delete_acls([as_filter]).values()
        assert len(taken_back.result(HANG_S)) == 1


def _binding(resource: ResourceType, name: str, operation: AclOperation) -> AclBinding:
    return AclBinding(
        resource, name, ResourcePatternType.LITERAL, f"User:{USER}", "*", operation, AclPermissionType.ALLOW
    )


@contextmanager
def secure_broker(cache_dir: Path, folder: Path) -> Iterator[SecureBroker]:
    """Run the broker in ``folder``, with the worker's name and rights."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    ports = {name: free_port() for name in ("plaintext", "secure", "expired", "mutual", "tokens")}
    controller = f"127.0.0.1:{free_port()}"
    listeners = ",".join(f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items())
    with fake_issuer(authority, USER, CLIENT_SECRET) as issuer, pytest.MonkeyPatch.context() as patch:
        # Brokers since 4.0 ask nobody for keys whom their command line does not name.
        patch.setenv("JDK_JAVA_OPTIONS", f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.keys_url}")
        properties = {
            "listeners": f"{listeners},CONTROLLER://{controller}",
            "advertised.listeners": listeners,
            "controller.quorum.bootstrap.servers": controller,
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,EXPIRED:SASL_SSL,MUTUAL:SSL,TOKENS:SASL_SSL"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            **_keystores(authority, folder),
            **_ways_in(folder / "ca.pem", issuer),
        }
        with java_kafka(cache_dir, folder / "kafka", port=ports["plaintext"], properties=properties) as address:
            settings = KafkaSettings(
                bootstrap_servers=address,
                query_topic="queries",
                answer_topic="answers",
                dead_letter_topic="dead-letters",
                contexts_topic="contexts",
                group_id="workers",
                partitions=1,
                startup_timeout_s=HANG_S,
            )
            ensure(settings, create=True)
            certificate = client_certificate(authority, folder, "worker")
            yield _with_worker(settings, folder / "ca.pem", certificate, ports, issuer)


def client_certificate(authority: trustme.CA, folder: Path, name: str) -> dict[str, Any]:
    """Return the settings of a client's certificate that calls it the worker, and of its encrypted key."""
    issued = authority.issue_cert("worker.example", common_name=USER)
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(b"".join(cert.bytes() for cert in issued.cert_chain_pems))
    key.write_bytes(_private_key(issued, BestAvailableEncryption(KEY_PASSWORD.encode())))
    return {
        "ssl_certificate_location": certificate,
        "ssl_key_location": key,
        "ssl_key_password": SecretStr(KEY_PASSWORD),
    }


def _keystores(authority: trustme.CA, folder: Path) -> dict[str, str]:
    properties = {}
    for name in ("secure", "expired", "mutual", "tokens"):
        life = timedelta(days=-1 if name == "expired" else 1)
        properties |= {
            f"listener.name.{name}.ssl.keystore.type": "PEM",
            f"listener.name.{name}.ssl.keystore.location": str(_keystore(authority, folder / f"{name}.pem", life)),
        }
    return properties


def _ways_in(ca: Path, issuer: FakeIssuer) -> dict[str, str]:
    """By which names each listener knows who comes."""
    by_password = {
        f"listener.name.{name}.{option}": value
        for name in ("secure", "expired")
        for option, value in {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "scram-sha-512.sasl.jaas.config": SCRAM,
        }.items()
    }
    by_certificate = {
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": str(ca),
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/,DEFAULT",
    }
    by_token = {
        "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.tokens.oauthbearer.sasl.jaas.config": f"{OAUTHBEARER}.OAuthBearerLoginModule required;",
        "listener.name.tokens.oauthbearer.sasl.server.callback.handler.class": (
            f"{OAUTHBEARER}.OAuthBearerValidatorCallbackHandler"
        ),
        # A connection lasts as long as its token, unless another one comes.
        "listener.name.tokens.oauthbearer.connections.max.reauth.ms": "3600000",
        "sasl.oauthbearer.jwks.endpoint.url": issuer.keys_url,
        "sasl.oauthbearer.expected.audience": "kafka",
        "sasl.oauthbearer.expected.issuer": ISSUER,
        "sasl.oauthbearer.clock.skew.seconds": "0",
    }
    return by_password | by_certificate | by_token


def _with_worker(
    plain: KafkaSettings, ca: Path, certificate: dict[str, Any], ports: dict[str, int], issuer: FakeIssuer
) -> SecureBroker:
    admin = AdminClient({"bootstrap.servers": plain.bootstrap_servers})
    known = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    upserted = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, known, PASSWORD.encode())])
    upserted[USER].result(HANG_S)

    def settings(way: str, protocol: str, **who: object) -> KafkaSettings:
        reached = {"bootstrap_servers": f"127.0.0.1:{ports[way]}", "security_protocol": protocol, "ssl_ca_location": ca}
        return plain.model_copy(update=reached | who)

    password = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER, "sasl_password": SecretStr(PASSWORD)}
    token = {
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_token_endpoint_url": issuer.token_url,
        "sasl_oauthbearer_client_id": USER,
        "sasl_oauthbearer_client_secret": SecretStr(CLIENT_SECRET),
        "sasl_oauthbearer_scope": "kafka",
        "https_ca_location": ca,
    }
    broker = SecureBroker(
        admin=admin,
        plain=plain,
        secure=settings("secure", "sasl_ssl", **password),
        expired=settings("expired", "sasl_ssl", **password),
        mutual=settings("mutual", "ssl", **certificate),
        tokens=settings("tokens", "sasl_ssl", **token),
        issuer=issuer,
    )
    for resource, name, operations in GRANTED:
        broker.allow(resource, name, *operations)
    return broker


def _keystore(authority: trustme.CA, path: Path, life: timedelta) -> Path:
    """Write a certificate for this machine that ends ``life`` from now, with its key, as Kafka reads them."""
    ends = datetime.now(UTC) + life
    issued = authority.issue_cert("127.0.0.1", not_before=ends - timedelta(days=2), not_after=ends)
    path.write_bytes(_private_key(issued, NoEncryption()) + b"".join(cert.bytes() for cert in issued.cert_chain_pems))
    return path


def _private_key(issued: trustme.LeafCert, encryption: KeySerializationEncryption) -> bytes:
    key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    # Kafka reads PKCS#8 alone.
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
