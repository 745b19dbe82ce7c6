"""Every bench runs: figures of so short a run say nothing, that there are figures does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import tables, tools
from bench.run import BENCHES, REPOSITORY, Bench


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_it_runs_and_its_table_is_made(bench: Bench, tmp_path: Path) -> None:
    if bench.name == "paths" and tools.find("wrk") is None:
        pytest.skip("wrk is not installed; `make bench` installs it")
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", f"bench.{bench.name}", *bench.quick, "--output", str(file)]
    subprocess.run(command, cwd=REPOSITORY, timeout=280, check=True)
    result: dict[str, Any] = json.loads(file.read_text())
    assert tables.render(bench.name, result).count("\n") > 2
    if bench.name == "paths":
        assert sum(row["errors"] for row in result["rows"]) == 0
