"""What a warden does, for the server of a test. BOUNDS is JSON, from :mod:`.host`.

python -m watertight.testing.watching BOUNDS
"""

import json
import os
import sys
import time
from pathlib import Path

from watertight.runtime.memory import MemoryWatch, act_for, hurry


def main() -> None:
    """Tells who takes too much to end, until the server or the test has ended."""
    server, each, every, spared, user = json.loads(sys.argv[1])
    hurry()
    if user:
        act_for(*user)
    watch = MemoryWatch(server, each, every, spared)
    test = os.getppid()
    print("watching", flush=True)
    while Path(f"/proc/{server}").exists() and os.getppid() == test:
        time.sleep(watch.look())
        for line in watch.said:
            print(f"watertight: {line}", file=sys.stderr, flush=True)
        watch.said.clear()


if __name__ == "__main__":
    main()
