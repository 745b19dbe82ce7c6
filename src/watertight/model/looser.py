"""What lies below a guarded path, and is open by a broader route behind it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from watertight.model import codes
from watertight.model.document import quoted
from watertight.model.findings import Severity
from watertight.model.rules import Flaw
from watertight.model.spellings import demands_less
from watertight.model.system import Route
from watertight.model.template_index import TemplateIndex
from watertight.model.templates import parse_template


def looser_behind(routes: Sequence[Route]) -> Iterator[Flaw]:
    """``/admin`` demands a token, and ``/**`` takes ``/admin/users`` without one."""
    takers: dict[str, TemplateIndex[int]] = defaultdict(TemplateIndex)
    for number, route in enumerate(routes):
        for method in route.methods:
            takers[method].add(parse_template(route.path), number)
    for number, guard in enumerate(routes):
        if guard.require is None or guard.path == "/" or guard.path.endswith("/**"):
            continue
        below = parse_template(guard.path).below()
        found = {n for method in guard.methods for n in takers[method].shadowing(below)}
        if not found:
            continue
        first = routes[min(found)]
        order = "later" if min(found) > number else "earlier"
        if first.target == guard.target and demands_less(first.require, guard.require):
            everything = guard.path.rstrip("/") + "/**"
            yield Flaw(
                codes.LOOSER_ROUTE_BEHIND,
                ("gateway", "routes", number, "path"),
                f"What lies below {quoted(guard.path)} is taken by the {order} route "
                f"{quoted(first.path)} (line {first.at.line}), which demands less.",
                f"If it is to be guarded too, add a route for {quoted(everything)} "
                "before that one.",
                Severity.WARNING,
            )
