"""What a program said last, as an error shows it."""

from pathlib import Path

from watertight.runtime.lastwords import MOST_LINES, last_words, mark


def test_only_what_was_said_since_the_mark(tmp_path: Path) -> None:
    log = tmp_path / "orders.app.log"
    assert (mark(log), last_words(log, 0)) == (0, [])
    log.write_text("of another day\n")
    since = mark(log)
    with log.open("a") as file:
        file.write("one\n\n\x1b[31mtwo\x1b[0m \x07\n")
    assert last_words(log, since) == ["one", "two \N{REPLACEMENT CHARACTER}"]
    log.write_text("new\n")  # it was rotated
    assert last_words(log, since) == ["new"]


NODE = (
    """node:internal/modules/cjs/loader:1143
  throw err;
  ^

Error: Cannot find module 'express'
Require stack:
- /shop/front.js
"""
    + "    at Module._load (node:internal/modules/cjs/loader:985:12)\n" * 1
    + "".join(f"    at step{number} (node:internal:{number})\n" for number in range(9))
    + """ {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/shop/front.js' ]
}

Node.js v20.19.2
"""
)


def test_a_stack_is_not_shown_without_what_went_wrong(tmp_path: Path) -> None:
    log = tmp_path / "front.app.log"
    log.write_text(NODE * 3)
    said = last_words(log, 0)
    assert len(said) == MOST_LINES
    assert said[:2] == ["Error: Cannot find module 'express'", "…"]
    assert said[-1] == "Node.js v20.19.2"
    # Where the end says it, as Python's does, nothing else is looked for.
    log.write_text(
        "Error: first\n" + "  line\n" * 30 + "ModuleNotFoundError: No module named 'x'\n"
    )
    assert last_words(log, 0)[-1] == "ModuleNotFoundError: No module named 'x'"
    assert "…" not in last_words(log, 0)


def test_what_is_said_at_each_start_is_shown_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\n" + "Traceback\n  line\nError: no\n" * 4)
    assert last_words(log, 0) == ["Traceback", "  line", "Error: no"]
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert last_words(log, 0) == [f"line {number}" for number in range(1000 - MOST_LINES, 1000)]
    log.write_bytes(b"x" * 100_000)
    [line] = last_words(log, 0)
    assert set(line) == {"x"}
    assert len(line) < 1000
