"""`hf-lotus request` as a model's owner uses it: requests come in, runs serve them, processes die, models go out."""

import json
import os
import shutil

import pytest

from hf_lotus import ForgetSetRecord, Salt
from hf_lotus.cli.main import main
from hf_lotus.requests.queue import RequestQueue
from tests.conftest import TINY_MODELS
from tests.support.hub_server import Fault, HubServer
from tests.support.warm import WarmCommands

TRAINING = ["--model_name_or_path", "model", "--dataset_name", "data", "--num_train_epochs", "1", "--stop_margin", "2"]
TRAINING += ["--use_cpu", "True", "--disable_tqdm", "True", "--learning_rate", "1e-3", "--save_strategy", "no"]

SAVING = ["--save_strategy", "steps", "--save_steps", "1", "--per_device_train_batch_size", "24"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory, model_and_data):
    """A folder with a tiny ResNet and a data set with users."""
    root = tmp_path_factory.mktemp("owner")
    model_and_data(root)
    return root


@pytest.fixture
def owner(origin, tmp_path, monkeypatch):
    """A copy of that folder, which is also where commands run; and a function that runs `hf-lotus request`."""
    shutil.copytree(origin, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return lambda *words: main(["request", *map(str, words)])


def add(owner, users, name, day="2026-01-01"):
    options = ["--forget_column", "user_id", "--forget_values", *users, "--id", name, "--date", day]
    assert owner("add", *options) == 0


def test_requests_are_served_in_runs_and_measured_in_every_later_one(owner, tmp_path, capsys):
    add(owner, ["u3"], "later", "2026-01-02")
    add(owner, ["u7"], "earlier")
    assert owner("list") == 0
    listed = capsys.readouterr().out.split("| Request")[1]
    assert listed.index("earlier") < listed.index("later") and listed.count(" open ") == 2
    assert "u7" not in listed, "a list is shown to others"
    assert owner("run", *TRAINING) == 0
    add(owner, ["u3", "u9"], "overlapping")
    assert owner("run", *TRAINING) == 0

    queue = RequestQueue("requests")
    first, second = queue.runs()
    assert [list(run.plan["requests"]) for run in (first, second)] == [["earlier", "later"], ["overlapping"]]
    assert first.is_done and second.is_done and not queue.open()
    records = [ForgetSetRecord.from_json(run.model / "forget_set.json") for run in (first, second)]
    assert records[1].previous == records[0].digest and records[0].previous is None
    assert list(records[1].requests) == ["earlier", "later", "overlapping"]
    # What was asked for twice is forgotten once; what was forgotten is retained in no later run.
    samples = {name: m["samples"] for name, m in second.measured["requests"].items()}
    assert records[1].rows == samples["earlier"] + samples["overlapping"] == records[1].results["samples"]["forget"]
    assert records[1].results["samples"]["retain"] == 250 - records[1].rows
    assert records[0].digests["salt_commitment"] == Salt.read("requests/salt").commitment

    table = (tmp_path / "requests" / "history.md").read_text()
    assert table in capsys.readouterr().out + "\n"
    for name, figures in second.measured["requests"].items():
        assert f"| {name} " in table and 0 <= figures["model"]["accuracy"] <= 1
    assert (tmp_path / "requests" / "history.png").stat().st_size > 10_000
    assert "Requests served: earlier, later, overlapping" in (second.model / "README.md").read_text()
    assert not list(tmp_path.rglob("checkpoint-*"))

    # Whoever asked in the first run finds their samples in the last model's record; and it all is measured again.
    options = [
        "--dataset_name",
        "data",
        "--salt_file",
        "requests/salt",
        "--original_model",
        "model",
        "--device",
        "cpu",
    ]
    assert main(["verify", str(second.model), *options]) == 0
    assert "ok      lotus: rf jsd" in capsys.readouterr().out


def test_figures_of_a_request_are_those_of_its_samples(owner, tmp_path):
    """Measured by hand, with the stock pipeline of processor and model."""
    import torch
    from datasets import load_dataset
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    add(owner, ["u3"], "one")
    add(owner, ["u7", "u8"], "two")
    assert owner("run", *TRAINING) == 0
    (run,) = RequestQueue("requests").runs()
    train = load_dataset("data", split="train")
    processor = AutoImageProcessor.from_pretrained("model", backend="pil")
    for which, folder in {"original": "model", "model": run.model}.items():
        model = AutoModelForImageClassification.from_pretrained(folder).eval()
        for name, users in {"one": ["u3"], "two": ["u7", "u8"]}.items():
            rows = train.filter(lambda row, users=users: row["user_id"] in users)
            with torch.no_grad():
                logits = model(**processor(list(rows["image"]), return_tensors="pt")).logits
            expected = (logits.argmax(1) == torch.tensor(rows["label"])).float().mean().item()
            assert run.measured["requests"][name][which]["accuracy"] == pytest.approx(expected)


def test_a_request_that_cannot_be_served_stays_open_and_holds_up_no_other(owner, capsys):
    add(owner, ["nobody"], "unknown")
    assert owner("run", *TRAINING) == 1
    assert "No open request can be served" in capsys.readouterr().out
    add(owner, ["u3"], "known")
    assert owner("run", *TRAINING) == 1
    assert "Request unknown cannot be served and stays open: Column 'user_id' has no row" in capsys.readouterr().err
    queue = RequestQueue("requests")
    assert [request.id for request in queue.open()] == ["unknown"]
    assert list(queue.planned()) == ["known"]


def test_what_was_forgotten_before_needs_no_model(owner, capsys):
    add(owner, ["u3"], "first")
    assert owner("run", *TRAINING) == 0
    add(owner, ["u3"], "again")
    assert owner("run", *TRAINING) == 0
    assert "Run 2: all that was asked for has been forgotten before." in capsys.readouterr().out
    queue = RequestQueue("requests")
    assert not queue.open() and queue.latest().number == 1
    assert owner("run", *TRAINING) == 0
    assert "Nothing is open" in capsys.readouterr().out


def test_samples_that_have_left_the_data_set_are_told_of_by_the_record(owner, tmp_path):
    """Who must forget somebody's images deletes them too: later runs cannot measure them, and still list them."""
    from datasets import load_dataset

    add(owner, ["u3"], "first")
    assert owner("run", *TRAINING) == 0
    train = load_dataset("data", split="train").filter(lambda row: row["user_id"] != "u3")
    train.to_parquet("data/train-00000.parquet")
    add(owner, ["u7"], "second")
    assert owner("run", *TRAINING) == 0
    run = RequestQueue("requests").latest()
    first, second = run.measured["requests"]["first"], run.measured["requests"]["second"]
    assert first == {"samples": 0} and second["samples"] > 0
    record = ForgetSetRecord.from_json(run.model / "forget_set.json")
    assert record.rows > second["samples"] == record.results["samples"]["forget"]
    assert "| first " in (tmp_path / "requests" / "history.md").read_text()


class TestAfterARunWasBrokenOff:
    """In the middle of its training."""

    @pytest.fixture
    def broken(self, owner, monkeypatch):
        from hf_lotus import UnlearningTrainer

        add(owner, ["u3"], "first")
        step, steps = UnlearningTrainer.training_step, []

        def interrupted(*args, **kwargs):
            steps.append(1)
            if len(steps) == 3:
                raise KeyboardInterrupt
            return step(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(UnlearningTrainer, "training_step", interrupted)
            assert owner("run", *TRAINING, *SAVING) == 130
        return owner

    def test_other_options_are_refused_until_its_work_is_deleted(self, broken, capsys, tmp_path):
        assert broken("run", *TRAINING, *SAVING, "--alpha", "8") == 2
        told = capsys.readouterr().err
        assert (
            "is of another run, which differs in: alpha" in told and "begin run 1 anew, delete requests/runs" in told
        )
        shutil.rmtree("requests/runs/0001/model.part")
        assert broken("run", *TRAINING, *SAVING, "--alpha", "8") == 0
        assert RequestQueue("requests").latest().number == 1

    def test_samples_deleted_too_early_are_not_taken_for_forgotten(self, broken, capsys):
        from datasets import load_dataset

        train = load_dataset("data", split="train")
        train.filter(lambda row: row["user_id"] != "u3").to_parquet("data/train-00000.parquet")
        assert broken("run", *TRAINING, *SAVING) == 2
        assert "samples of request first, which run 1 is to forget, are no longer in the data set" in (
            capsys.readouterr().err
        )
        assert RequestQueue("requests").unfinished().number == 1
        train.to_parquet("data/train-00000.parquet")
        assert broken("run", *TRAINING, *SAVING) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "--forget_class", "1", "--forget_rows", "r.txt"], "by exactly one of"),
        (["add"], "got none"),
        (["add", "--forget_column", "user_id"], "go together"),
        (["add", "--forget_class", "1", "--id", "../up"], "A request's id has 1 to 64"),
        (["add", "--forget_class", "1", "--date", "yesterday"], "must be YYYY-MM-DD"),
        (["list", "--queue", "nowhere"], "There is no queue in nowhere"),
        (["run", *TRAINING, "--queue", "nowhere"], "There is no queue in nowhere"),
        (["run", *TRAINING, "--output_dir", "here"], "--output_dir is not for `request run`"),
        (["run", *TRAINING, "--push_to_hub", "True"], "--push_to_hub needs --hub_model_id"),
    ],
)
def test_mistakes(owner, capsys, words, message):
    assert owner(*words) == 2
    assert message in capsys.readouterr().err


def test_an_id_is_given_once(owner, capsys):
    add(owner, ["u3"], "ticket")
    assert owner("add", "--forget_class", "1", "--id", "ticket") == 2
    assert "There is a request ticket in requests already" in capsys.readouterr().err
    assert RequestQueue("requests").open()[0].selector["values"] == ["u3"]


def test_another_original_is_refused(owner, capsys):
    add(owner, ["u3"], "first")
    assert owner("run", *TRAINING) == 0
    other = TINY_MODELS["resnet"]()
    other.classifier[1].bias.data[0] += 1
    other.save_pretrained("model")
    add(owner, ["u7"], "second")
    assert owner("run", *TRAINING) == 2
    assert "is not the model that run 1 of this queue began from" in capsys.readouterr().err


def test_one_run_at_a_time(owner, capsys):
    add(owner, ["u3"], "first")
    with RequestQueue("requests").lock():
        assert owner("run", *TRAINING) == 2
    assert "Another run over requests is at work" in capsys.readouterr().err


@pytest.fixture(scope="module")
def hub():
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="module")
def commands(hub, tmp_path_factory):
    """In processes of their own: the client reads its settings when it is imported."""
    root = tmp_path_factory.mktemp("client")
    variables = {**os.environ, **hub.environment(root / "home"), "HF_DATASETS_CACHE": str(root / "cache")}
    with WarmCommands(variables) as commands:
        yield commands


def test_two_ranks_serve_as_one(owner, commands, tmp_path):
    add(owner, ["u3"], "first")
    add(owner, ["nobody"], "unknown")
    done = commands.run(["request", "run", *TRAINING], tmp_path, ranks=2)
    assert done.returncode == 1, done.stderr[-3000:]
    assert done.stdout.count("MIA member rate of each request") == 1
    assert "Request unknown cannot be served" in done.stderr
    (run,) = RequestQueue("requests").runs()
    assert run.is_done and run.model is not None
    assert json.loads((run.model / "results.json").read_text())["provenance"]["processes"] == 2


class TestWithAHub:
    @pytest.fixture
    def run(self, commands, owner, tmp_path):
        """A function: what `hf-lotus request` prints, where it ends with the status."""

        def run(*words, status=0):
            done = commands.run(["request", *words], tmp_path)
            assert done.returncode == status, done.stderr[-3000:]
            return done.stdout + done.stderr

        return run

    def test_requests_arrive_through_a_private_repository_and_the_model_is_published(self, run, hub):
        inbox = ["--queue_repo", "me/requests"]
        user = ["add", *inbox, "--forget_column", "user_id", "--forget_values"]
        run(*user, "u3", "--id", "one")
        assert "There is a request one in me/requests already" in run(*user, "u4", "--id", "one", status=2)
        assert hub.repos["datasets", "me/requests"].settings["visibility"] == "private"
        assert "| one " in run("list", *inbox)
        push = ["--push_to_hub", "True", "--hub_model_id", "me/resnet"]
        hub.faults.append(Fault("POST", "/commit/", 403))
        assert "was not pushed to me/resnet: 403" in run("run", *inbox, *TRAINING, *push, status=2)
        queue = RequestQueue("requests")
        assert queue.latest().is_done and queue.latest().pushed is None, "served, and not yet published"
        assert "Published:" in run("run", *inbox, *TRAINING, *push)
        assert queue.latest().pushed["repo_id"] == "me/resnet" and len(queue.runs()) == 1
        assert "Published:" not in run("run", *inbox, *TRAINING, *push)
        names = set(hub.repos["models", "me/resnet"].files)
        assert {"model.safetensors", "forget_set.json", "README.md"} <= names
        assert not {name for name in names if "salt" in name or "plan" in name or "measured" in name}

    def test_a_public_repository_takes_no_request(self, run, hub):
        run("add", "--queue_repo", "me/open", "--forget_class", "1", "--id", "one")
        hub.repos["datasets", "me/open"].settings["visibility"] = "public"
        told = run("add", "--queue_repo", "me/open", "--forget_class", "2", status=2)
        assert "me/open is public, and a request may name people" in told
