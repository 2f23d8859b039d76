"""Pushing to a Hub on this machine with the real client: all in one commit, or nothing, whatever goes wrong."""

import importlib.util
import os
import re
import shutil
import time
from dataclasses import replace

import pytest
from huggingface_hub import HfApi, ModelCard, snapshot_download
from transformers import AutoModelForImageClassification

from hf_lotus import ForgetSetRecord
from hf_lotus.cli.main import main
from hf_lotus.publishing.bom import write_bom
from hf_lotus.publishing.hub import PublishError, fetch, push
from hf_lotus.publishing.keys import new_key
from hf_lotus.publishing.manifest import PUBLISHED, published_files
from hf_lotus.publishing.record import RECORD
from hf_lotus.publishing.signing import sign
from hf_lotus.publishing.verification import require_whole
from tests.conftest import TINY_MODELS
from tests.support.hub_client import NAMES, build, contents, local_hub, repository
from tests.support.hub_server import CUT, LOST, TOKEN, Fault

# The client's own, of its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
QUICK = {"waits": (0, 0, 0)}
needs_signing = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("model_signing", "cyclonedx")),
    reason="the extras 'signing' and 'bom' are not installed",
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def published(tmp_path_factory, parts, processor):
    """The folder of a model that has unlearned one round, complete, with what must never be uploaded."""
    folder = tmp_path_factory.mktemp("published") / "model"
    trainer = build(folder, parts, processor)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "model.safetensors").write_bytes(b"x")
    for name in ("optimizer.pt", "rng_state.pth", "trainer_state.json", "my.salt", ".env", "notes.txt"):
        (folder / name).write_text("secret")
    return folder


@pytest.fixture
def folder(published, tmp_path):
    shutil.copytree(published, tmp_path / "model")
    return tmp_path / "model"


class TestPush:
    def test_one_commit_with_all_that_belongs_to_the_model_and_nothing_else(self, hub, folder):
        commit = push(folder, "me/model", private=True)
        repo = repository(hub)
        assert [c.message for c in repo.commits] == ["initial commit", "Unlearned model"]
        assert sorted(repo.files) == [".gitattributes", *NAMES] and commit.oid == repo.commits[-1].sha
        assert repo.settings["visibility"] == "private"
        assert [path.name for path in published_files(folder)] == NAMES

    def test_what_was_pushed_loads_and_holds(self, hub, folder):
        push(folder, "me/model")
        model = AutoModelForImageClassification.from_pretrained("me/model")
        assert model.num_parameters() == TINY_MODELS["vit"]().num_parameters()
        assert ModelCard.load("me/model").data.tags == ["machine-unlearning", "lotus", "hf-lotus"]
        for place in (snapshot_download("me/model"), fetch("me/model")):
            assert require_whole(place) == require_whole(folder)

    def test_files_of_an_earlier_model_are_deleted_in_the_same_commit(self, hub, folder):
        api = HfApi()
        api.create_repo("me/model")
        old = {"model-00001-of-00002.safetensors": b"a", "pytorch_model.bin": b"b", "tokenizer.json": b"c",
               "results.json": b"d", "LICENSE": b"e", "checkpoint/model.safetensors": b"f"}  # fmt: skip
        repository(hub).commit("Before", old)
        push(folder, "me/model")
        assert sorted(repository(hub).files) == sorted(["LICENSE", "checkpoint/model.safetensors", *NAMES])
        assert len(repository(hub).commits) == 3

    def test_a_second_push_takes_the_place_of_the_first(self, hub, folder):
        first = push(folder, "me/model")
        assert push(folder, "me/model").oid == first.oid, "nothing has changed"
        os.remove(folder / "entropy.png")
        record = ForgetSetRecord.from_json(folder / RECORD)
        record.listing(folder, **record.card).to_json(folder / RECORD)
        assert main(["card", str(folder)]) == 0
        push(folder, "me/model")
        assert "entropy.png" not in repository(hub).files

    def test_a_folder_that_is_not_whole_is_refused(self, hub, folder):
        (folder / "model.safetensors").write_bytes(b"other")
        with pytest.raises(ValueError, match="is not whole.*model.safetensors is another"):
            push(folder, "me/model")
        assert hub.requests == []

    def test_a_name_that_is_no_repositorys(self, hub, folder):
        with pytest.raises(ValueError, match="Repo id"):
            push(folder, "me/model/extra", **QUICK)
        with pytest.raises(ValueError, match="neither a folder nor the id of a model"):
            fetch(folder / "absent" / "model")

    def test_a_salt_is_no_pattern_of_what_is_published(self):
        assert not any("salt" in pattern or pattern in ("*", "*.*") for pattern in PUBLISHED)


class TestWhatIsPublished:
    def test_what_the_record_does_not_list_stays_here(self, hub, folder):
        for name in ("tokenizer.json", "model-00002-of-00002.safetensors", "modeling_own.py"):
            (folder / name).write_text("{}")
        push(folder, "me/model")
        assert sorted(repository(hub).files) == [".gitattributes", *NAMES]
        assert main(["verify", "me/model"]) == 0

    def test_a_link_is_refused(self, hub, folder, tmp_path):
        """It may point to anything on this machine; here even to the very same content."""
        (folder / "config.json").rename(tmp_path / "elsewhere.json")
        (folder / "config.json").symlink_to(tmp_path / "elsewhere.json")
        with pytest.raises(ValueError, match="is not published: config.json only point elsewhere"):
            push(folder, "me/model")
        assert hub.requests == []

    @needs_signing
    def test_a_signature_of_other_files_is_refused(self, hub, folder, tmp_path):
        for name in ("optimizer.pt", "rng_state.pth"):  # which `sign` refuses beside a model
            os.remove(folder / name)
        new_key(tmp_path / "owner")
        sign(folder, tmp_path / "owner")
        push(folder, "me/model")
        assert main(["verify", "me/model", "--key", str(tmp_path / "owner.pub")]) == 0
        assert main(["card", str(folder), "--license", "mit"]) == 0
        with pytest.raises(ValueError, match="model.sig is of other files: README.md, forget_set.json changed since"):
            push(folder, "me/model")
        sign(folder, tmp_path / "owner")
        push(folder, "me/model")
        write_bom(folder)
        with pytest.raises(ValueError, match="bom.cdx.json came after it. Sign the folder again"):
            push(folder, "me/model")


def test_a_file_that_is_not_downloaded(hub, folder, capsys):
    """Its name is enough: what no record lists fails, also the trainer's work, which has no place in a repository."""
    push(folder, "me/model")
    for name in ("modeling_own.py", "sub/adapter_config.json", "training_args.bin"):
        repository(hub).commit("More", {**repository(hub).files, name: b"x"})
    assert not (fetch("me/model") / "modeling_own.py").exists()
    assert main(["verify", "me/model"]) == 1
    told = "FAILED  there is no other file: modeling_own.py, sub/adapter_config.json, training_args.bin is not in the"
    assert told in capsys.readouterr().out


class TestFaults:
    def unharmed(self, hub, folder, before):
        """Nothing has changed in the folder, and there is no part of the model in the repository."""
        assert contents(folder) == before
        repo = repository(hub)
        assert repo is None or set(repo.files) <= {".gitattributes"}

    def test_no_token(self, hub, folder, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        before = contents(folder)
        with pytest.raises(PublishError, match="there is no token. Log in with `hf auth login`"):
            push(folder, "me/model")
        assert hub.requests == []
        self.unharmed(hub, folder, before)

    def test_a_token_that_the_hub_does_not_accept(self, hub, folder, monkeypatch):
        before, wrong = contents(folder), "hf_" + "wrong" * 7
        with pytest.raises(PublishError, match="401, the Hub does not accept the token") as error:
            push(folder, "me/model", token=wrong, **QUICK)
        assert wrong not in traceback_of(error)
        self.unharmed(hub, folder, before)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (Fault("POST", "/commit/", 403), "403, the token may not write there"),
            (Fault("POST", "/repos/create", 403), "403, the token may not write there"),
            (Fault("POST", "/commit/", 409, times=9), "409, someone else is pushing"),
            (Fault("POST", "/preupload/", 429, times=99), "429, the Hub asks for patience"),
            (Fault("POST", "/commit/", 500, times=99), "500, the Hub had an error of its own"),
            (Fault("PUT", "/lfs/", 503, times=999), "503, the Hub had an error of its own"),
            (Fault("PUT", "/lfs/", CUT, times=999), "the connection to the Hub broke"),
            (Fault("POST", "/commit/", CUT, times=99), "the connection to the Hub broke"),
            (Fault("POST", "/commit/", 418), "418, "),
        ],
    )
    def test_trouble_that_stays_is_told_and_nothing_is_half_published(self, hub, folder, fault, message):
        before = contents(folder)
        hub.faults.append(replace(fault))
        with pytest.raises(PublishError, match=message) as error:
            push(folder, "me/model", **QUICK)
        assert f"{folder} was not pushed to me/model" in str(error.value) and TOKEN not in traceback_of(error)
        self.unharmed(hub, folder, before)

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("POST", "/repos/create", 500),
            Fault("GET", "/api/models/", 502),
            Fault("POST", "/preupload/", 429, times=2, headers={"Retry-After": "3"}),
            Fault("POST", "/objects/batch", 503, times=2),
            Fault("PUT", "/lfs/", 500, times=3),
            Fault("PUT", "/lfs/", CUT, times=3),
            Fault("POST", "/verify", CUT),
            Fault("POST", "/commit/", 409),
            Fault("POST", "/commit/", 429, times=3),
            Fault("POST", "/commit/", 500, times=2),
            Fault("POST", "/commit/", CUT),
            Fault("POST", "/commit/", LOST),
        ],
        ids=lambda fault: f"{fault.method} {fault.path} {fault.what}",
    )
    def test_trouble_that_passes_is_waited_for(self, hub, folder, fault, caplog):
        hub.faults.append(replace(fault))
        push(folder, "me/model", **QUICK)
        repo = repository(hub)
        assert [c.message for c in repo.commits] == ["initial commit", "Unlearned model"], "one commit, once"
        assert sorted(repo.files) == [".gitattributes", *NAMES]
        assert require_whole(fetch("me/model"))
        assert TOKEN not in caplog.text

    def test_the_hubs_own_wish_to_wait_is_heeded(self, hub, folder, monkeypatch):
        waited = []
        monkeypatch.setattr(time, "sleep", waited.append)
        hub.faults.append(Fault("POST", "/commit/", 429, headers={"Retry-After": "7"}))
        push(folder, "me/model", waits=(1,))
        assert waited == [7.0]

    def test_another_push_in_between_is_not_overwritten_blindly(self, hub, folder, monkeypatch):
        """The commit is made on top of the files that were looked at; after another's, they are looked at again."""
        push(folder, "me/model")
        asked, create = [], HfApi.create_commit

        def commit(api, *args, **options):
            if not asked:
                repository(hub).commit("Another's", {**repository(hub).files, "pytorch_model.bin": b"other weights"})
            asked.append(options["parent_commit"])
            return create(api, *args, **options)

        monkeypatch.setattr(HfApi, "create_commit", commit)
        assert main(["card", str(folder), "--license", "mit"]) == 0
        push(folder, "me/model", **QUICK)
        assert len(asked) == 2 and "pytorch_model.bin" not in repository(hub).files

    def test_an_earlier_model_stays_whole_while_a_push_fails(self, hub, folder):
        push(folder, "me/model")
        before = dict(repository(hub).files)
        assert main(["card", str(folder), "--license", "mit"]) == 0
        hub.faults.append(Fault("POST", "/commit/", 500, times=99))
        with pytest.raises(PublishError):
            push(folder, "me/model", **QUICK)
        assert repository(hub).files == before and require_whole(fetch("me/model"))


def traceback_of(error):
    import traceback

    return "".join(traceback.format_exception(error.value))


def test_the_command(hub, folder, capsys, monkeypatch):
    assert main(["push", str(folder), "me/model", "--private", "--commit_message", "Forget u7"]) == 0
    assert repository(hub).commits[-1].message == "Forget u7"
    assert "hf-lotus verify me/model" in capsys.readouterr().out
    hub.faults.append(Fault("POST", "/commit/", 403))
    assert main(["push", str(folder), "me/other"]) == 2
    printed = capsys.readouterr().err
    assert re.search("was not pushed to me/other: 403", printed) and TOKEN not in printed
    assert isinstance(ForgetSetRecord.from_json(folder / RECORD), ForgetSetRecord)
