"""The rooms of the package import only from rooms below them, and nothing imports in a circle."""

import ast
import subprocess
import sys

import pytest

import hf_lotus
from tests.support.imports import APART, FILES, PACKAGE, PLACE, draw, imports_of, module_of, modules, room_of


def test_the_rooms_are_those_of_the_plan_and_nothing_lies_flat():
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES} <= PLACE.keys()
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "version.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_below_it(path):
    room = room_of(module_of(path))
    for imported in imports_of(path):
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
        # A method that holds another names one as the default.
        allowed = {
            "rum": {"hf_lotus.methods.finetune", "hf_lotus.methods.part", "hf_lotus.methods.salun"},
            "salun": {"hf_lotus.methods.random_labels"},
            "warm_restart": {"hf_lotus.methods.margin_matching"},
        }
        assert siblings == allowed.get(path.stem, set())


def test_the_numeric_rooms_and_the_help_do_without_torch():
    rooms = ("functional.divergences", "functional.membership", "functional.margins", "functional.arrays", "cli.main")
    rooms += ("functional.memorisation", "functional.confusion")
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


def test_the_picture_has_no_arrow_that_climbs(tmp_path):
    draw(tmp_path / "house.svg")
    picture = (tmp_path / "house.svg").read_text()
    assert "#5b7083" in picture and "#c62828" not in picture
