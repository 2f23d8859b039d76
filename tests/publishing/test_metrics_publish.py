"""`hf-lotus publish-metric` with the real clients against a Hub on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_lotus.cli import publish_metric
from hf_lotus.publishing.spaces import metric_path
from tests.support.hub_server import TOKEN, HubServer

ROOT = Path(__file__).parents[2]
LOAD = """
import evaluate
metric = evaluate.load("someone/rf_jsd")
metric.add_batch(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1], source="forget")
metric.add_batch(predictions=[[0.7, 0.3], [0.2, 0.8]], references=[0, 1], source="unseen")
print(metric.compute()["rf_jsd"])
"""


def run(code: str, hub: HubServer, home: Path, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **hub.environment(home), **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=variables, cwd=home, capture_output=True, text=True, timeout=120)


def publish(arguments: list[str]) -> str:
    return f"import sys; from hf_lotus.cli import publish_metric; sys.exit(publish_metric.run({arguments!r}))"


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


def test_publish_then_load_from_there(hub, tmp_path):
    command = publish(["rf_jsd", "--repo_id", "someone/rf_jsd", "--commit_message", "First"])
    published = run(command, hub, tmp_path)
    assert published.returncode == 0, published.stderr
    assert 'evaluate.load("someone/rf_jsd")' in published.stdout.replace("'", '"')
    assert TOKEN not in published.stdout + published.stderr
    space = hub.repos["spaces", "someone/rf_jsd"]
    assert space.settings["sdk"] == "gradio"
    assert space.commits[-1].message == "First"
    folder = Path(metric_path("rf_jsd"))
    assert {name: data for name, data in space.files.items() if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()
    }

    loaded = run(LOAD, hub, tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    assert float(loaded.stdout) == pytest.approx(0.016214, abs=1e-6)
    assert ("GET", "/spaces/someone/rf_jsd/resolve/main/rf_jsd.py") in hub.requests

    # Publishing again updates the Space that is there.
    again = run(publish(["rf_jsd", "--repo_id", "someone/rf_jsd"]), hub, tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.exhaustive
def test_the_metrics_of_the_audit(hub, tmp_path):
    names = ("klom", "relative_test", "rmia")
    code = "from hf_lotus.cli import publish_metric\n"
    code += "".join(f"publish_metric.run([{name!r}, '--repo_id', 'someone/{name}'])\n" for name in names)
    published = run(code, hub, tmp_path)
    assert published.returncode == 0, published.stderr
    for name in names:
        folder = Path(metric_path(name))
        stored = {file: data for file, data in hub.repos["spaces", f"someone/{name}"].files.items() if file[0] != "."}
        assert stored == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    loaded = run(
        "import evaluate\nprint(*(evaluate.load(f'someone/{name}').name for name in " + repr(names) + "))",
        hub,
        tmp_path,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == list(names)


def test_a_private_space(hub, tmp_path):
    published = run(publish(["jsd", "--repo_id", "someone/jsd", "--private"]), hub, tmp_path)
    assert published.returncode == 0, published.stderr
    assert hub.repos["spaces", "someone/jsd"].settings["visibility"] == "private"


def test_without_a_token_nothing_is_published(hub, tmp_path):
    refused = run(publish(["jsd", "--repo_id", "stranger/jsd"]), hub, tmp_path, HF_TOKEN="")
    assert refused.returncode != 0
    assert "401" in refused.stderr
    assert ("spaces", "stranger/jsd") not in hub.repos


@pytest.mark.parametrize("repo_id", ["someone/other", "rf_jsd", "/rf_jsd", "a/b/rf_jsd"])
def test_a_space_of_another_name_could_not_be_loaded(repo_id):
    with pytest.raises(ValueError, match="--repo_id must be NAMESPACE/rf_jsd"):
        publish_metric.run(["rf_jsd", "--repo_id", repo_id])


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="invalid choice: 'zrf' .choose from 'rf_jsd', .*'klom'"):
        publish_metric.run(["zrf", "--repo_id", "someone/zrf"])
