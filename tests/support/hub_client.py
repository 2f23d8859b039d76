"""This process's Hub client turned to a Hub on this machine, and a small model to push."""

import os
import time
from contextlib import contextmanager

from huggingface_hub import HfApi, constants

from hf_lotus import LoTUS, UnlearningArguments, UnlearningTrainer
from tests.conftest import TINY_MODELS
from tests.support.hub_server import TOKEN, HubServer

NAMES = ["README.md", "config.json", "entropy.png", "forget_set.json", "model.safetensors", "preprocessor_config.json",
         "results.json"]  # fmt: skip


@contextmanager
def local_hub(tmp_path, monkeypatch):
    """The server; the client of this process talks to it, with a token, and does not wait between its attempts."""
    with HubServer() as server:
        for name, value in {"ENDPOINT": server.url, "HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(tmp_path / "hub"),
                            "HF_TOKEN_PATH": str(tmp_path / "token"), "HF_HUB_DISABLE_PROGRESS_BARS": True,
                            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}"
                            }.items():  # fmt: skip
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr("transformers.utils.hub._hf_api", HfApi(endpoint=server.url))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits between its attempts
        yield server


def build(folder, parts, processor, **arguments):
    arguments = {"num_train_epochs": 1, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True} | arguments
    sets = {f"{name}_dataset": parts[name] for name in ("forget", "retain", "unseen")}
    return UnlearningTrainer(
        TINY_MODELS["vit"](), UnlearningArguments(str(folder), **arguments), LoTUS(stop_margin=2.0), **sets,
        eval_dataset=parts["test"], processing_class=processor,
    )  # fmt: skip


def contents(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder) if (folder / name).is_file()}


def repository(hub, name="me/model"):
    return hub.repos.get(("models", name))
