"""Where pods begin: one process a control process, of which each pod's init is a fork.

``python -I -m watertight.runtime.nursery RUN_DIRECTORY …``, its stdin a socket of packets. Each
packet is the directory of one pod, with the descriptor on which to say how it went
(:mod:`watertight.runtime.pod`). What the interpreter and its modules take of memory and of time is
paid once then, and shared by all inits and wardens. It knows no secret: it has nothing but what
the packets say. It ends with the control process; pods do not end with it.
"""

import codecs
import gc
import os
import signal
import socket
import sys

from watertight.runtime import linux, pod

_PACKET_BYTES = 8192


def serve(requests: socket.socket) -> None:
    """Forks a pod for each request, until nobody can make one any more."""
    while True:
        packet, descriptors, _, _ = socket.recv_fds(requests, _PACKET_BYTES, 1)
        if not packet:
            return
        try:
            if not os.fork():
                pod.run_and_exit(os.fsdecode(packet), *descriptors)
        except OSError as error:
            pod.tell(descriptors[0], {"error": f"cannot fork: {error.strerror}"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def main() -> None:
    """Its children end unseen: whoever must know waits for their pidfds."""
    linux.adopt_orphans()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    codecs.lookup("ascii")  # else each fork imports it for itself
    gc.collect()
    gc.freeze()  # what was imported is never collected, so its pages stay shared
    serve(socket.socket(fileno=os.dup(0)))


if __name__ == "__main__":
    main()
    sys.exit(0)
