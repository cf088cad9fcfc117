"""A model whose machine has a price costs its predicted time, shared with what runs there."""

import msgspec
import pytest

from localforge.bandit import Fold, redecide
from localforge.bandit.eligible import Registry
from tests.routing import DIM, NOW, SCHEMA, card, route_call, service, snapshot


def test_a_model_priced_by_the_hour_is_predicted_to_cost_its_time() -> None:
    found = service(card("a", usd_per_hour=3.6)).route(route_call(), NOW).decision

    (candidate,) = found.candidates
    assert candidate.usd_per_hour == 3.6
    assert candidate.cost_usd == pytest.approx(candidate.latency_s * 3.6 / 3600)


def test_a_replay_costs_the_same() -> None:
    found = service(card("a", usd_per_hour=3.6), card("b")).route(route_call(), NOW).decision

    assert redecide(found, Fold(SCHEMA, DIM).learner) == found


@pytest.mark.parametrize(("in_flight", "share"), [(0, 8.0), (1, 4.0), (3, 2.0), (50, 2.0)])
def test_what_runs_already_bears_its_part_up_to_the_slots(in_flight: int, share: float) -> None:
    shot = snapshot(card("a"))
    [(name, replica)] = shot.replicas.items()
    busy = msgspec.structs.replace(replica, in_flight=in_flight)
    registry = Registry(msgspec.structs.replace(shot, replicas={name: busy}), 6)

    assert registry.backend("a-backend", NOW).hour_share * 8.0 == share


def test_what_a_model_server_has_from_others_is_in_the_queue_too() -> None:
    shot = snapshot(card("a"))
    [(name, replica)] = shot.replicas.items()
    busy = msgspec.structs.replace(replica, backend_running=4, backend_waiting=3)
    registry = Registry(msgspec.structs.replace(shot, replicas={name: busy}), 6)

    assert registry.backend("a-backend", NOW).queue_depth == 1.0
