"""What a service's process does without, seen in a process of its own."""

import subprocess
import sys

SERVICES = ("evaluator", "executor", "profiler", "router", "sweeper")
UNUSED = ("aiohttp", "rich", "typer", "uvicorn", "opentelemetry.sdk.metrics")


def loaded(program: str, *modules: str) -> list[str]:
    """Run a program and return which of the modules it has imported."""
    program += f"; import sys; print(*(m for m in {modules!r} if m in sys.modules))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_services_are_loaded_without_what_none_of_them_uses():
    apps = ", ".join(f"localforge.{name}.app" for name in SERVICES)
    program = (
        "from localforge.lean import import_lean; import_lean(); "
        f"import localforge.cli.serving, {apps}"
    )

    assert loaded(program, *UNUSED) == []


def test_an_edge_has_no_durable_work_and_no_numbers():
    program = (
        "from localforge.lean import import_lean; import_lean(); "
        "import localforge.cli.serving, localforge.edge.app"
    )

    assert loaded(program, "faststream", "pydantic", "numpy", "river") == []


def test_an_evaluator_needs_no_registry():
    program = (
        "from localforge.lean import import_lean; import_lean(); "
        "import localforge.cli.serving, localforge.evaluator.app"
    )

    assert loaded(program, "redis", "numpy", "tokenizers") == []


def test_who_runs_all_others_needs_nothing_but_the_standard_library_and_msgspec():
    program = "import localforge.cli.supervisor, localforge.cli.up"

    assert loaded(program, "rich", "typer", "redis", "structlog", "nats", "opentelemetry") == []


def test_an_executor_of_the_local_zone_needs_no_numbers_and_no_keys():
    program = (
        "from localforge.lean import import_lean; import_lean(); "
        "import localforge.cli.serving, localforge.executor.app"
    )

    assert loaded(program, "numpy", "localforge.trust", "tokenizers") == []


def test_what_was_left_out_can_be_imported_afterwards():
    program = (
        "from localforge.lean import import_lean; import_lean(); "
        "import aiohttp, rich, opentelemetry.sdk.metrics"
    )

    assert loaded(program, "aiohttp", "rich") == ["aiohttp", "rich"]


def test_what_is_there_already_stays():
    program = (
        "import rich; from localforge.lean import import_lean; import_lean(); "
        "import structlog.dev; assert structlog.dev.rich is rich"
    )

    assert loaded(program, "rich") == ["rich"]
