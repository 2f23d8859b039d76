"""`hf-lotus prove`: from a picture and the salt to a proof, and from the proof alone to an answer."""

import json

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from PIL import Image as PILImage
from scipy.io import wavfile

from hf_lotus import ForgetSetRecord, Salt
from hf_lotus.cli.main import main
from hf_lotus.cli.sample_files import SAMPLE_FILES
from hf_lotus.publishing.record import RECORD
from hf_lotus.publishing.verification import check_sample


@pytest.fixture
def model(tmp_path):
    """A folder with a record of five pictures, the pictures and the salt beside it."""
    pictures = []
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(tmp_path / f"{number}.png")
        pictures.append(str(tmp_path / f"{number}.png"))
    samples = Dataset.from_dict({"image": pictures[:4]}, features=Features({"image": Image()}))
    folder = tmp_path / "model"
    folder.mkdir()
    salt = Salt.read_or_create(tmp_path / "salt")
    ForgetSetRecord.of(samples, [0, 1, 2, 0], salt).to_json(folder / RECORD)
    Salt.read_or_create(tmp_path / "other")
    return folder


def prove(model, picture="2.png", label=2, salt="salt"):
    place = model.parent
    return main(
        ["prove", str(model), "--image", str(place / picture), "--label", str(label), "--salt_file",
         str(place / salt), "--output", str(place / "proof.json")]
    )  # fmt: skip


def test_a_proof_holds_without_salt_picture_or_other_samples(model, capsys):
    assert prove(model) == 0
    for name in ("salt", *(f"{number}.png" for number in range(5))):
        (model.parent / name).unlink()
    assert main(["prove", str(model), "--check", str(model.parent / "proof.json")]) == 0
    assert "is one of the forgotten samples'" in capsys.readouterr().out


def test_a_forged_proof_does_not(model, capsys):
    prove(model)
    path = model.parent / "proof.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "digest": "ab" * 32}))
    assert main(["prove", str(model), "--check", str(path)]) == 1
    assert "is NOT proven" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"picture": "4.png"}, "is not among the 4 of the record"),
        ({"label": 1}, "is not among the 4 of the record"),
        ({"salt": "other"}, "is not the salt of this record"),
        ({"picture": "absent.png"}, "There is no picture"),
    ],
)
def test_what_cannot_be_proven(model, capsys, given, said):
    assert prove(model, **given) == 2
    assert said in capsys.readouterr().err and not (model.parent / "proof.json").exists()


@pytest.mark.parametrize("kind", ["text", "audio"])
def test_texts_and_clips_are_asked_for_as_pictures_are(tmp_path, capsys, kind):
    """In a file of their own, by `prove` and by `verify`; the record was made of the data set."""
    salt, folder = Salt.read_or_create(tmp_path / "salt"), tmp_path / "model"
    folder.mkdir()
    if kind == "text":
        said = ["one text", "two\r\nlines ", "a third"]
        for number, text in enumerate(said):
            (tmp_path / str(number)).write_bytes(text.encode())
        samples = Dataset.from_dict({"text": said[:2]})
    else:
        waves = [np.random.default_rng(number).integers(-999, 999, 80, dtype=np.int16) for number in range(3)]
        for number, wave in enumerate(waves):
            wavfile.write(tmp_path / str(number), 8000, wave)
        arrays = [{"array": wave / np.float32(32768), "sampling_rate": 8000} for wave in waves[:2]]
        samples = Dataset.from_dict({"audio": arrays})
    ForgetSetRecord.of(samples, [0, 1], salt).to_json(folder / RECORD)
    options = ["--label", "1", "--salt_file", str(tmp_path / "salt"), "--output", str(tmp_path / "proof.json")]
    assert main(["prove", str(folder), f"--{kind}", str(tmp_path / "1"), *options]) == 0
    assert main(["prove", str(folder), "--check", str(tmp_path / "proof.json")]) == 0
    assert main(["prove", str(folder), f"--{kind}", str(tmp_path / "2"), *options]) == 2
    assert main(["prove", str(folder), "--image", str(tmp_path / "1"), *options]) == 2
    said = capsys.readouterr()
    assert "is not among the 2 of the record" in said.err and "digests are not of pictures" in said.err
    record = ForgetSetRecord.from_json(folder / RECORD)
    digests = [SAMPLE_FILES[kind].digest(str(tmp_path / name)) for name in "012"]
    assert [check_sample(record, salt, "it", digest, True).holds for digest in digests] == [True, True, False]


def test_flags_that_do_not_go_together(model, capsys):
    assert main(["prove", str(model), "--image", "x.png"]) == 2
    assert "one of --image, --text and --audio, with --label and --salt_file" in capsys.readouterr().err
    assert main(["prove", str(model), "--check", "proof.json", "--label", "1"]) == 2
    assert "--check needs neither" in capsys.readouterr().err
