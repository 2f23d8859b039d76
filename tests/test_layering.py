"""The rooms of the package import only from rooms below them, and nothing imports in a circle."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import hf_lotus

PACKAGE = Path(__file__).parents[1] / "hf_lotus"
# A folder may import from folders of the lines above its own, and from the ones of its own line that stand before it.
ORDER = [
    ["functional"],
    ["utils"],
    ["data", "models"],
    ["evaluation", "methods"],
    ["reporting", "publishing"],
    ["trainer"],
    ["benchmark"],
    ["requests"],
    ["audit"],
    ["cli"],
]
# These stand on one floor and know nothing of each other.
APART = [{"functional", "utils"}, {"benchmark", "requests", "audit"}]
PLACE = {room: number for number, room in enumerate(room for floor in ORDER for room in floor)}


def room_of(module: str) -> str:
    """`hf_lotus.methods.lotus` → `methods`."""
    return module.split(".")[1]


def module_of(path: Path) -> str:
    return "hf_lotus." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports_of(path: Path, *, type_checking: bool = True) -> frozenset[str]:
    """The modules of ours that a file imports, anywhere in it."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if not type_checking and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(ast.walk(node))
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            # The stand-alone metrics share files of this room, which import each other relatively.
            assert node.level == 1 and path.parent.name == "functional", f"{path.name} imports relatively"
            found.add(f"hf_lotus.functional.{node.module}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hf_lotus":
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & modules().keys()) or {node.module}
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("hf_lotus."))
    return frozenset(found)


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in FILES}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def test_the_rooms_are_those_of_the_plan_and_nothing_lies_flat():
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES} <= PLACE.keys()
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "version.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below_it(path):
    room = room_of(module_of(path))
    for imported in imports_of(path):
        if imported in ("hf_lotus", "hf_lotus.version"):
            continue
        other = room_of(imported)
        assert PLACE[other] <= PLACE[room], f"{path} climbs to {imported}"
        assert other == room or not any({room, other} <= rooms for rooms in APART), f"{path} knows of {imported}"


def test_no_circles():
    edges = {
        name: {target for target in imports_of(path, type_checking=False) if target in modules() and target != name}
        for name, path in modules().items()
    }
    while free := {name for name, targets in edges.items() if not targets & edges.keys()}:
        edges = {name: targets for name, targets in edges.items() if name not in free}
    assert not edges, f"a circle among {sorted(edges)}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_methods_never_import_each_other(path):
    if path.stem not in ("__init__", "registry", "options"):
        siblings = {m for m in imports_of(path) if m.startswith("hf_lotus.methods")}
        siblings -= {"hf_lotus.methods.base", "hf_lotus.methods.rounds"}
        # A method that holds another names its paper's as the default.
        allowed = {"salun": {"hf_lotus.methods.random_labels"}}
        assert siblings == allowed.get(path.stem, set())


def test_the_numeric_rooms_and_the_help_do_without_torch():
    rooms = ("functional.divergences", "functional.membership", "functional.margins", "functional.arrays", "cli.main")
    source = "import sys, " + ", ".join(f"hf_lotus.{room}" for room in rooms) + "\n"
    source += "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", source], check=True)


def test_editors_see_the_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module.removeprefix("hf_lotus.")
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    assert seen == hf_lotus._WHERE
