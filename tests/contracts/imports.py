"""Which module imports what, read from the source without running it."""

import ast
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "sadist_jax"


@dataclasses.dataclass(frozen=True)
class Import:
    """`importer` imports `target` (dotted names) in `line`; `at_start`: run on import, so outside functions."""

    importer: str
    target: str
    line: int
    at_start: bool

    @property
    def room(self) -> str:
        """First name below the package: `losses` for sadist_jax.losses.distill, `` for sadist_jax itself."""
        return room_of(self.importer)

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.target}"


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def read_package(root: Path) -> dict[str, str]:
    """{dotted module name: source} of every Python file below `root`; a package is called by its folder."""
    sources = {}
    for file in sorted(root.rglob("*.py")):
        parts = [root.name, *file.relative_to(root).with_suffix("").parts]
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text(encoding="utf-8")
    return sources


def imports(sources: Mapping[str, str]) -> list[Import]:
    """All imports, those inside functions too. `from sadist_jax import tree` counts as sadist_jax.tree."""
    found = []
    for module, source in sources.items():
        is_package = any(other.startswith(f"{module}.") for other in sources)
        for node, at_start in _walk(ast.parse(source), True):
            for target in _targets(node, module, is_package, sources):
                found.append(Import(module, target, node.lineno, at_start))
    return found


def _walk(node: ast.AST, at_start: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_start
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_types(child)
        yield from _walk(child, at_start and not inside)


def _is_for_types(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:` is read by type checkers and never run."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _targets(node: ast.Import | ast.ImportFrom, module: str, is_package: bool, sources: Mapping[str, str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    base = node.module or ""
    if node.level:
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parts, base] if base else parts)
    return [f"{base}.{name.name}" if _is_module(f"{base}.{name.name}", sources) else base for name in node.names]


def _is_module(name: str, sources: Mapping[str, str]) -> bool:
    """Ours is looked up; of the others only flax.nnx matters, which is imported as `from flax import nnx`."""
    return name in sources or name == "flax.nnx"
