"""The runner of the documentation's commands says no where a page is wrong."""

from pathlib import Path

import pytest

from tests.docs.console import Command, File, PageIsWrong, missing_line, read_page, run_page

PAGE = """
# A page

```yaml file=conf/a.yaml
a: 1
```

```console
$ cat conf/a.yaml
a: 1
$ printf 'one\\ntwo 17 ms\\nthree\\n' | \\
  cat
one
two … ms
$ test -e missing   # exits 1
```

```sh
exit 7   # only shown
```
"""


def test_a_page_is_read_as_it_is_written() -> None:
    assert read_page(PAGE).steps == (
        File("conf/a.yaml", "a: 1\n"),
        Command("cat conf/a.yaml", ("a: 1",)),
        Command("printf 'one\\ntwo 17 ms\\nthree\\n' | cat", ("one", "two … ms")),
        Command("test -e missing", (), 1),
    )
    assert read_page("<!-- project: examples/shop -->").project == "examples/shop"


async def test_a_right_page_runs(tmp_path: Path) -> None:
    await run_page(read_page(PAGE), tmp_path, tmp_path)


async def test_a_page_starts_with_its_project(tmp_path: Path) -> None:
    page = read_page("<!-- project: examples/shop -->\n```console\n$ ls\nwatertight.yaml\n```\n")
    await run_page(page, tmp_path / "p", tmp_path)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("$ echo one\ntwo\n", "does not print 'two'"),
        ("$ echo one; echo two\ntwo\none\n", "does not print 'one'"),
        ("$ false\n", "ends with 1, not 0"),
        ("$ true   # exits 1\n", "ends with 0, not 1"),
        ("$ echo hello &\ngoodbye\n", "does not print 'goodbye'"),
    ],
)
async def test_a_wrong_page_is_refused(block: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(PageIsWrong, match=why):
        await run_page(read_page(f"```console\n{block}```\n"), tmp_path, tmp_path)


async def test_what_stays_running_is_interrupted_at_the_end(tmp_path: Path) -> None:
    script = "trap 'echo stopped > stopped; exit 0' INT; echo ready; while :; do sleep 0.05; done"
    (tmp_path / "server.sh").write_text(script)
    page = read_page("```console\n$ bash server.sh &\nready\n$ test ! -e stopped\n```\n")
    await run_page(page, tmp_path, tmp_path)
    assert (tmp_path / "stopped").read_text() == "stopped\n"


def test_colours_and_spacing_do_not_matter() -> None:
    assert missing_line(("a b",), "\x1b[32ma\x1b[0m    b  \n") is None
