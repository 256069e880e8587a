# Sourced by the scripts here: a virtual environment with ensgan installed, made once.
# Usage: prepare_environment EXTRAS   (for example: dev)
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${ENSGAN_VENV:-$ROOT/.venv}"

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3.10 python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 15))' \
            2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "ensgan needs Python 3.10 to 3.14: install one, or name it in PYTHON" >&2
    return 2
}

faiss_extra() {
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
        echo gpu
    else
        echo cpu
    fi
}

prepare_environment() {
    local extras="$(faiss_extra)${1:+,$1}" python stamp wanted
    [ -x "$VENV/bin/python" ] || { python="$(find_python)" && "$python" -m venv "$VENV"; }
    stamp="$VENV/.ensgan-$(printf %s "$extras" | tr , -)"
    wanted="$(cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt" | cksum) $ROOT"
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
        echo "installing ensgan[$extras] into $VENV" >&2
        # torch first and by its exact version: a looser request fetches several GB.
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
            -c "$ROOT/constraints.txt" "$(grep '^torch==' "$ROOT/constraints.txt")" >&2
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
            -c "$ROOT/constraints.txt" -e "$ROOT[$extras]" >&2
        printf %s "$wanted" >"$stamp"
    fi
}
