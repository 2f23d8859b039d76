"""The rooms of the package import only from rooms above them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_lotus"
# Each room may import from its own line and the lines above, but never sideways among methods or commands.
LAYERS = [
    {"version", "rows", "divergences", "membership", "margins", "functional", "metric_files", "sources", "citations"}
    | {"kept_logits", "private_files", "cifar_resnet", "charts"},
    {"columns", "duplicates", "mufac", "splits", "images", "batches", "rounds", "round_batches", "results", "checks"}
    | {"ready_splits", "digests", "manifest", "summary"},
    {"predictions", "methods.base", "methods", "evaluation"},
    {"figures", "row_details", "paper", "report_figures", "report"},
    {"model_card", "verification", "hub", "deletion_requests", "request_history", "request_inbox"},
    {"arguments", "teacher", "run", "round_trainer", "weight_mask", "round_control", "publishing", "trainer"}
    | {"stopping", "comparison", "run_identity", "checkpointing", "sharding"},
    {"cli", "recipe", "training", "benchmark_data", "benchmark"},
]
# Within layer 1 and 2 the order is this one: a room imports only from rooms before it.
ORDER = ["columns", "duplicates", "mufac", "digests", "splits", "images", "batches", "rounds", "round_batches"]
ORDER += ["checks", "ready_splits", "results", "summary", "manifest", "predictions", "methods.base", "methods"]
ORDER += ["evaluation"]


def room_of(module: str) -> str:
    """`hf_lotus.methods.lotus` → `methods`; `hf_lotus.methods.base` → `methods.base`."""
    name = module.removeprefix("hf_lotus").strip(".")
    if name in ("methods.base", ""):
        return name
    return name.split(".")[0]


def layer_of(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            # The stand-alone metrics share files of the top folder, which import each other relatively.
            assert node.level == 1 and path.parent == PACKAGE, f"{path.name} imports relatively"
            found.add(f"hf_lotus.{node.module}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_lotus"):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("hf_lotus"))
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above_it(path):
    module = "hf_lotus." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    room = room_of(module.removesuffix(".__init__"))
    for imported in imports_of(path):
        other = room_of(imported)
        assert layer_of(other) <= layer_of(room), f"{module} climbs to {imported}"
        if room in ORDER and other in ORDER and room != other:
            assert ORDER.index(other) < ORDER.index(room), f"{module} imports {imported}, which stands after it"


@pytest.mark.parametrize("path", sorted((PACKAGE / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_methods_never_import_each_other(path):
    if path.stem != "__init__":
        siblings = {m for m in imports_of(path) if m.startswith("hf_lotus.methods") and m != "hf_lotus.methods.base"}
        # SalUn is a mask over another method; the paper's is the default.
        assert siblings == ({"hf_lotus.methods.random_labels"} if path.stem == "salun" else set())


def test_the_numeric_rooms_and_the_help_do_without_torch():
    rooms = ("divergences", "membership", "margins", "rows", "cli.main")
    source = "import sys, " + ", ".join(f"hf_lotus.{room}" for room in rooms) + "\n"
    source += "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    subprocess.run([sys.executable, "-c", source], check=True)
