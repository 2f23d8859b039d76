"""The notebook runs from top to bottom, and what is kept of its outputs is small and names no machine."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "unlearn_and_verify.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A copy with the outputs of a run in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    copy = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        NotebookClient(
            copy, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    return copy


def printed(notebook, code):
    """What the cell with this in it printed."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code" and code in cell.source)
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def shown(notebook, kind):
    found = [output.data[kind] for cell in notebook.cells for output in cell.get("outputs", ())
             if kind in output.get("data", {})]  # fmt: skip
    return found


def test_it_unlearns(executed):
    (table,) = shown(executed, "text/markdown")
    rates = {row: float(re.search(rf"\| {row} \|(?: [\d.]+ \|){{2}} ([\d.]+)", table)[1])
             for row in ("original", "lotus", "retrain")}  # fmt: skip
    assert rates["original"] > 0.8  # it knows what it was trained on
    assert abs(rates["lotus"] - rates["retrain"]) < abs(rates["original"] - rates["retrain"])
    assert len(shown(executed, "image/png")) == 1


def test_it_verifies(executed):
    plain = next(cell for cell in executed.cells if cell.source == 'status = main(["verify", folder])')
    assert "All that was checked holds." in "".join(output.text for output in plain.outputs)
    asked = printed(executed, "was_asked_for.png")
    assert "was_asked_for.png: IN the forget set" in asked and "was_not.png: NOT in the forget set" in asked
    tampered = printed(executed, "honest")
    assert (
        "FAILED  the card is the one that the record makes" in tampered
        and "CERTIFIED" in tampered
        and "exit status: 1" in tampered
    )


def test_what_is_kept_of_its_outputs(notebook):
    assert NOTEBOOK.stat().st_size < 250_000
    assert all(len(image) < 200_000 for image in shown(notebook, "image/png"))  # base64 of 150 kB
    assert not re.search(r"/(?:home|root|tmp|work|Users)/", NOTEBOOK.read_text(encoding="utf-8"))
    assert not any(output.get("name") == "stderr" for cell in notebook.cells for output in cell.get("outputs", ()))
