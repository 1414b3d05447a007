"""The LLM's second opinion, against an endpoint that grades by a rule."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fakes.http import Reply, Request, http_server
from tests.unit.evaluation.conftest import candidates
from worker.domain import Candidate
from worker.errors import FatalError
from worker.evaluation.judge import Judged, judge, require_llm, sampled
from worker.evaluation.questions import Question, QuestionSet
from worker.evaluation.rankings import Scored
from worker.settings import AnswerSettings, Settings


class FakeJudge:
    """Answers with the grade that stands in the passage, in the words of the question."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.status = 200
        self.base_url = ""

    def respond(self, request: Request) -> Reply:
        prompt = json.loads(request.body)["messages"][-1]["content"]
        self.prompts.append(prompt)
        passage = prompt.split("<passages>")[1].split("</passages>")[0]
        said = next((word for word in passage.split() if word.startswith("says-")), "says-nothing").removeprefix(
            "says-"
        )
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"Grade: {said}."}}
        return Reply(self.status, json.dumps({"choices": [choice]}).encode())


@pytest.fixture
def llm() -> Iterator[FakeJudge]:
    fake = FakeJudge()
    with http_server(fake.respond) as fake.base_url:
        yield fake


def found(*said: str) -> dict[str, list[Candidate]]:
    return {"q": [Candidate(f"d{rank}", f"says-{each}", rank, 0.0) for rank, each in enumerate(said, 1)]}


def judged(llm: FakeJudge, grades: dict[str, int], *said: str, sample: int = 60) -> Judged:
    settings = Settings(answer=AnswerSettings(base_url=llm.base_url, model="tiny", attempts=1))
    questions = QuestionSet([Question("q", "why?", grades)], [], 0, 0)
    return judge(settings, questions, found(*said), [], sample=sample, watch=lambda *_: None)


def test_it_is_held_against_what_was_given(llm: FakeJudge) -> None:
    outcome = judged(llm, {"d1": 3, "d2": 1, "d3": 0, "d4": 0}, "3", "0", "0", "2")
    assert (outcome.model, outcome.compared, outcome.gaps, outcome.unread) == ("tiny", 4, 0, 0)
    assert outcome.agreed == 0.5
    # Both call half of them relevant and agree on half: no better than chance.
    assert outcome.kappa == pytest.approx(0.0)
    assert {(each.document_id, each.given, each.judged) for each in outcome.disagreements} == {
        ("d2", 1, 0),
        ("d4", 0, 2),
    }


def test_full_agreement_has_a_kappa_of_one(llm: FakeJudge) -> None:
    assert judged(llm, {"d1": 3, "d2": 0}, "2", "0").kappa == pytest.approx(1.0)
    assert judged(llm, {"d1": 3, "d2": 1}, "2", "1").kappa is None


def test_what_nobody_had_judged_is_counted_apart(llm: FakeJudge) -> None:
    outcome = judged(llm, {"d1": 3}, "3", "2", "0", "1")
    assert (outcome.compared, outcome.gaps, outcome.gaps_relevant) == (1, 3, 2)


def test_an_answer_without_a_grade_is_left_out(llm: FakeJudge) -> None:
    outcome = judged(llm, {"d1": 3, "d2": 0, "d3": 0}, "3", "nothing", "7")
    assert (outcome.compared, outcome.unread) == (1, 2)


def test_it_sees_one_passage_at_a_time_and_no_rank(llm: FakeJudge) -> None:
    judged(llm, {"d1": 3, "d2": 0}, "3", "0")
    assert Counter(prompt.count("says-") for prompt in llm.prompts) == {1: 2}
    assert all("[1]" in prompt and "d1" not in prompt and "d2" not in prompt for prompt in llm.prompts)


def test_an_endpoint_that_refuses_all_is_told(llm: FakeJudge) -> None:
    llm.status = 401
    with pytest.raises(FatalError, match=r"tiny graded nothing: .*401"):
        judged(llm, {"d1": 3, "d2": 0}, "3", "0")


def test_no_endpoint_is_told_before_anything_is_scored() -> None:
    with pytest.raises(FatalError, match="RERANK_WORKER_ANSWER__BASE_URL"):
        require_llm(Settings())


def test_half_of_the_sample_was_judged_before_and_comes_from_the_first_ten_of_any_order() -> None:
    names = [f"d{number:02}" for number in range(30)]
    question = Question("q", "why?", {name: 0 for name in names if int(name[1:]) % 2})
    upside_down = Scored("model", {"q": [float(number) for number in range(30)]})
    questions = QuestionSet([question], [], 0, 0)
    chosen = sampled(questions, {"q": candidates(*names)}, [upside_down], 8)
    identifiers = [candidate.document_id for _, candidate in chosen]
    assert len(set(identifiers)) == 8
    assert sum(identifier in question.grades for identifier in identifiers) == 4
    assert set(identifiers) <= {*names[:10], *names[20:]}
    assert len(sampled(questions, {"q": candidates(*names)}, [upside_down], 99)) == 20
