"""An OpenID Connect provider: tokens, by TLS, for one client that knows its secret, and the keys that sign them."""

import base64
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import trustme
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.fakes.http import Reply, Request, http_server

ISSUER = "https://issuer.example"
KEY_ID = "the-only-one"


@dataclass
class FakeIssuer:
    """Gives tokens as it is told; what it gave and what was asked for is remembered."""

    client_id: str
    secret: str
    token_url: str = ""
    keys_url: str = ""
    life_s: float = 3_600.0
    audience: str = "kafka"
    away: bool = False
    given: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65_537, 2_048))

    @property
    def authorization(self) -> str:
        """What the client is known by, as it travels."""
        return base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()

    def give(self, request: Request) -> Reply:
        if self.away:
            # One that librdkafka does not ask again of, four times and 5 s apart, before it tells anybody.
            return _json(400, {"error": "temporarily_unavailable"})
        if request.headers["Authorization"] != f"Basic {self.authorization}":
            return _json(401, {"error": "invalid_client", "error_description": "who are you?"})
        self.scopes += parse_qs(request.body.decode()).get("scope", [])
        self.given.append(self._token())
        return _json(200, {"access_token": self.given[-1], "token_type": "Bearer", "expires_in": self.life_s})

    def show_keys(self, _request: Request) -> Reply:
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID}
        key |= {"n": _number(numbers.n), "e": _number(numbers.e)}
        return _json(200, {"keys": [key]})

    def _token(self) -> str:
        now_s = time.time()
        header = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        claims = {
            "iss": ISSUER,
            "sub": self.client_id,
            "aud": self.audience,
            "iat": int(now_s),
            "exp": int(now_s + self.life_s),
            "scope": "kafka",
        }
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_base64url(self._key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


@contextmanager
def fake_issuer(authority: trustme.CA, client_id: str, secret: str) -> Iterator[FakeIssuer]:
    """Serve tokens by TLS, with a certificate of this authority, and keys without."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    issuer = FakeIssuer(client_id, secret)
    with http_server(issuer.give, tls) as issuer.token_url, http_server(issuer.show_keys) as issuer.keys_url:
        yield issuer


def _json(status: int, body: object) -> Reply:
    return Reply(status, json.dumps(body).encode())


def _number(number: int) -> str:
    return _base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
