"""Each fuzz target for a few seconds, from the same seed each time: what reads foreign bytes."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(path.name for path in HERE.glob("fuzz_*.py"))
# Enough for tens of thousands of inputs each, and little beside the rest of the tests.
SECONDS = 6


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris, the fuzzer, has no release for this Python: pip install '.[fuzz]'",
)
@pytest.mark.parametrize("target", TARGETS)
def test_target(target: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            sys.executable,
            str(HERE / target),
            f"-max_total_time={SECONDS}",
            "-seed=1",
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "Done " in result.stderr


def test_every_target_is_found() -> None:
    assert len(TARGETS) >= 5
