"""What fuzzing found, the smallest input of each kind, so that it stays mended."""

import copy
import json
import shutil

import pytest

from hf_lotus import ForgetSetRecord, UnlearningResult
from hf_lotus.models.loading import load_model, load_processor
from hf_lotus.publishing.verification import check_folder
from hf_lotus.requests.queue import RequestRun
from hf_lotus.requests.retained import Retained
from tests.fuzz.published import publish
from tests.fuzz.targets import MEASURED, RETAINED


@pytest.fixture(scope="module")
def published(tmp_path_factory, processor):
    return publish(tmp_path_factory.mktemp("finds"), processor)


@pytest.fixture
def model(published, tmp_path):
    """A copy of a published model; and a function that changes a JSON file of it."""
    folder = shutil.copytree(published, tmp_path / "model")

    def change(name, edit):
        document = json.loads((folder / name).read_text())
        edit(document)
        (folder / name).write_text(json.dumps(document))

    return folder, change


def failed(folder):
    return [check for check in check_folder(folder)[1] if check.holds is False]


def test_figures_larger_than_any_number_are_refused_when_they_are_read(model):
    folder, change = model
    change("results.json", lambda document: document["models"][0].update(retain_accuracy=10**400))
    with pytest.raises(ValueError, match="is not a result that this version can read: .*too large"):
        UnlearningResult.from_json(folder / "results.json")
    change("forget_set.json", lambda document: document["results"]["models"][0].update(retain_accuracy=10**400))
    with pytest.raises(ValueError, match="results that this version does not understand: .*too large"):
        ForgetSetRecord.from_json(folder / "forget_set.json")
    assert failed(folder)


def test_a_record_whose_results_lack_the_models_row_fails(model):
    folder, change = model
    change("forget_set.json", lambda document: document["results"]["models"].pop())
    assert failed(folder)


def test_a_card_whose_figures_have_no_name_fails(model):
    folder, _ = model
    card = (folder / "README.md").read_text(encoding="utf-8")
    lines = [line for line in card.splitlines() if not line.strip().startswith("name: ")]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    assert failed(folder)


@pytest.mark.parametrize("change", [{"depths": [2**31]}, {"depths": [600, 600]}, {"num_labels": 2**40}])
def test_a_configuration_of_endless_layers_is_refused_before_they_are_built(model, change):
    folder, edit = model
    edit("config.json", lambda document: document.update(change))
    for load in (load_model, load_processor):
        with pytest.raises(ValueError, match=f"its configuration asks for .* of {next(iter(change))}"):
            load(str(folder))


def test_what_a_queue_measured_lies_between_0_and_1(tmp_path):
    run = RequestRun(tmp_path)
    measured = copy.deepcopy(MEASURED)
    measured["models"]["model"]["test"] = 10**400
    (tmp_path / "measured.json").write_text(json.dumps(measured))
    with pytest.raises(ValueError, match="measured.json is not what a run writes: models/model/test"):
        _ = run.measured


def test_an_archive_of_a_later_version_of_zip_is_refused(tmp_path):
    content = bytearray(RETAINED)
    place = content.index(b"PK\x01\x02") + 6
    content[place : place + 2] = (238).to_bytes(2, "little")
    (tmp_path / "retained.npz").write_bytes(content)
    with pytest.raises(ValueError, match="is not what a run has kept of its retained samples"):
        Retained.read(tmp_path / "retained.npz")
