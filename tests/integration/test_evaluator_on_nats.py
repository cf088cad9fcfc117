"""The evaluator as the host runs it, on a real broker."""

from collections.abc import AsyncIterator

import pytest

from localforge.bus.durable import Delivery
from localforge.bus.permissions import ADMIN, ROUTER
from localforge.config import Config
from localforge.contracts import subjects
from localforge.contracts.chat import FeedbackSubmitted
from localforge.contracts.facts import FeedbackGiven
from localforge.contracts.subjects import FEEDBACK_DURABLE
from localforge.errors import ContractError, DependencyUnavailable, RequestRefused
from localforge.evaluator.app import EvaluatorApp, create
from localforge.hosting import Host
from tests.support_nats import ProvisionedServer
from tests.unit.edge.lane import decided

VERDICT = FeedbackSubmitted(id="f1", completion_id="chatcmpl-d1", score=0.25)
LAST = FEEDBACK_DURABLE.max_deliver - 1
"""After it one delivery is left, for a dead letter that could not be stored."""


class Nth(Delivery):
    """A delivery by its number alone, so that nobody has to wait for it."""

    number = 0
    stamp = "1-1"

    def __init__(self, number: int = 1) -> None:
        self.number = number


@pytest.fixture(name="evaluator")
async def _evaluator(provisioned_server: ProvisionedServer) -> AsyncIterator[EvaluatorApp]:
    app = create(Host(Config(nats=provisioned_server.config), {}))
    await app.start()
    yield app
    await app.stop()


async def _given(server: ProvisionedServer) -> FeedbackGiven:
    """The last verdict in the stream of facts."""
    admin = await server.connect(ADMIN)
    found = await admin.jetstream().get_last_msg(subjects.FEEDBACK.name, subjects.feedback("user"))
    assert found.data is not None
    return FeedbackGiven.decode(found.data)


async def test_a_verdict_waits_for_its_decision_until_the_last_delivery(
    evaluator: EvaluatorApp, provisioned_server: ProvisionedServer
):
    for number in range(1, LAST):
        with pytest.raises(DependencyUnavailable):
            await evaluator.on_verdict(VERDICT, Nth(number))
    router = await provisioned_server.connect(ROUTER)
    await router.jetstream().publish(subjects.decision("d1"), decided("d1").encode())

    await evaluator.on_verdict(VERDICT, Nth(LAST))

    assert (await _given(provisioned_server)).score == VERDICT.score


async def test_a_verdict_whose_decision_never_comes_is_refused(evaluator: EvaluatorApp):
    with pytest.raises(RequestRefused) as caught:
        await evaluator.on_verdict(VERDICT, Nth(LAST))

    assert (caught.value.code, caught.value.status) == ("completion_not_found", 404)


async def test_an_id_that_makes_no_subject_is_not_looked_for_again(evaluator: EvaluatorApp):
    with pytest.raises(ContractError):
        await evaluator.on_verdict(
            FeedbackSubmitted(id="f1", completion_id="chatcmpl-d1\n", score=1.0), Nth()
        )
