"""``python -m tests.system.without_namespaces ARGUMENT…``: python, where no namespace is allowed.

A user namespace has limits of its own (namespaces(7), ``/proc/sys/user``): in one that may make no
further namespaces, the kernel itself refuses, as a hardened host or a container does. Needs root,
and becomes the user nobody.
"""

import os
import sys
from pathlib import Path

from tests.runtime import as_nobody
from watertight.runtime import linux
from watertight.runtime.linux import Namespace

KINDS = ("user", "net", "pid", "ipc", "uts", "cgroup")
"""All but ``mnt``, which ``as_nobody`` still needs; without a user namespace nobody else does."""
EVERYBODY = "0 0 65536\n"


def main() -> None:
    """Does not return."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)  # until our parent is in its new namespace
        parent = os.getppid()
        for file in ("uid_map", "gid_map"):
            Path(f"/proc/{parent}/{file}").write_text(EVERYBODY, encoding="ascii")
        os._exit(0)
    linux.unshare(Namespace.USER)
    os.close(reader)
    os.close(writer)
    if os.waitpid(child, 0)[1]:
        sys.exit("the user namespace could not be given its users")
    for kind in KINDS:
        Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0", encoding="ascii")
    as_nobody.main()


if __name__ == "__main__":
    main()
