"""Starting a service's program again, as when its code was replaced."""

from watertight.control.plane import ControlPlane
from watertight.errors import ExitCode, WatertightError
from watertight.model.system import GATEWAY


class NoProgram(WatertightError):
    """A workload that has no program of its declaration's."""

    exit_code = ExitCode.MISUSE


async def restart(plane: ControlPlane, service: str) -> None:
    """Ends the program of a service as `down` does, starts it, and returns once it is ready.

    Its pod, its proxy, its identity and its grants stay as they are; what is started is what is in
    force, not what the declaration may say by now. Raises NoSuchWorkload, NoProgram, and
    WatertightError at the service's line if it does not come up: then it is tried again as any
    program is that ends.
    """
    plane.require(service)
    if service == GATEWAY:
        raise NoProgram("The gateway is a proxy: it takes every change while it runs.")
    if service in plane.declared.resources:
        raise NoProgram(
            f"{service} is a server, which `apply` starts again by itself where a change needs it.",
            remedy="`watertight down` and `watertight up` start it again without one.",
        )
    declared = plane.declared.services[service]
    if not declared.run:
        raise NoProgram(f"{service} has no `run`: its program is started by others.")
    async with plane.changing.by(f"restart of {service}"):
        try:
            await plane.apps().restart(plane.declared, declared)
        except WatertightError as error:
            if service in plane.revoked:
                raise _is_revoked(service, error) from error
            raise


def _is_revoked(service: str, error: WatertightError) -> WatertightError:
    """A program that asks for its channels or its SVID does not come up without."""
    return WatertightError(
        f"{error.message} It is revoked: it has no SVID, and no channel to anybody.",
        remedy=f"`watertight restore {service}` trusts it again.",
    )
