"""A contract of our own for import-linter: who may import what, and nothing else.

Its own kinds name what is forbidden, so that a new module is allowed until somebody thinks of it.
"""

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.domain.helpers import module_expressions_to_modules


class OnlyContract(Contract):
    """What lies below ``source_modules`` imports only what lies below ``allowed_modules``.

    Within the root package, directly, and besides its neighbours below the same source. In
    ``allowed_beside``, a name is a module beside the source: ``declaration``.
    """

    type_name = "only"

    source_modules: Any = fields.SetField(subfield=fields.ModuleExpressionField())
    allowed_modules: Any = fields.SetField(subfield=fields.ModuleExpressionField())
    allowed_beside: Any = fields.SetField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002
        """See :class:`importlinter.Contract`."""
        root = self.session_options["root_packages"][0]
        sources = {m.name for m in module_expressions_to_modules(graph, self.source_modules)}
        allowed = {m.name for m in module_expressions_to_modules(graph, self.allowed_modules)}
        beside = self.allowed_beside or set()
        broken = []
        for source in sorted(sources):
            here = source.rpartition(".")[0]
            may = {source, *allowed, *(f"{here}.{name}" for name in beside)}
            for module in sorted({source, *graph.find_descendants(source)}):
                broken += [
                    f"{module} imports {imported}"
                    for imported in sorted(graph.find_modules_directly_imported_by(module))
                    if imported.startswith(f"{root}.") and not _below(imported, may)
                ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """See :class:`importlinter.Contract`."""
        for line in check.metadata["broken"]:
            output.print_error(line)


def _below(module: str, tops: set[str]) -> bool:
    return any(module == top or module.startswith(f"{top}.") for top in tops)
