"""The bill of materials: valid by CycloneDX's own schema, the same for the same record, and about nobody."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

from hf_lotus import ForgetSetRecord, Salt
from hf_lotus.cli.main import main
from hf_lotus.publishing import bom
from hf_lotus.publishing.bom import make_bom, write_bom
from hf_lotus.publishing.digests import file_digest
from hf_lotus.publishing.record import RECORD

needs_cyclonedx = pytest.mark.skipif(
    importlib.util.find_spec("cyclonedx") is None, reason="the extra 'bom' is not installed"
)
SALT = Salt(bytes(range(32)))
WEIGHTS = b"weights"


@pytest.fixture
def record():
    samples = [{"pixel_values": np.full((2, 2), number)} for number in range(5)]
    return replace(
        ForgetSetRecord.of(samples, [0, 1, 1, 0, 2], SALT, selector={"by": "column", "column": "user_id"}),
        task="image-classification",
        dataset={"name": "me/data", "id": "me/data", "config": "default", "split": "train", "revision": "d" * 40,
                 "fingerprint": "f00"},
        base_model={"name": "me/base", "id": "me/base", "revision": "b" * 40, "license": {"license": "apache-2.0"}},
        method={"name": "lotus", "alpha": 2.0},
        requests=["2025-01-02-alice"],
        created="2025-01-02T03:04:05+00:00",
    )  # fmt: skip


@pytest.fixture
def folder(record, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    weights = {"model.safetensors": file_digest(folder / "model.safetensors")}
    replace(record, files=weights).to_json(folder / RECORD)
    return folder


def problems(document):
    """What the schema that the package ships says of a document; its strict one."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))


@needs_cyclonedx
def test_is_valid_and_says_what_the_record_says(folder):
    document = json.loads(write_bom(folder).read_text())
    assert problems(document) is None
    record, model = ForgetSetRecord.from_json(folder / RECORD), document["metadata"]["component"]
    assert (model["type"], model["name"], model["version"]) == ("machine-learning-model", "model", record.digest)
    said = {entry["name"].removeprefix("hf-lotus:"): entry["value"] for entry in model["properties"]}
    assert said == {
        "forgotten:samples": "5",
        "forgotten:merkle-root": record.digests["merkle_root"],
        "forgotten:salt-commitment": SALT.commitment,
        "forgotten:requests": "1",
        "record:digest": record.digest,
        "method": "lotus",
        "status": "finished",
    }
    (weights,) = model["components"]
    assert weights["hashes"] == [{"alg": "SHA-256", "content": record.weights["model.safetensors"]}]
    base, data = sorted(document["components"], key=lambda component: component["bom-ref"])
    assert base["purl"] == f"pkg:huggingface/me/base@{'b' * 40}" == model["pedigree"]["ancestors"][0]["purl"]
    assert base["licenses"] == [{"license": {"name": "apache-2.0"}}]
    assert (data["type"], data["name"], data["version"]) == ("data", "me/data", "d" * 40)
    assert model["modelCard"]["modelParameters"]["task"] == "image-classification"
    depends = {entry["ref"]: entry.get("dependsOn") for entry in document["dependencies"]}
    assert depends["model"] == ["base-model", "dataset"] and depends["base-model"] == ["dataset"]


@needs_cyclonedx
def test_the_schema_would_find_a_mistake(folder):
    document = json.loads(write_bom(folder).read_text())
    document["metadata"]["component"]["modelCard"]["modelParameters"]["certified"] = True
    assert problems(document) is not None


@needs_cyclonedx
def test_identifies_nobody(folder):
    """No sample's digest, class, column or request; no place on the disk."""
    text = write_bom(folder).read_text()
    record = ForgetSetRecord.from_json(folder / RECORD)
    told = [*record.digests["samples"], "alice", "user_id", "2025-01-02-", str(folder.parent), SALT.value.hex()]
    assert not [secret for secret in told if secret in text]


@needs_cyclonedx
def test_is_the_same_for_the_same_record(folder):
    first = write_bom(folder).read_bytes()
    assert write_bom(folder).read_bytes() == first


@needs_cyclonedx
def test_a_record_that_knows_little(record):
    bare = ForgetSetRecord(rows=3, selector={"by": "not recorded"}, digests=None)
    document = make_bom(bare, "bare")
    assert problems(document) is None
    assert "forgotten:merkle-root" not in json.dumps(document)
    assert "timestamp" not in document["metadata"]
    assert make_bom(record, "bare")["metadata"]["timestamp"] == record.created
    assert document["serialNumber"] != make_bom(record, "bare")["serialNumber"]


@needs_cyclonedx
def test_names_that_are_anything(record):
    hostile = {"name": "<img> \x1b[2J é 🦊", "id": None, "revision": None, "license": {"license": "x\n y"}}
    assert problems(make_bom(replace(record, base_model=hostile), "🦊 </script>")) is None


@needs_cyclonedx
def test_the_command(folder, capsys):
    assert main(["bom", str(folder), "--model_name", "me/model"]) == 0
    assert f"The bill of materials is in {folder / 'bom.cdx.json'}." in capsys.readouterr().out
    assert json.loads((folder / "bom.cdx.json").read_text())["metadata"]["component"]["name"] == "me/model"
    (folder / "model.safetensors").write_bytes(b"others")
    assert main(["bom", str(folder)]) == 2
    assert "a bill would be of another model" in capsys.readouterr().err
    (folder / RECORD).unlink()
    assert main(["bom", str(folder)]) == 2


def test_says_what_to_install(folder, monkeypatch):
    monkeypatch.setattr(bom.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install 'hf-lotus\\[bom\\]'"):
        write_bom(folder)
