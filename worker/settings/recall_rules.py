"""Settings of recall that can't work together, refused at start. Short: `rules` lists all sections."""

from collections.abc import Iterator

from worker.settings.fields import why_unreadable
from worker.settings.recall import API_KEY_HEADER, RecallSettings


def problems(recall: RecallSettings) -> Iterator[str]:
    """Yield each combination of these settings that can't work."""
    if "/" in recall.host or recall.host != recall.host.strip() or not recall.host:
        yield (
            f"recall.host is {recall.host!r}: set the host's name or address alone, the port in recall.port and "
            "recall.ssl for https"
        )
    if recall.ssl_ca_location is not None:
        if not recall.ssl:
            yield "recall.ssl_ca_location needs recall.ssl"
        elif (why := why_unreadable(recall.ssl_ca_location)) is not None:
            yield f"recall.ssl_ca_location: {recall.ssl_ca_location} can't be read: {why}"
    if recall.api_key is not None and any(name.lower() == API_KEY_HEADER for name in recall.headers):
        yield f"recall.api_key and the {API_KEY_HEADER} of recall.headers are one header: set one of them"
    if recall.device == "cpu" and recall.dtype == "float16":
        yield "recall.dtype is float16 on recall.device cpu, several times slower: set float32"
    if recall.lexical_path is not None and recall.lexical_path.is_file():
        yield f"recall.lexical_path is the file {recall.lexical_path}: the lexical index needs a folder"
    if recall.mode == "embedded":
        yield from _embedded(recall)


def _embedded(recall: RecallSettings) -> Iterator[str]:
    of_a_server = [
        f"recall.{name}"
        for name in ("ssl", "headers", "tenant", "database", "api_key")
        if getattr(recall, name) != type(recall).model_fields[name].get_default(call_default_factory=True)
    ]
    if of_a_server:
        yield f"{', '.join(of_a_server)} would not be used by an embedded store: set recall.mode server"
    if recall.path.is_file():
        yield f"recall.path is the file {recall.path}: the embedded store needs a folder"
