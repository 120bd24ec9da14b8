"""What an answer to a machine that asks to be let in means."""

import pytest

from tests.support.stores import SETTINGS
from tests.support.views import Someone
from wgpy.mesh.client import RefusedError
from wgpy.mesh.enrol import EndedError, Outcome, check_token, outcome
from wgpy.mesh.messages import Joined, Refusal, Waiting


def refusal(status: int, word: str) -> RefusedError:
    return RefusedError(status, Refusal(word, "a sentence for a person"))


@pytest.mark.parametrize(
    ("status", "word", "meaning"),
    [
        (410, "spent", Outcome.NEVER),
        (410, "expired", Outcome.NEVER),
        (410, "revoked", Outcome.NEVER),
        (409, "name-taken", Outcome.NEVER),
        (403, "removed", Outcome.NEVER),
        # Another coordinator may say otherwise, or this one in a moment.
        (403, "elsewhere", Outcome.ELSEWHERE),
        (401, "session", Outcome.ELSEWHERE),
        (429, "rate", Outcome.ELSEWHERE),
        (500, "fault", Outcome.ELSEWHERE),
        (503, "unavailable", Outcome.ELSEWHERE),
    ],
)
def test_only_some_refusals_are_for_ever(status: int, word: str, meaning: Outcome) -> None:
    assert outcome(refusal(status, word)) is meaning


def test_the_other_answers() -> None:
    view = Someone(1).view()
    assert view.certificate is not None
    assert outcome(Joined(view.certificate, (), (), SETTINGS, view)) is Outcome.JOINED
    assert outcome(Waiting()) is Outcome.PENDING


def test_a_token_that_has_ended_is_not_asked_with() -> None:
    check_token(100.0, 99.9, pending=False)
    with pytest.raises(EndedError, match="has expired: ask for a new one"):
        check_token(100.0, 100.0, pending=False)
    with pytest.raises(EndedError, match="before an operator approved"):
        check_token(100.0, 200.0, pending=True)
