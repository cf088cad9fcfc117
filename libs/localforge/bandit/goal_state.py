"""A goal controller's state as bytes and back, bit for bit, and its hash."""

import hashlib

import msgspec

from localforge.bandit.goal import LEVEL_FADING, Expected, Goal, GoalController
from localforge.bandit.running import RunningMean
from localforge.errors import StateError

FORMAT = 3


class _State(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Everything that decides how the controller goes on."""

    format: int
    goal: Goal
    sequence: int
    answers: int
    log_weight: float
    owed: float
    spent_usd: float
    period: tuple[float, float]
    last_at: float
    gap: tuple[float, float]
    bias: tuple[float, float]
    levels: tuple[tuple[str, float, float], ...]
    doubts: tuple[tuple[str, float, float], ...]
    curve: tuple[int, bytes]
    """Requests, and float64 little endian."""
    judged: tuple[tuple[str, float], ...]
    expected: tuple[tuple[str, Expected], ...]
    ids: tuple[int, ...]
    answered: tuple[int, ...]


_states = msgspec.msgpack.Decoder(_State)


def dump_goal(controller: GoalController) -> bytes:
    """Return the controller's state; equal states have equal bytes."""
    state = _State(
        format=FORMAT,
        goal=controller.goal,
        sequence=controller.sequence,
        answers=controller.answers,
        log_weight=controller.log_weight,
        owed=controller.owed,
        spent_usd=controller.spent_usd,
        period=controller.period,
        last_at=controller.last_at,
        gap=_mean(controller.gap),
        bias=_mean(controller.bias),
        levels=tuple((model, *_mean(level)) for model, level in controller.levels.items()),
        doubts=tuple((model, *_mean(doubt)) for model, doubt in controller.doubts.items()),
        curve=(controller.curve.count, controller.curve.means.astype("<f8").tobytes()),
        judged=tuple(controller.judged.items()),
        expected=tuple(controller.expected.items()),
        ids=tuple(controller.ids.array().tolist()),
        answered=tuple(controller.answered.array().tolist()),
    )
    return msgspec.msgpack.encode(state)


def load_goal(data: bytes, goal: Goal) -> GoalController:
    """Return the controller that `dump_goal` wrote.

    Raises:
        StateError: The bytes are damaged, or of another version or goal; fold the stream from its
            beginning instead.
    """
    try:
        state = _states.decode(data)
    except msgspec.DecodeError as exc:
        raise StateError(f"goal state: not readable: {exc}") from exc
    if state.format != FORMAT or state.goal != goal:
        raise StateError(f"goal state: of `{state.goal}` in format {state.format}, not of `{goal}`")
    controller = GoalController(goal)
    controller.sequence = state.sequence
    controller.answers = state.answers
    controller.log_weight = state.log_weight
    controller.owed = state.owed
    controller.spent_usd = state.spent_usd
    controller.period = state.period
    controller.last_at = state.last_at
    controller.gap.weight, controller.gap.mean = state.gap
    controller.bias.weight, controller.bias.mean = state.bias
    for kept, means in ((state.levels, controller.levels), (state.doubts, controller.doubts)):
        for model, weight, mean in kept:
            entry = means[model] = RunningMean(LEVEL_FADING)
            entry.weight, entry.mean = weight, mean
    try:
        controller.curve.restore(*state.curve)
    except ValueError as exc:
        raise StateError(f"goal state: not readable: {exc}") from exc
    controller.judged.update(state.judged)
    controller.expected.update(state.expected)
    controller.ids.restore(state.ids)
    controller.answered.restore(state.answered)
    return controller


def goal_name(goal: Goal) -> str:
    """Return the name that a goal's stored state has."""
    return f"goal-{hashlib.blake2b(str(goal).encode(), digest_size=8).hexdigest()}"


def goal_hash(controller: GoalController) -> str:
    """Return 32 hex digits over the whole state."""
    return hashlib.blake2b(dump_goal(controller), digest_size=16).hexdigest()


def _mean(mean: RunningMean) -> tuple[float, float]:
    return mean.weight, mean.mean
