"""`hf-lotus unlearn`, `verify` and `card` as a user has them: in a folder, and through a Hub on this machine."""

import json
import os
import shutil

import pytest
from datasets import Dataset
from huggingface_hub import ModelCard
from PIL import Image as PILImage

from hf_lotus import ForgetSetRecord, Salt
from hf_lotus.cli.main import main
from tests.conftest import TINY_MODELS
from tests.support.hub_server import TOKEN, Fault, HubServer
from tests.support.warm import WarmCommands

PEOPLE = ("u3", "u7")


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_and_data):
    """A data set, a model, the folder of that model unlearned, a picture that was forgotten, and one that was not."""
    root = tmp_path_factory.mktemp("verify")
    shuffled = model_and_data(root)
    users = shuffled["user_id"][:250]
    shuffled[users.index("u3")]["image"].save(root / "in.png", compress_level=0)
    shuffled[users.index("u4")]["image"].save(root / "out.png")
    assert main(unlearn(root)) == 0
    return root


def unlearn(root, *options, output="unlearned"):
    given = {"model_name_or_path": root / "model", "dataset_name": root / "data", "output_dir": root / output}
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    flags += ["--forget_column", "user_id", "--forget_values", *PEOPLE, "--num_train_epochs", "1", "--use_cpu", "True"]
    return ["unlearn", *flags, "--disable_tqdm", "True", "--stop_margin", "2", "--save_strategy", "no",
            *map(str, options)]  # fmt: skip


@pytest.fixture
def verify(place, capsys):
    """A function: options → (exit status, what was printed)."""

    def run(*options, folder="unlearned"):
        status = main(["verify", str(place / folder), *map(str, options)])
        return status, capsys.readouterr().out

    return run


def salt(place):
    return place / "unlearned.forget_set.salt"


class TestVerify:
    def test_the_folder_alone(self, verify):
        status, printed = verify()
        assert status == 0 and "FAILED" not in printed
        assert "–       the figures, measured again: needs --dataset_name and --salt_file" in printed
        assert "All that was checked holds." in printed and "not that the record lists all that was asked" in printed

    def test_a_method_that_changes_nothing_has_a_status_of_its_own_and_fails(self, verify, place, capsys):
        dampens_nothing = ["--method", "ssd", "--alpha", "1e30"]
        given = unlearn(place, *dampens_nothing, output="same")
        at = given.index("--stop_margin")
        assert main(given[:at] + given[at + 2 :]) == 3
        told = capsys.readouterr()
        assert "Nothing was unlearned" in told.err and "margin_matching serves a single sample too" in told.err
        assert "- Nothing was unlearned" in told.out  # a note below the table, and so on the card and in the results
        status, printed = verify(folder="same")
        assert status == 1 and "FAILED  unlearning changed the weights" in printed

    def test_everything_again_from_the_data(self, verify, place):
        data = ["--dataset_name", place / "data", "--salt_file", salt(place), "--device", "cpu"]
        status, printed = verify(*data, "--original_model", place / "model")
        assert status == 0, printed
        for line in ("the salt is the record's", "the data set has every forgotten sample: 20 of 250",
                     "the sets are as large as recorded", "lotus: forget accuracy", "lotus: rf jsd z",
                     "original: retrain free gap"):  # fmt: skip
            assert f"ok      {line}" in printed

    def test_without_the_original_what_needs_it_is_left_open(self, verify, place):
        status, printed = verify("--dataset_name", place / "data", "--salt_file", salt(place), "--device", "cpu")
        assert status == 0 and "lotus: rf jsd: recorded as" in printed and "needs original_model" in printed
        assert "ok      lotus: forget accuracy" in printed and "original:" not in printed

    def test_without_the_salt_nothing_is_found(self, verify, place):
        status, printed = verify("--dataset_name", place / "data")
        assert status == 0 and "needs --salt_file, which finds the forgotten samples" in printed

    def test_another_model_in_its_place(self, verify, place, processor):
        from hf_lotus.publishing.manifest import listed_digests
        from hf_lotus.publishing.record import RECORD

        shutil.copytree(place / "unlearned", place / "swapped", dirs_exist_ok=True)
        swapped = TINY_MODELS["resnet"]()
        swapped.classifier[1].bias.data[3] += 9
        swapped.save_pretrained(place / "swapped")
        status, printed = verify(folder="swapped")
        assert (
            status == 1
            and "FAILED  the files are those of the record: config.json is another; model.safetensors is another"
            in printed
        )
        # Someone who also forges the record and the card is found out by the data.
        document = json.loads((place / "swapped" / RECORD).read_text())
        document["files"] = listed_digests(place / "swapped")
        (place / "swapped" / RECORD).write_text(json.dumps(document))
        assert main(["card", str(place / "swapped")]) == 0
        assert verify(folder="swapped")[0] == 0
        data = ["--dataset_name", place / "data", "--salt_file", salt(place), "--device", "cpu"]
        data += ["--original_model", place / "model"]
        status, printed = verify(*data, folder="swapped")
        assert status == 1 and "FAILED  lotus: rf jsd" in printed and "checks FAILED." in printed

    def test_another_data_set(self, verify, place, digits):
        (place / "other").mkdir(exist_ok=True)
        digits.select(range(0, 400, 2)).to_parquet(place / "other" / "train-00000.parquet")
        status, printed = verify("--dataset_name", place / "other", "--salt_file", salt(place))
        assert status == 1 and "FAILED  the data set has every forgotten sample" in printed
        assert "are not in the split 'train'" in printed

    def test_another_salt(self, verify, place):
        other = place / "other.salt"
        Salt.read_or_create(other)
        status, printed = verify("--salt_file", other, "--image", place / "in.png")
        assert status == 1 and "FAILED  the salt is the record's: the record commits to another" in printed
        assert "in.png" not in printed, "with another salt everything would seem to be out"

    def test_pictures(self, verify, place):
        pictures = ["--salt_file", salt(place), "--image", place / "in.png", place / "out.png"]
        status, printed = verify(*pictures)
        assert status == 0
        assert f"{place / 'in.png'}: IN the forget set (class" in printed
        assert f"{place / 'out.png'}: NOT in the forget set" in printed
        assert verify(*pictures[:-1], "--expect", "in")[0] == 0
        assert verify(*pictures[:-1], "--expect", "out")[0] == 1

    def test_a_copy_is_said_to_look_like_a_forgotten_picture(self, verify, place):
        """Scaled up and down again it is another sample: not in, and said to look like one, which proves nothing."""
        picture = PILImage.open(place / "in.png")
        picture.resize((32, 32), PILImage.Resampling.BICUBIC).save(place / "copy.png")
        data = ["--dataset_name", place / "data", "--salt_file", salt(place), "--device", "cpu"]
        status, printed = verify(*data, "--image", place / "copy.png", "--expect", "out")
        assert (
            status == 0 and f"ok      {place / 'copy.png'}: NOT in the forget set, as the record lists it" in printed
        )
        assert f"–       {place / 'copy.png'}, beside the forgotten pictures: looks like" in printed

    def test_the_owners_record_compares_in_full(self, verify, place, tmp_path):
        owners = place / "unlearned.forget_set.owner.json"
        data = ["--dataset_name", place / "data", "--salt_file", salt(place), "--device", "cpu"]
        data += ["--original_model", place / "model"]
        status, printed = verify(*data, "--owners_record", owners)
        assert status == 0 and "ok      the record is what may be told of its owner's" in printed
        full = json.loads(owners.read_text())["record"]
        told = next(model["retain_accuracy"] for model in full["results"]["models"] if model["name"] == "lotus")
        assert f"ok      lotus: retain accuracy: {told:.4f}, recorded {told:.4f}" in printed
        (tmp_path / "other.json").write_text(owners.read_text().replace('"rows": 20', '"rows": 21'))
        assert main(["verify", str(place / "unlearned"), "--owners_record", str(tmp_path / "other.json")]) == 2

    def test_what_is_published_has_no_full_figures(self, place):
        """No accuracy over 20 samples has more than one decimal, in whatever file; the owner's has them."""
        published = "".join(
            path.read_text() for path in (place / "unlearned").iterdir() if path.suffix in (".json", ".md")
        )
        full = json.loads((place / "unlearned.forget_set.owner.json").read_text())
        for model in full["record"]["results"]["models"]:
            for name in ("retain_accuracy", "rf_jsd", "jsd", "unseen_accuracy", "mia_member_rate"):
                if model.get(name) and len(str(model[name])) > 8:
                    assert str(model[name])[:7] not in published, name
        assert full["record"]["class_histogram"] and '"class_histogram": null' in published

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--image", "in.png"], "--image, --text and --audio need --salt_file"),
            (["--expect", "in"], "--expect needs one of them"),
            (["--salt_file", "nowhere"], "nowhere"),
            (["--salt_file", __file__], "is not a salt"),
        ],
    )
    def test_errors(self, place, capsys, options, message):
        assert main(["verify", str(place / "unlearned"), *options]) == 2
        assert message in capsys.readouterr().err

    def test_a_folder_without_a_record(self, place, capsys):
        assert main(["verify", str(place / "model")]) == 1
        assert "FAILED  there is a record" in capsys.readouterr().out
        assert main(["verify", str(place / "no where")]) == 2
        assert "neither a folder nor the id of a model" in capsys.readouterr().err


class TestUnlearn:
    def test_the_people_are_in_no_file(self, place):
        for path in (place / "unlearned").iterdir():
            if path.suffix in (".json", ".md"):
                words = set(path.read_text(encoding="utf-8").replace('"', " ").split())
                assert not words & {*PEOPLE, "split_digest"}, path

    def test_open_rows_and_a_salt_in_another_place(self, place, capsys):
        options = ["--record_rows", "True", "--no_record_classes", "--salt_file", place / "keep" / "salt"]
        assert main(unlearn(place, *options, output="open")) == 0
        record = ForgetSetRecord.from_json(place / "open" / "forget_set.json")
        train = Dataset.from_parquet(str(place / "data" / "train-00000.parquet"), cache_dir=str(place / "cache"))
        assert set(train.select(record.row_numbers)["user_id"]) == set(PEOPLE) and record.class_histogram is None
        assert (
            not (place / "open.forget_set.salt").exists() and str(place / "keep" / "salt") in capsys.readouterr().out
        )
        # Open rows need no salt.
        data = ["--dataset_name", str(place / "data"), "--device", "cpu"]
        assert main(["verify", str(place / "open"), *data]) == 0
        assert "20 of 250" in capsys.readouterr().out
        picture = ["--salt_file", str(place / "keep" / "salt"), "--image", str(place / "in.png"), "--expect", "in"]
        assert main(["verify", str(place / "open"), *picture]) == 0

    def test_duplicates_that_were_moved_are_found_again(self, place, digits, capsys):
        data = place / "twins"
        data.mkdir()
        digits.select([*range(200), 0, 1, 2]).to_parquet(data / "train-00000.parquet")
        digits.select([*range(200, 400), 3]).to_parquet(data / "test-00000.parquet")
        (place / "rows.txt").write_text("\n".join(map(str, range(10))))
        for how, rows in {"move": 13, "drop": 10}.items():
            argv = unlearn(place, "--dataset_name", data, "--duplicates", how, output=how)
            at = argv.index("--forget_column")
            argv[at : at + 5] = ["--forget_rows", str(place / "rows.txt")]
            assert main(argv) == 0
            again = [
                "--dataset_name",
                str(data),
                "--salt_file",
                str(place / f"{how}.forget_set.salt"),
                "--device",
                "cpu",
            ]
            assert main(["verify", str(place / how), *again]) == 0
            assert f"{rows} of 203" in capsys.readouterr().out


class TestCard:
    def test_is_written_anew_with_what_is_asked(self, place, capsys):
        shutil.copytree(place / "unlearned", place / "card", dirs_exist_ok=True)
        (place / "card" / "README.md").unlink()
        options = ["--license", "mit", "--language", "en", "--tags", "a", "b", "--model_name", "mine"]
        assert main(["card", str(place / "card"), *options]) == 0
        data = ModelCard.load(place / "card" / "README.md").data
        assert (data.license, data.language, data.model_name, data.tags[-2:]) == ("mit", "en", "mine", ["a", "b"])
        assert main(["verify", str(place / "card")]) == 0

    def test_of_results_without_a_record(self, place, tmp_path):
        shutil.copy(place / "unlearned" / "results.json", tmp_path)
        assert main(["card", str(tmp_path)]) == 0
        assert "unlearned with lotus" in (tmp_path / "README.md").read_text(encoding="utf-8")

    def test_not_of_other_weights_nor_of_nothing(self, place, tmp_path, capsys):
        assert main(["card", str(tmp_path)]) == 2
        assert "neither forget_set.json nor results.json" in capsys.readouterr().err
        shutil.copy(place / "unlearned" / "forget_set.json", tmp_path)
        assert main(["card", str(tmp_path)]) == 2
        assert "a card would tell of another model" in capsys.readouterr().err


def test_the_whole_way_through_a_hub(place, tmp_path):
    """Unlearn with --push_to_hub on two ranks, verify by id; a refused push shows no token even in its traceback."""
    with HubServer() as hub, WarmCommands({**os.environ, **hub.environment(tmp_path / "home")}) as commands:

        def run(*words, status=0, **more):
            done = commands.run(words, place, **more)
            assert done.returncode == status, done.stderr[-3000:]
            assert TOKEN not in done.stdout + done.stderr
            return done.stdout + done.stderr

        # A token on the command line is in no file either.
        options = ["--push_to_hub", "True", "--hub_model_id", "me/digits", "--hub_token", TOKEN]
        options += ["--save_strategy", "epoch"]
        printed = run(*unlearn(place, *options, output="pushed"), ranks=2)
        assert printed.count("| original") == 1
        messages = [commit.message for commit in hub.repos["models", "me/digits"].commits]
        assert messages == ["initial commit", "Unlearning in progress, step 1", "End of unlearning"]
        files = hub.repos["models", "me/digits"].files
        assert TOKEN.encode() not in b"".join(files.values())
        assert (place / "pushed.forget_set.salt").read_bytes().strip() not in b"".join(files.values())
        options = ["--dataset_name", "data", "--salt_file", "pushed.forget_set.salt", "--original_model", "model"]
        assert "All that was checked holds." in run("verify", "me/digits", *options, "--device", "cpu")
        hub.faults.append(Fault("POST", "/commit/", 403))
        told = run("push", "unlearned", "me/other", status=1, HF_LOTUS_DEBUG="1")
        assert "Traceback" in told and "was not pushed to me/other: 403, the token may not write there" in told
