"""A download that is cut off, a login page in the Hub's place: one line, status 2, and nothing left behind."""

import os

import pytest

from tests.support.bad_materials import Materials
from tests.support.hub_repos import CUT, LOGIN, Fault, Repo
from tests.support.hub_server import HubServer
from tests.support.warm import WarmCommands

OPTIONS = ["--output_dir", "out", "--use_cpu", "True", "--disable_tqdm", "True", "--num_train_epochs", "1"]


@pytest.fixture(scope="module")
def materials(tmp_path_factory, processor):
    return Materials(tmp_path_factory.mktemp("materials"), processor)


@pytest.fixture(scope="module")
def hub(materials):
    with HubServer() as server:
        repo = server.repos["models", "someone/model"] = Repo("models", "someone/model", {"visibility": "public"})
        repo.commit("a model", {path.name: path.read_bytes() for path in materials.model.iterdir()})
        yield server


@pytest.fixture(scope="module")
def commands(hub, tmp_path_factory):
    variables = hub.environment(tmp_path_factory.mktemp("home"))
    with WarmCommands({**os.environ, **variables, "HF_HUB_OFFLINE": "0"}) as commands:
        yield commands


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault(method, "", LOGIN, times=50) for method in ("GET", "HEAD")], id="a login page"),
        pytest.param([Fault("GET", r"/resolve/.*safetensors", CUT, times=50)], id="a download that is cut off"),
    ],
)
def test_the_model_cannot_be_loaded_says_one_line(hub, commands, materials, tmp_path, faults):
    hub.faults[:] = faults
    words = ["unlearn", "--model_name_or_path", "someone/model", "--dataset_name", materials.data]
    done = commands.run([*words, "--forget_rows", materials.rows, *OPTIONS], tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("hf-lotus")]
    assert "The model 'someone/model' cannot be loaded" in line
