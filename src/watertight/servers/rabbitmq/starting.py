"""What a broker needs before it starts, and whether it may go on once it has."""

from watertight.enforcers.resource import ServerHost, ServerPlan, ServerRefused
from watertight.servers.rabbitmq import guard
from watertight.servers.rabbitmq.control import BrokerRefused
from watertight.servers.rabbitmq.in_force import look, record
from watertight.servers.rabbitmq.locate import COMPILER, COOKIE, plugins_directory
from watertight.servers.rabbitmq.session import until_up
from watertight.servers.rabbitmq.versions import fit


async def build(plan: ServerPlan, host: ServerHost) -> None:
    """Compiles our plugin from the files that stand, and has the broker make a cookie of its own.

    Raises :class:`~watertight.servers.rabbitmq.control.BrokerRefused`.
    """
    sources = host.placement.server_directory(plan.resource)
    built = plugins_directory(plan, host.placement) / guard.DIRECTORY
    cookie = host.placement.server_data(plan.resource) / COOKIE
    script = f'rm -f "$4" && {guard.BUILD}'
    arguments = (COMPILER, str(sources), str(built), str(cookie))
    done = await host.run(("/bin/sh", "-c", script, "sh", *arguments))
    if done.status:
        raise BrokerRefused(
            f"{plan.resource}: the plugin {guard.NAME} does not compile: {done.output[-300:]}"
        )


async def look_at_version(plan: ServerPlan, host: ServerHost) -> None:
    """Writes down how the broker looks that has just been started with the plan's files.

    Raises :class:`~watertight.enforcers.resource.ServerRefused` for a version that lets services
    past their grants.
    """
    await until_up(host)
    state = await look(plan, host)
    if not fit(state.version):
        raise ServerRefused(
            plan.at,
            f"{plan.resource}: RabbitMQ {state.version} cannot be held to routing keys.",
            remedy="Install 3.10 to 3.13, or 4.0.3 or newer.",
        )
    await record(plan, host, state)
