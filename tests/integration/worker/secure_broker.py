"""A broker that wants TLS, a name and a password, and lets nobody do what no ACL allows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from tests.patience import HANG_S
from worker.kafka.admin.topics import ensure
from worker.local.kafka import java_kafka
from worker.local.process import free_port
from worker.settings import KafkaSettings

USER = "worker"
PASSWORD = "correct-horse-battery-staple"  # noqa: S105 - of a broker that lives for this test
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


@dataclass(frozen=True)
class SecureBroker:
    """Its administrator's way in, without TLS or name, and the workers' ways in."""

    admin: AdminClient
    plain: KafkaSettings
    secure: KafkaSettings
    """By TLS, with name and password."""
    expired: KafkaSettings
    """As above, where the broker's certificate has expired."""

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
    keystores = {
        "secure": _keystore(authority, folder / "valid.pem", timedelta(days=1)),
        "expired": _keystore(authority, folder / "expired.pem", timedelta(days=-1)),
    }
    plain, ports = free_port(), {name: free_port() for name in keystores}
    controller = f"127.0.0.1:{free_port()}"
    listeners = ",".join(
        [f"PLAINTEXT://127.0.0.1:{plain}", *(f"{name.upper()}://127.0.0.1:{port}" for name, port in ports.items())]
    )
    properties = {
        "listeners": f"{listeners},CONTROLLER://{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.bootstrap.servers": controller,
        "listener.security.protocol.map": ("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,EXPIRED:SASL_SSL"),
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    for name, keystore in keystores.items():
        properties |= {
            f"listener.name.{name}.ssl.keystore.type": "PEM",
            f"listener.name.{name}.ssl.keystore.location": str(keystore),
            f"listener.name.{name}.scram-sha-512.sasl.jaas.config": SCRAM,
        }
    with java_kafka(cache_dir, folder / "kafka", port=plain, properties=properties) as address:
        settings = KafkaSettings(
            bootstrap_servers=address,
            query_topic="queries",
            answer_topic="answers",
            dead_letter_topic="dead-letters",
            contexts_topic="contexts",
            group_id="workers",
            partitions=1,
            startup_timeout_s=20.0,
        )
        ensure(settings, create=True)
        yield _with_worker(settings, folder / "ca.pem", ports)


def _with_worker(plain: KafkaSettings, ca: Path, ports: dict[str, int]) -> SecureBroker:
    admin = AdminClient({"bootstrap.servers": plain.bootstrap_servers})
    known = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    upserted = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, known, PASSWORD.encode())])
    upserted[USER].result(HANG_S)

    def settings(port: int) -> KafkaSettings:
        return plain.model_copy(
            update={
                "bootstrap_servers": f"127.0.0.1:{port}",
                "security_protocol": "sasl_ssl",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_username": USER,
                "sasl_password": SecretStr(PASSWORD),
                "ssl_ca_location": ca,
            }
        )

    broker = SecureBroker(admin, plain, settings(ports["secure"]), settings(ports["expired"]))
    for resource, name, operations in GRANTED:
        broker.allow(resource, name, *operations)
    return broker


def _keystore(authority: trustme.CA, path: Path, life: timedelta) -> Path:
    """Write a certificate for this machine that ends ``life`` from now, with its key, as Kafka reads them."""
    ends = datetime.now(UTC) + life
    issued = authority.issue_cert("127.0.0.1", not_before=ends - timedelta(days=2), not_after=ends)
    key = load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    # Kafka reads PKCS#8 alone.
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + b"".join(cert.bytes() for cert in issued.cert_chain_pems))
    return path
