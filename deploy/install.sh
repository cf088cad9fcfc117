#!/usr/bin/env bash
# Create .venv from requirements.lock; does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/localforge.stamp
wanted=$(cat requirements.lock pyproject.toml | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi
command -v uv >/dev/null || {
  echo "uv is missing: pip install uv rust-just" >&2
  exit 1
}
echo "Installing into .venv; the first time this downloads about 350 MB, the model included."
if [ ! -x .venv/bin/python ]; then
  python=$(uv run --no-project --quiet --python ">=3.11" python deploy/quickest_python.py)
  uv venv --quiet --clear --python "$python" .venv
  echo "It runs on $(.venv/bin/python -V), $python."
fi
uv pip install --python .venv/bin/python --no-deps --require-hashes -r requirements.lock
uv pip install --python .venv/bin/python --no-deps --quiet -e .
echo "$wanted" >"$stamp"
