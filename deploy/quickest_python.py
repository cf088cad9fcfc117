"""Print the Python to make `.venv` with: of the version that runs this, the quickest that is here.

The same version is often installed twice. One that was built without profile-guided optimisation,
as pyenv builds them unless told otherwise, takes half as much CPU again for plain Python (ADR
0022). Run it with the Python that uv takes; needs `uv` on the PATH and nothing else.
"""

import json
import os
import subprocess
import sys

WANTED = ">=3.11"
CLEARLY = 0.9
"""A Python that takes more than this share of the CPU of uv's own choice is not preferred to it."""
_WORK = """
import time

class Arm:
    def __init__(self, mean):
        self.mean = mean

    def score(self, bonus):
        return self.mean + bonus

def work():
    seen = {}
    for number in range(20_000):
        name = str(number % 97)
        seen[name] = seen.get(name, 0.0) + Arm(number).score(0.5)
    return sum(seen.values())

def timed():
    start = time.process_time()
    work()
    return time.process_time() - start

print(min(timed() for _ in range(7)))
"""


def same_version(own: str) -> list[str]:
    """Return the interpreters of this one's version, this one first.

    Args:
        own: Path of this interpreter.
    """
    command = ["uv", "python", "list", "--only-installed", "--output-format", "json", WANTED]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    found = {os.path.realpath(own): own}
    try:
        for python in json.loads(done.stdout):
            parts = python["version_parts"]
            same = (parts["major"], parts["minor"]) == sys.version_info[:2]
            if same and (python["implementation"], python["variant"]) == ("cpython", "default"):
                found.setdefault(os.path.realpath(python["path"]), python["path"])
    except (ValueError, KeyError, TypeError):
        return [own]  # another uv, with another list
    return list(found.values())


def seconds(python: str) -> float:
    """Return the CPU that an interpreter takes for a fixed piece of work; endless if it fails."""
    command = [python, "-I", "-c", _WORK]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    try:
        return float(done.stdout)
    except ValueError:
        return float("inf")


def choose(pythons: list[str]) -> str:
    """Return the first one, unless another one is clearly quicker."""
    times = {python: seconds(python) for python in pythons}
    first, quickest = pythons[0], min(pythons, key=times.__getitem__)
    return quickest if times[quickest] < CLEARLY * times[first] else first


if __name__ == "__main__":
    sys.stdout.write(choose(same_version(sys.executable)) + "\n")
