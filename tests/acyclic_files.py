"""A contract for import-linter: no file of some packages is in a circle of imports.

Its own `acyclic_siblings` takes a folder for one thing, so a folder with files above and files
below one outside it counts as a circle. Here files are what may not need each other in a ring.
Imports inside functions and for types only count like any other.
"""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AcyclicFiles(Contract):
    """No chain of imports leads from a file of the packages back to it."""

    type_name = "acyclic_files"

    packages = fields.SetField(subfield=fields.ModuleField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find, for each import, the shortest way back.

        Raises:
            ValueError: a package is not among those that were read.
        """
        circles = set()
        for package in sorted(module.name for module in self.packages):
            if package not in graph.modules:
                raise ValueError(f"packages: {package!r} is none of `root_packages`")
            for importer in {package, *graph.find_descendants(package)}:
                for imported in graph.find_modules_directly_imported_by(importer):
                    back = graph.find_shortest_chain(imported, importer)
                    if back:
                        first = back.index(min(back))
                        circles.add((*back[first:], *back[:first]))
        return ContractCheck(kept=not circles, metadata={"circles": sorted(circles)})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Each circle on a line, every file before what it imports."""
        for circle in check.metadata["circles"]:
            output.print_error(" -> ".join([*circle, circle[0]]))
