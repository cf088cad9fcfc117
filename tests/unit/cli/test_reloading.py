"""What a changed configuration may change of a running system."""

import msgspec

from localforge.cli.reloading import without_restart
from localforge.config import Config
from localforge.config.sections import EdgeConfig, RouterConfig, UpConfig

replace = msgspec.structs.replace
ASKED = Config(edge=EdgeConfig(port=0))
RUNNING = replace(ASKED, edge=replace(ASKED.edge, port=43210))


def test_what_was_not_changed_is_no_problem():
    assert without_restart(RUNNING, ASKED, ASKED) == (RUNNING, [])


def test_what_is_read_at_the_start_only_is_named_and_kept():
    wanted = replace(
        ASKED, up=UpConfig(together=()), edge=EdgeConfig(port=9), router=RouterConfig(policy="igw")
    )

    taken, problems = without_restart(RUNNING, ASKED, wanted)

    assert taken == replace(RUNNING, router=wanted.router)
    assert [problem.partition(" ")[0] for problem in problems] == ["`edge.port`", "`up.together`"]


def test_single_fields_of_a_section_may_need_a_restart_too():
    wanted = replace(ASKED, router=RouterConfig(policy="igw", checkpoint_every=7))

    taken, problems = without_restart(RUNNING, ASKED, wanted)

    assert taken.router == RouterConfig(policy="igw")
    assert [problem.partition(" ")[0] for problem in problems] == ["`router.checkpoint_every`"]
