"""How many cores this process can really have: its affinity, bounded by its cgroup's CPU quota."""

import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cores(root: Path = CGROUP_ROOT) -> int:
    """Return the number of cores, at least 1; a quota of 1.5 cores counts as 1."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota(root)
    return max(1, min(cores, int(quota))) if quota else cores


def _quota(root: Path) -> float:
    """Return the cgroup's quota in cores, version 2 or 1; 0 means none."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        except OSError:
            return 0.0
    try:
        return max(0.0, float(limit) / float(period))
    except (ValueError, ZeroDivisionError):
        return 0.0  # `max` means no quota
