"""What imports what in the package, read from the source; as a program, a picture of it.

python -m tests.support.imports docs/house.svg
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "hf_lotus"
# A folder may import from folders of the lines before its own, and from those of its own line that stand before it.
FLOORS = [
    ["functional", "utils"],
    ["data", "models"],
    ["evaluation", "methods"],
    ["reporting", "publishing"],
    ["trainer"],
    ["benchmark", "requests", "audit"],
    ["cli"],
]
# Rooms that stand on one floor and know nothing of each other.
APART = [{"functional", "utils"}, {"benchmark", "requests", "audit"}]
PLACE = {room: number for number, room in enumerate(room for floor in FLOORS for room in floor)}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def room_of(module: str) -> str:
    """`hf_lotus.methods.lotus` → `methods`."""
    return module.split(".")[1]


def module_of(path: Path) -> str:
    return "hf_lotus." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in FILES}


@cache
def imports_of(path: Path, *, type_checking: bool = True) -> frozenset[str]:
    """The modules of ours that a file imports, anywhere in it; with or without those for type checkers alone."""
    found, skipped = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
    return frozenset(found - {"hf_lotus", "hf_lotus.version"})


def arrows() -> Counter[tuple[str, str]]:
    """(importing room, imported room) → how many modules import from there."""
    return Counter(
        (room_of(name), other)
        for name, path in modules().items()
        for other in {room_of(imported) for imported in imports_of(path)}
        if other != room_of(name)
    )


def draw(file: Path) -> None:
    """The floors, the first at the bottom; an arrow for each room that another imports from, red where it climbs."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "house"  # the same picture for the same imports, to the byte
    from matplotlib import pyplot

    places, sizes = {}, Counter(room_of(name) for name in modules())
    for height, floor in enumerate(FLOORS):
        present = [room for room in floor if sizes[room]]
        for number, room in enumerate(present):
            places[room] = ((number + 1) / (len(present) + 1), height)
    figure, axes = pyplot.subplots(figsize=(9, 9))
    for (upper, lower), count in arrows().items():
        allowed = PLACE[lower] < PLACE[upper] and not any({upper, lower} <= rooms for rooms in APART)
        bend = 0.25 if abs(places[upper][1] - places[lower][1]) != 1 else 0.0
        style = {"arrowstyle": "-|>", "color": "#5b7083" if allowed else "#c62828", "alpha": 0.55}
        style |= {"linewidth": 0.6 + 0.25 * count**0.5, "connectionstyle": f"arc3,rad={bend}"}
        axes.annotate("", places[lower], places[upper], arrowprops={**style, "shrinkA": 22, "shrinkB": 22})
    box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "#263238"}
    for room, (x, y) in places.items():
        axes.text(x, y, f"{room}\n{sizes[room]} modules", ha="center", va="center", bbox=box, fontsize=10)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, len(FLOORS) - 0.4)
    axes.axis("off")
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
