"""Read the whole feedback stream of a running system, with a progress bar."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from localforge.cli.connection import with_servers
from localforge.cli.output import errors
from localforge.config import Config

if TYPE_CHECKING:
    from localforge.bus.pull import Pulled


def read_stream(config: Config, doing: str, feed: Callable[[int, str, bytes], None]) -> datetime:
    """Give `feed` the sequence, subject and data of every message, in stream order.

    A decision that is in the stream twice, because its ack was lost, is given once. Facts are given
    as often as they are there: a learner counts those that it does not take.

    Returns:
        When the stream was made.

    Raises:
        DependencyUnavailable: No system runs here, or its broker cannot be read.
    """
    return asyncio.run(_read(with_servers(config), doing, feed))


async def _read(config: Config, doing: str, feed: Callable[[int, str, bytes], None]) -> datetime:
    from localforge.bandit.ids import RecentIds
    from localforge.bus.bus import Bus
    from localforge.bus.provision import made_at
    from localforge.bus.tail import read_all
    from localforge.contracts.subjects import DECISION_PREFIX, FEEDBACK

    bus = Bus(config.nats, "admin")
    await bus.connect()
    decisions = RecentIds()
    try:
        with Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=errors,
            transient=True,
        ) as progress:
            task = progress.add_task(doing, total=None)

            async def take(batch: "list[Pulled]") -> None:
                for message in batch:
                    is_decision = message.subject.startswith(f"{DECISION_PREFIX}.")
                    # By all of it: a record that contradicts the first one must be seen.
                    if not is_decision or decisions.add(message.data.decode(errors="replace")):
                        feed(message.sequence, message.subject, message.data)
                last = batch[-1]
                progress.update(task, completed=last.sequence, total=last.sequence + last.pending)

            await read_all(bus.client, bus.user, FEEDBACK.name, take)
        return await made_at(bus.client, FEEDBACK)
    finally:
        await bus.close()
