"""Runs what a page of the documentation shows, in the order in which it shows it.

The convention, for those who write pages:

- A fenced block ``console`` holds commands (lines that begin with ``$ ``; a line that ends with a
  backslash goes on in the next) and, below each, lines of what it prints. Every line shown must be
  printed, in this order; ``…`` stands for anything, and lines may be left out.
- A command must succeed; one that ends with ``# exits 1`` must end with that status.
- A command that ends with ``&`` stays running until the page ends, and is then interrupted as by
  Ctrl-C; the lines shown below it are waited for.
- A fenced block whose first line is marked ``file=NAME`` (as in ``yaml file=watertight.yaml``) is
  written to that file.
- The comment ``<!-- project: examples/shop -->`` has the page run in a copy of that folder; without
  it the folder is empty. Blocks in any other language are only shown.
- The port of ``listen: 127.0.0.1:PORT`` is replaced by a free one wherever it stands.
- A system that is still up at the end of the page is stopped.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
DECLARATION = "watertight.yaml"
COMMAND_SECONDS = 500.0
STOP_SECONDS = 30.0
_FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_PROJECT = re.compile(r"<!-- project: (?P<folder>\S+) -->")
_LISTEN = re.compile(r"listen: 127\.0\.0\.1:(\d+)")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Command:
    """One command of a page, the status it must end with, and the lines it must print."""

    line: str
    shown: tuple[str, ...] = ()
    exits: int = 0

    @property
    def stays(self) -> bool:
        """Whether it runs until the end of the page."""
        return self.line.endswith("&")


@dataclass(frozen=True)
class File:
    """A file that a page shows and that the next commands find."""

    name: str
    content: str


@dataclass(frozen=True)
class Page:
    """What a page does, in order."""

    steps: tuple[Command | File, ...]
    project: str | None = None
    """A folder of the repository that the page starts with a copy of."""


class PageIsWrong(AssertionError):
    """A page shows something that does not happen."""


@dataclass
class _Running:
    process: asyncio.subprocess.Process
    output: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


def _commands(body: str) -> Iterator[Command]:
    line, shown = "", list[str]()
    lines = iter([*body.splitlines(), "$ "])
    for text in lines:
        if not text.startswith("$ "):
            shown.append(text)
            continue
        if line:
            exits = re.search(r"\s+# exits (\d+)$", line)
            status = int(exits[1]) if exits else 0
            yield Command(line[: exits.start()] if exits else line, tuple(shown), status)
        line, shown = text[2:], []
        while line.endswith("\\"):
            line = line[:-1].rstrip() + " " + next(lines).strip()


def read_page(text: str) -> Page:
    """The steps of a page of Markdown."""
    steps: list[Command | File] = []
    for fence in _FENCE.finditer(text):
        language, _, rest = fence["info"].partition(" ")
        if rest.startswith("file="):
            steps.append(File(rest.removeprefix("file="), fence["body"]))
        elif language == "console":
            steps.extend(_commands(fence["body"]))
    project = _PROJECT.search(text)
    return Page(tuple(steps), project["folder"] if project else None)


def missing_line(shown: tuple[str, ...], printed: str) -> str | None:
    """The first line that is shown but not printed in this order; None if all are."""
    rest = [" ".join(line.split()) for line in _ANSI.sub("", printed).splitlines()]
    for line in shown:
        parts = (re.escape(part) for part in " ".join(line.split()).split("…"))
        pattern = re.compile(".*".join(parts))
        found = next((n for n, text in enumerate(rest) if pattern.fullmatch(text)), None)
        if found is None:
            return line
        rest = rest[found + 1 :]
    return None


def _environment(home: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return {**kept, "PATH": path, "HOME": str(home), "COLUMNS": "160", "NO_COLOR": "1"}


def _run(command: Command, directory: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", command.line],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode != command.exits:
        raise PageIsWrong(
            f"$ {command.line}\nends with {done.returncode}, not {command.exits}:\n{done.stdout}"
        )
    absent = missing_line(command.shown, done.stdout)
    if absent is not None:
        raise PageIsWrong(f"$ {command.line}\ndoes not print {absent!r}, but:\n{done.stdout}")


async def _read(running: _Running) -> None:
    assert running.process.stdout is not None
    async for line in running.process.stdout:
        async with running.changed:
            running.output.append(line.decode(errors="replace"))
            running.changed.notify_all()
    async with running.changed:
        running.changed.notify_all()


@contextlib.asynccontextmanager
async def _staying(
    command: Command, directory: Path, environment: Mapping[str, str]
) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        # Whoever was started in the background by a shell ignores SIGINT, and so would this.
        *("/usr/bin/env", "--default-signal=INT"),
        *("/bin/bash", "-c", f"exec {command.line.removesuffix('&')}"),
        cwd=directory,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    running = _Running(process)
    reader = asyncio.ensure_future(_read(running))

    def settled() -> bool:
        return missing_line(command.shown, "".join(running.output)) is None or reader.done()

    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMAND_SECONDS), running.changed:
                await running.changed.wait_for(settled)
        absent = missing_line(command.shown, "".join(running.output))
        if absent is not None:
            text = "".join(running.output)
            raise PageIsWrong(f"$ {command.line}\ndoes not print {absent!r}, but:\n{text}")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await reader


def _stop_system(lock: Path) -> None:
    """Ends a system that was left up, as Ctrl-C would; the lock names its process."""
    if not lock.exists():
        return
    with lock.open("r+b") as held:
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.kill(int(lock.read_text()), signal.SIGINT)
                time.sleep(0.1)
    raise PageIsWrong(f"The system whose lock is {lock} does not stop.")


def on_free_ports(page: Page) -> Page:
    """The page with its gateways on other ports, in files and commands alike."""
    texts = [step.content for step in page.steps if isinstance(step, File)]
    if page.project is not None:
        file = REPOSITORY / page.project / DECLARATION
        texts.append(file.read_text())
        # The project's own declaration is the first file of the page, so that it is changed too.
        page = replace(page, steps=(File(DECLARATION, file.read_text()), *page.steps))
    for port in {port for text in texts for port in _LISTEN.findall(text)}:
        other = str(free_port())
        steps = tuple(
            replace(step, content=step.content.replace(port, other))
            if isinstance(step, File)
            else replace(step, line=step.line.replace(port, other))
            for step in page.steps
        )
        page = replace(page, steps=steps)
    return page


async def run_page(page: Page, directory: Path, home: Path) -> None:
    """Does what the page says in ``directory``. Raises PageIsWrong at the first difference."""
    if page.project is not None:
        shutil.copytree(
            REPOSITORY / page.project,
            directory,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(".watertight", "__pycache__", "jwks.json"),
        )
    environment = _environment(home)
    try:
        await _take_steps(on_free_ports(page), directory, environment)
    finally:
        await asyncio.to_thread(_stop_system, directory / ".watertight" / "lock")


async def _take_steps(page: Page, directory: Path, environment: Mapping[str, str]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for step in page.steps:
            if isinstance(step, File):
                file = directory / step.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(step.content)
            elif step.stays:
                await stack.enter_async_context(_staying(step, directory, environment))
            else:
                await asyncio.to_thread(_run, step, directory, environment)
