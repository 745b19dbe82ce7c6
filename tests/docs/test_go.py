"""The Go that the pages show compiles."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.console import REPOSITORY

PGX = "github.com/jackc/pgx/v5"
MODULES = [f"{PGX}@v5.7.5", f"{PGX}@v5.13.0"]
"""From 5.13 on pgx reads the certificate itself, and keeps how to beside its TLS configuration."""

ASKS = """
func main() {
	pool, err := newPool(context.Background())
	if err != nil {
		panic(err)
	}
	pool.Close()
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
@pytest.mark.parametrize("module", MODULES)
def test_the_pool_of_pgx_that_the_page_shows_compiles(module: str, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/how-to/postgresql.md").read_text()
    [shown] = re.findall(r"```go\n(.*?)```", page, re.DOTALL)
    (tmp_path / "main.go").write_text("package main\n\n" + shown + ASKS)
    environment = {**os.environ, "GOFLAGS": "-mod=mod"}
    for command in (["mod", "init", "clinic"], ["get", module], ["vet", "."]):
        done = subprocess.run(
            ["go", *command], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
