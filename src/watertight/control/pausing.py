"""While a program is stopped and started again its callers wait: nothing is sent into its end.

A program that stops listening resets the connections that wait to be accepted, and nobody can tell
whether it had read them. So its proxy first says of what is new that the program has not seen it,
which callers' proxies repeat (docs/adr/0034), and what it has begun is given time to finish.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from watertight.dataplane.admin import stats
from watertight.dataplane.apply import Deployment
from watertight.errors import WatertightError
from watertight.model.placement import Placement

log = structlog.get_logger(__name__)

FINISH_SECONDS = 3.0
"""For what the program is answering. Then it is asked to end, and has some seconds more."""
POLL_SECONDS = 0.05
ACTIVE = r"^cluster\.app(\|alone)?\.upstream_rq_active$"
"""Requests, not WebSockets, which may live for long."""


@asynccontextmanager
async def paused(deployment: Deployment, placement: Placement, service: str) -> AsyncIterator[None]:
    """The program of ``service`` gets no new request meanwhile, as far as its proxy can be told."""
    try:
        try:
            await deployment.pause(service)
            await _finished(placement, service)
        except WatertightError as error:
            log.warning("not_paused", workload=service, reason=str(error))
        yield
    finally:
        try:
            await deployment.resume(service)
        except WatertightError as error:
            log.warning("not_resumed", workload=service, reason=str(error))


async def _finished(placement: Placement, service: str) -> None:
    deadline = time.monotonic() + FINISH_SECONDS
    while sum((await stats(placement.admin_socket(service), ACTIVE)).values()):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(POLL_SECONDS)
