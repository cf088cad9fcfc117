"""The cores that a process can really have."""

import os
from pathlib import Path

import pytest

from localforge.lean.cores import available_cores

AFFINITY = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", AFFINITY),
        ("100000 100000", 1),
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("99900000 100000", AFFINITY),
        ("nonsense", AFFINITY),
    ],
)
def test_a_quota_of_cgroup_version_2_bounds_the_affinity(
    tmp_path: Path, cpu_max: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)

    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", AFFINITY), ("100000", 1)])
def test_a_quota_of_cgroup_version_1_bounds_the_affinity(
    tmp_path: Path, quota: str, cores: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")

    assert available_cores(tmp_path) == cores


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == AFFINITY
