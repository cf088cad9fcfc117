"""What the router folds from the stream beside the learner: the goal's controller, the spending.

Each has a sequence of its own and takes the same messages as the learner.
"""

from collections.abc import Awaitable, Callable

from localforge.bandit import Fold
from localforge.bandit.budget import STATE_NAME, Spending
from localforge.bandit.goal import Goal, GoalController
from localforge.bandit.goal_state import dump_goal, goal_name, load_goal
from localforge.bus.pull import Pulled
from localforge.config import Config
from localforge.errors import DependencyUnavailable, StateError
from localforge.router.catch_up import Folded
from localforge.router.checkpoints import Checkpoints
from localforge.telemetry import log

_log = log.get("router.companions")


CatchUp = Callable[[Folded], Awaitable[None]]
"""Feeds the stream to something until it is as far as the learner."""


class Companions:
    """The goal's controller and the spending of keys, where the configuration asks for them."""

    def __init__(self) -> None:
        self.goal: GoalController | None = None
        self.spending: Spending | None = None

    async def configure(
        self, config: Config, checkpoints: Checkpoints, fold: Fold, catch_up: CatchUp
    ) -> None:
        """Have what the configuration asks for, as far as the learner has come.

        Raises:
            DependencyUnavailable: The stream cannot be read; what is new is not there, and a goal
                that is to be replaced goes on.
        """
        unavailable: DependencyUnavailable | None = None
        if not any(key.budget_usd for key in config.keys):
            self.spending = None
        elif self.spending is None:
            spending = stored_spending(await checkpoints.read(STATE_NAME), fold.sequence)
            try:
                await catch_up(spending)
                self.spending = spending
            except DependencyUnavailable as exc:
                unavailable = exc  # said at the end: no reason to keep a goal that is gone
        # The goal comes last, with nothing awaited behind it: a goal that was replaced gets no more
        # facts, and no decision may be made under it while the learner goes on.
        goal = Goal.from_config(config.router.goal)
        if goal is None:
            self.goal = None
        elif self.goal is None or self.goal.goal != goal:
            stored = await checkpoints.read(goal_name(goal))
            controller = stored_goal(stored, goal, fold.sequence)
            await catch_up(controller)
            self.goal = controller
            _log.info("goal_kept", goal=str(goal), shadow_price=controller.shadow_price)
        if unavailable:
            raise unavailable

    def apply(self, batch: list[Pulled]) -> None:
        """Take a batch of the stream."""
        for folded in (self.goal, self.spending):
            if folded:
                for message in batch:
                    folded.apply_bytes(message.sequence, message.subject, message.data)

    def dump(self) -> dict[str, bytes]:
        """Return the states by the names they are stored under."""
        states = {}
        if self.goal:
            states[goal_name(self.goal.goal)] = dump_goal(self.goal)
        if self.spending:
            states[STATE_NAME] = self.spending.dump()
        return states


def stored_goal(data: bytes | None, goal: Goal, learned: int) -> GoalController:
    """Return a goal's stored controller, or a fresh one when it cannot be used.

    Args:
        data: What is stored, if anything.
        goal: What is to be kept.
        learned: The learner's stream sequence. A state from beyond it, which another router may
            have stored, knows facts that this router's decisions do not record.
    """
    try:
        controller = load_goal(data, goal) if data else GoalController(goal)
    except StateError as exc:
        _log.warning("goal_state_not_used", reason=exc.message)
        return GoalController(goal)
    if controller.sequence <= learned:
        return controller
    _log.warning(
        "goal_state_not_used", reason=f"it is at {controller.sequence}, the learner at {learned}"
    )
    return GoalController(goal)


def stored_spending(data: bytes | None, learned: int) -> Spending:
    """Return what keys had spent, or nothing when the stored state cannot be used.

    Args:
        data: What is stored, if anything.
        learned: The learner's stream sequence. A state from beyond it may count what a power
            failure has taken from the log, and would not count what has come in its place.
    """
    try:
        spending = Spending.load(data) if data else Spending()
    except StateError as exc:
        _log.warning("spending_not_used", reason=exc.message)
        return Spending()
    if spending.sequence <= learned:
        return spending
    _log.warning(
        "spending_not_used", reason=f"it is at {spending.sequence}, the learner at {learned}"
    )
    return Spending()
