import json

import pytest

from worker.documents.metadata import MOST_VALUES, check, kept


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


@pytest.mark.parametrize("key", ["", "#document", "$and", "chroma:uri"])
def test_a_key_the_store_does_not_have_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="give it another"):
        check({key: 1})


def test_more_values_than_a_collection_survives_are_refused_wherever_they_are() -> None:
    most = {"teams": ["t"] * (MOST_VALUES - 1), "lang": "en"}
    check(most)
    for more in (most | {"year": 2026}, {str(number): number for number in range(MOST_VALUES + 1)}):
        with pytest.raises(ValueError, match="leave it at 1,000"):
            check(more)
