"""How Chroma is reached: the one place where a client is made from the settings."""

import ssl
from typing import cast

import chromadb
import httpx
from chromadb.api.client import Client
from chromadb.config import Settings as ChromaSettings
from chromadb.errors import NotFoundError

from worker.errors import FatalError
from worker.settings import RecallSettings
from worker.settings.recall import API_KEY_HEADER


def address(settings: RecallSettings) -> str:
    """Return where the store is, for people to read."""
    if settings.mode == "embedded":
        return f"the folder {settings.path} (RERANK_WORKER_RECALL__PATH)"
    return f"{_url(settings)} (RERANK_WORKER_RECALL__HOST and __PORT)"


def connect(settings: RecallSettings, *, timeout_s: float) -> Client:
    """Return a client with a connection of its own; several clients of one folder share it.

    Blocks: a server has ``timeout_s`` to say that it is there, and is then asked who we are without any time limit, for
    Chroma's client has none (1.5.9). Raises FatalError for a folder that can't be opened and for a tenant or database
    that does not exist; what else Chroma or httpx raise passes through.
    """
    chroma = ChromaSettings(anonymized_telemetry=False)
    if settings.mode == "embedded":
        return _open_folder(settings, chroma)
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    if settings.api_key is not None:
        headers[API_KEY_HEADER] = settings.api_key.get_secret_value()
    if settings.ssl_ca_location is not None:
        chroma.chroma_server_ssl_verify = str(settings.ssl_ca_location)
    # See first if it answers: a thread that is left behind later stays for as long as it is not answered.
    httpx.get(
        f"{_url(settings)}/api/v2/heartbeat", headers=headers, timeout=timeout_s, verify=_verify(settings)
    ).raise_for_status()
    try:
        client = chromadb.HttpClient(
            host=_host(settings),
            port=settings.port,
            ssl=settings.ssl,
            headers=headers,
            settings=chroma,
            tenant=settings.tenant,
            database=settings.database,
        )
    except NotFoundError as error:
        raise FatalError(
            f"Chroma at {address(settings)} has no database {settings.database!r} of a tenant {settings.tenant!r}: "
            "set RERANK_WORKER_RECALL__TENANT and RERANK_WORKER_RECALL__DATABASE, or create them there."
        ) from error
    return cast(Client, client)


def _verify(settings: RecallSettings) -> ssl.SSLContext | bool:
    """Return by what the server's certificate is verified; True is httpx's own choice."""
    authority = settings.ssl_ca_location
    try:
        return True if authority is None else ssl.create_default_context(cafile=authority)
    except ssl.SSLError as error:
        raise FatalError(f"recall.ssl_ca_location: {authority} is no certificate in PEM: {error.reason}") from error


def _host(settings: RecallSettings) -> str:
    # An IPv6 address; in a URL its colons would be read as a port's.
    host = settings.host
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _url(settings: RecallSettings) -> str:
    return f"{'https' if settings.ssl else 'http'}://{_host(settings)}:{settings.port}"


def _open_folder(settings: RecallSettings, chroma: ChromaSettings) -> Client:
    try:
        return cast(Client, chromadb.PersistentClient(path=settings.path, settings=chroma))
    except Exception as error:
        raise FatalError(
            f"Chroma cannot open {address(settings)}: {error}. Name a folder this process may write, or a new one."
        ) from error
