"""The evaluator as the host runs it, on a real broker."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from localforge.bus.durable import Delivery
from localforge.bus.permissions import ADMIN, ROUTER, executor_user
from localforge.config import Config
from localforge.contracts import subjects
from localforge.contracts.chat import FeedbackSubmitted
from localforge.contracts.facts import FeedbackGiven
from localforge.contracts.subjects import FEEDBACK_DURABLE
from localforge.errors import ContractError, DependencyUnavailable, RequestRefused
from localforge.evaluator.app import EvaluatorApp, create
from localforge.hosting import Host
from tests.routing import outcome
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


async def _decided(server: ProvisionedServer, *plan: str) -> None:
    router = await server.connect(ROUTER)
    made = decided("d1", chosen=plan[0], plan=plan)
    await router.jetstream().publish(subjects.decision("d1"), made.encode())


async def _reported(server: ProvisionedServer, data: bytes) -> None:
    """Something on the subject where the cloud's executor tells of an answer as a fallback."""
    executor = await server.connect(executor_user("cloud", "openai"))
    subject = subjects.fallback_outcome("cloud", "openai", "d1")
    await executor.jetstream().publish(subject, data)


FALLBACK = msgspec.structs.replace(outcome("d1", "large"), zone="cloud", backend="openai")


async def test_a_verdict_on_a_fallback_is_about_the_model_that_answered(
    evaluator: EvaluatorApp, provisioned_server: ProvisionedServer
):
    await _decided(provisioned_server, "small", "large")
    await _reported(provisioned_server, FALLBACK.encode())

    await evaluator.on_verdict(VERDICT, Nth())

    assert (await _given(provisioned_server)).model == "large"


@pytest.mark.parametrize(
    "data",
    [msgspec.structs.replace(FALLBACK, zone="local", backend="smollm").encode(), b"{"],
    ids=["another backend's", "no outcome"],
)
async def test_what_an_executor_may_not_report_says_nothing_of_who_answered(
    evaluator: EvaluatorApp, provisioned_server: ProvisionedServer, data: bytes
):
    await _decided(provisioned_server, "small", "large")
    await _reported(provisioned_server, data)

    await evaluator.on_verdict(VERDICT, Nth())

    assert (await _given(provisioned_server)).model == "small"


async def test_an_id_that_makes_no_subject_is_not_looked_for_again(evaluator: EvaluatorApp):
    with pytest.raises(ContractError):
        await evaluator.on_verdict(
            FeedbackSubmitted(id="f1", completion_id="chatcmpl-d1\n", score=1.0), Nth()
        )
