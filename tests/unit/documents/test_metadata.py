import json

import pytest

from worker.documents.metadata import kept


def test_what_can_be_asked_for_is_kept_as_it_is() -> None:
    scalars = {"title": "T", "version": 3, "score": 0.5, "public": True, "teams": ["a", "b"], "years": [2024, 2025]}
    assert kept(scalars.items()) == scalars


def test_what_is_null_or_empty_is_left_out() -> None:
    assert kept({"a": None, "b": [], "c": ""}.items()) == {"c": ""}


@pytest.mark.parametrize("value", [{"lang": "en"}, [1, "a"], [[1]], [{"a": 1}], [None], [1, True]], ids=json.dumps)
def test_the_rest_is_json_text(value: object) -> None:
    assert kept([("a", value)]) == {"a": json.dumps(value)}


@pytest.mark.parametrize("value", [2**63, [1, 2**70], float("inf")], ids=str)
def test_a_number_no_store_has_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"metadata\.a"):
        kept([("a", value)])
