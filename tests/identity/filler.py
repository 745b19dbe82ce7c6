"""Fills a disk through a file without a name, and takes every block that comes free at once.

Run as a program of its own (``python filler.py DIRECTORY``); says ``full`` when it is.
"""

import os
import sys
import time
from pathlib import Path

BLOCK = b"x" * 4096


def main(directory: Path) -> None:
    """Never returns."""
    path = directory / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    path.unlink()
    said = False
    while True:
        try:
            os.write(descriptor, BLOCK)
        except OSError:
            if not said:
                print("full", flush=True)
                said = True
            time.sleep(0.001)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
