"""How Chroma is reached: what is wrong with the settings is told before anybody is asked."""

from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.recall.chroma_client import connect
from worker.settings import RecallSettings


def test_an_authority_that_is_no_certificate_is_one_line(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("no certificate at all\n")
    settings = RecallSettings(ssl=True, ssl_ca_location=authority)
    with pytest.raises(FatalError, match=r"recall\.ssl_ca_location: .*ca\.pem is no certificate in PEM"):
        connect(settings, timeout_s=1.0)
