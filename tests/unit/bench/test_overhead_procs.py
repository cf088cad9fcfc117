import os
import subprocess
import sys

import pytest

from tests.bench.overhead.procs import Tree, difference, label

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
WAIT = "print('ready', flush=True); import sys; sys.stdin.read()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); " + WAIT


@pytest.fixture(name="start")
def _start():
    children = []

    def start(code: str) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout.readline() == b"ready\n"
        return child

    yield start
    for child in children:
        child.communicate()


def test_the_cpu_of_children_that_have_ended_stays_counted(start):
    parent = start(PARENT)

    # The kernel counts user and system time in ticks of 10 ms, rounded down each.
    assert sum(Tree([parent.pid]).cpu_s().values()) > 0.27


def test_excluded_processes_are_not_in_the_tree(start):
    kept, left_out = start(WAIT), start(WAIT)

    found = Tree([kept.pid, left_out.pid], excluded=[left_out.pid]).processes()

    assert [process.pid for process in found] == [kept.pid]


def test_descendants_are_in_the_tree_once(start):
    child = start(WAIT)

    found = [process.pid for process in Tree([os.getpid(), child.pid]).processes()]

    assert found.count(child.pid) == 1
    assert os.getpid() in found


def test_memory_of_a_process_is_at_least_what_only_it_uses(start):
    memory = Tree([start(WAIT).pid]).memory()

    assert memory.rss_mib > 1
    assert memory.pss_mib is None or memory.pss_mib <= memory.rss_mib


def test_an_ended_root_has_no_processes(start):
    child = start(WAIT)
    child.communicate()

    assert Tree([child.pid]).processes() == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "-m", "localforge.cli.main", "serve", "edge", "router", "--config", "x"],
         "serve edge router"),
        (["/x/python3.11", "-m", "localforge.cli.main", "up"], "localforge.cli.main"),
        (["/usr/bin/node", "/x/build/start-server.js", "--port=1"], "start-server.js"),
        (["/opt/bin/nats-server", "-c", "nats.conf"], "nats-server"),
        ([], "kernel-name"),
    ],
)  # fmt: skip
def test_a_process_is_labelled_by_what_it_serves(command, expected):
    assert label(command, "kernel-name") == expected


def test_a_label_that_is_new_counts_from_zero():
    assert difference({"a": 3.0, "b": 1.0}, {"a": 2.5}) == {"a": 0.5, "b": 1.0}
