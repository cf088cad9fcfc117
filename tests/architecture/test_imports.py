"""The layout tells the architecture, and the build fails when the imports say otherwise."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOTS = {name: ROOT / name / "localforge" for name in ("services", "libs", "contracts")}
LINE_BUDGET = 500


def _packages(root: str) -> set[str]:
    return {path.name for path in ROOTS[root].iterdir() if (path / "__init__.py").exists()}


SERVICES, LIBS, CONTRACTS = (_packages(root) for root in ("services", "libs", "contracts"))


def _modules(folder: Path) -> list[Path]:
    """All of a folder, of which there must be some: nothing would break no rule."""
    found = sorted(folder.rglob("*.py"))
    assert found, f"no module in {folder}"
    return found


def _imports(path: Path) -> set[str]:
    """Names of the localforge packages a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "localforge":
                names = [f"localforge.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("localforge.")}
    return found


def test_no_init_hides_the_other_source_roots() -> None:
    assert not [root for root in ROOTS.values() if (root / "__init__.py").exists()]


def test_package_names_are_unique_across_roots() -> None:
    assert all((SERVICES, LIBS, CONTRACTS))
    assert not (SERVICES & LIBS) | (SERVICES & CONTRACTS) | (LIBS & CONTRACTS)


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_imports_no_other_service(service: str) -> None:
    for path in _modules(ROOTS["services"] / service):
        assert not _imports(path) & (SERVICES - {service}), path


def test_libs_below_the_command_line_import_no_service() -> None:
    for path in _modules(ROOTS["libs"]):
        if path.relative_to(ROOTS["libs"]).parts[0] == "cli":
            continue
        assert not _imports(path) & SERVICES, path


def test_contracts_import_only_contracts() -> None:
    for path in _modules(ROOTS["contracts"]):
        assert _imports(path) <= CONTRACTS, path


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("faststream", {"bus"}),
        ("river", {"bandit", "executor"}),
        ("redis", {"registry", "embedded"}),
        ("aiohttp", set()),
        ("httptools", {"edge", "inference", "faults"}),
        ("uvicorn", {"edge"}),
        ("huggingface_hub", {"inference"}),
        ("httpx2", {"inference"}),
    ],
)
def test_a_library_is_imported_only_where_it_is_adapted(library: str, allowed: set[str]) -> None:
    for root in ROOTS.values():
        for path in _modules(root):
            package = path.relative_to(root).parts[0]
            imported = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                for name in (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
            }
            assert library not in imported or package in allowed, path


def test_decisions_and_features_know_neither_bus_nor_registry() -> None:
    for package in ("bandit", "features"):
        for path in _modules(ROOTS["libs"] / package):
            assert not _imports(path) & {"bus", "registry", "hosting"}, path


def test_no_module_is_longer_than_the_budget() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for root in ROOTS.values()
        for path in _modules(root)
        if (lines := len(path.read_text().splitlines())) > LINE_BUDGET
    }

    assert long == {}
