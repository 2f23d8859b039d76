"""The metrics' folders: one source of each formula, and complete Spaces that need nothing of ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hf_lotus.publishing.spaces import SPACES, metric_path

OUTLINE = {"arrays.py", "streaming.py", "tables.py"}
# Metric → what it shares with the package or with other metrics, beside these three.
SHARED = {
    "rf_jsd": {"divergences.py"},
    "jsd": {"divergences.py"},
    "membership_inference": {"membership.py"},
    "klom": {"pooled.py", "confidence.py", "intervals.py", "margin_divergence.py", "pools.py", "roc.py"},
    "relative_test": {"pooled.py", "confidence.py", "mmd.py", "three_samples.py"},
    "rmia": {"pooled.py", "intervals.py", "likelihood_ratios.py", "pools.py", "roc.py"},
}
STAND_ALONE = """
import sys

HIDDEN = {{"torch", "transformers", "accelerate", "hf_lotus", *{hidden!r}}}


class Without:
    '''A finder of modules to which the hidden ones are not installed.'''

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *args):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, *args)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]

import evaluate

for name, call in {calls!r}.items():
    metric = evaluate.load(f"metrics/{{name}}")
    print(name, len(metric.compute(**call)))
assert not HIDDEN & set(sys.modules)
"""
ROWS = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5]]
CALLS = {
    "rf_jsd": {"predictions": ROWS, "references": [0] * 5, "source": ["forget", *["unseen"] * 4]},
    "jsd": {"predictions": ROWS, "references": ROWS[::-1]},
    "membership_inference": {"predictions": ROWS, "source": ["member", *["non_member"] * 3, "forget"]},
    "klom": {"predictions": [1.0, 2.0], "source": ["unlearned", "retrained"], "model": [0, 1]},
    "relative_test": {"predictions": [1.0, 2.0, 3.0], "source": ["unlearned", "original", "reference"]},
    "rmia": {
        "predictions": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "source": ["forget", "unseen", "unseen"] * 2,
        "model": ["target"] * 3 + ["other"] * 3,
    },
}


@pytest.mark.parametrize("name", SPACES)
def test_what_is_shared_is_a_link_to_its_one_source(name):
    folder = Path(metric_path(name))
    assert {path.name for path in folder.glob("*.py")} == {f"{name}.py", "app.py"} | OUTLINE | SHARED[name]
    for path in (folder / shared for shared in OUTLINE | SHARED[name]):
        assert path.is_symlink(), f"{path} is no symbolic link: check out with git's core.symlinks on"
        assert not path.readlink().is_absolute() and path.is_file()


def test_a_checkout_without_links_is_told_of(tmp_path, monkeypatch):
    (tmp_path / "jsd").mkdir()
    (tmp_path / "jsd" / "arrays.py").write_text("../../hf_lotus/functional/arrays.py")
    monkeypatch.setattr("hf_lotus.publishing.spaces._FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="without symbolic links"):
        metric_path("jsd")


@pytest.mark.parametrize("name", SPACES)
def test_a_metric_imports_only_what_its_folder_has(name):
    for path in Path(metric_path(name)).glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"from \.(\w+) import ", line):
                assert (path.parent / f"{match[1]}.py").exists(), f"{path.name} imports {match[1]}"
                # `evaluate` brings along what the script itself names, and does not look further.
                assert f"from .{match[1]} import" in (path.parent / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "hidden"),
    [
        (["rf_jsd", "jsd"], ("sklearn", "scipy")),
        (["membership_inference"], ()),
        (["klom", "relative_test", "rmia"], ("sklearn",)),
    ],
)
def test_they_load_where_only_evaluate_is(names, hidden, tmp_path):
    code = STAND_ALONE.format(hidden=hidden, calls={name: CALLS[name] for name in names})
    root = Path(metric_path("jsd")).parents[1]
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == names


@pytest.mark.parametrize("name", SPACES)
def test_a_folder_is_a_complete_space(name):
    folder = Path(metric_path(name))
    _, header, card = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    header = yaml.safe_load(header)
    assert (header["sdk"], header["app_file"]) == ("gradio", "app.py")
    assert (folder / header["app_file"]).exists()
    assert {"evaluate", "metric"} <= set(header["tags"])
    # The Hub refuses longer ones.
    assert len(header["short_description"]) <= 60
    for heading in ("## Use", "## How to read it", "## When not to use it", "## Citation"):
        assert heading in card
    assert "evaluate" in (folder / "requirements.txt").read_text(encoding="utf-8")


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="no metric 'zrf'. The metrics are rf_jsd, jsd, membership_inference"):
        metric_path("zrf")
