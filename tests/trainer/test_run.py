"""What a method may ask of its run: accuracies, batches that no number of ranks changes, the range of the inputs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from transformers import ConvNextImageProcessorPil

from hf_lotus.methods import SCRUB, UNSIR, Finetune, LoTUS
from hf_lotus.trainer.run import TrainerRun
from tests.support.method_helpers import class_wise_parts, equal, pixels_of, trained, weights


def on_rank(trainer, rank, ranks, batch_size=32):
    """The run of one rank of several, without the others."""
    args = SimpleNamespace(
        train_batch_size=batch_size, world_size=ranks, process_index=rank, dataloader_num_workers=0,
        disable_tqdm=True, device=torch.device("cpu"),
    )  # fmt: skip
    seen = SimpleNamespace(args=args, splits=trainer.splits, collator=trainer.collator, passes=trainer.passes)
    return TrainerRun(seen, trainer.task, 1)


def shown(run, *splits):
    return [(inputs["pixel_values"], labels) for inputs, labels in run.batches(*splits)]


class TestBatches:
    @pytest.mark.parametrize("splits", [("forget",), ("retain",), ("forget", "retain"), ("retain", "forget")])
    def test_each_image_of_the_splits_comes_once_as_the_processor_makes_it(self, make, parts, processor, splits):
        trainer = make("vit", Finetune(), {"horizontal_flip": True, "crop_padding": 4})
        batches = shown(trainer.run, *splits)
        count = sum(len(parts[name]) for name in splits)
        sizes = [len(labels) for _, labels in batches]
        assert sizes == [len(x) for x, _ in batches] == [32] * (count // 32) + [count % 32]
        given = torch.cat([x for x, _ in batches]).flatten(1)
        expected, labels = zip(*(pixels_of(parts[name], processor) for name in splits), strict=True)
        expected, labels = torch.cat(expected).flatten(1), torch.cat(labels)
        distances = torch.cdist(given.double(), expected.double())
        nearest = distances.argmin(dim=1)
        assert distances.gather(1, nearest[:, None]).max() < 1e-4
        # The scans differ from each other, so that each is found in one place.
        assert sorted(nearest.tolist()) == list(range(count)) != nearest.tolist()
        assert torch.equal(torch.cat([labels for _, labels in batches]), labels[nearest])

    @pytest.mark.parametrize("ranks", [2, 3, 40])
    def test_they_are_the_same_on_any_number_of_ranks(self, make, ranks):
        trainer = make("vit", Finetune())
        whole = shown(on_rank(trainer, 0, 1), "forget", "retain")
        shares = [shown(on_rank(trainer, rank, ranks), "forget", "retain") for rank in range(ranks)]
        assert sum(map(len, shares)) == len(whole) == 8
        for number, (pixels, labels) in enumerate(whole):
            dealt_pixels, dealt_labels = shares[number % ranks][number // ranks]
            assert torch.equal(pixels, dealt_pixels) and torch.equal(labels, dealt_labels)

    def test_their_order_is_shuffled_by_the_seed_alone(self, make):
        runs = []
        for seed in (1, 1, 2):
            torch.manual_seed(len(runs))
            trainer = make("vit", Finetune(), {"seed": seed})
            before = torch.random.get_rng_state()
            runs.append(torch.cat([labels for _, labels in trainer.run.batches("retain")]))
            assert torch.equal(torch.random.get_rng_state(), before)  # what a resumed run counts on
        assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])

    def test_data_that_is_no_images_of_ours_passes_as_it_is(self, make, parts, processor):
        samples = {}
        for name in ("forget", "retain", "unseen"):
            pixels, labels = pixels_of(parts[name], processor)
            samples[f"{name}_dataset"] = [
                {"pixel_values": x, "labels": y} for x, y in zip(pixels, labels, strict=True)
            ]
        own, images = make("vit", Finetune(), **samples, eval_dataset=None).run, make("vit", Finetune()).run
        for (given, given_labels), (pixels, labels) in zip(shown(own, "forget"), shown(images, "forget"), strict=True):
            torch.testing.assert_close(given, pixels)
            assert torch.equal(given_labels, labels)
        torch.testing.assert_close(own.example("forget")["pixel_values"], images.example("forget")["pixel_values"])
        assert own.input_range is None


def test_the_example_is_the_first_batch_in_order_and_only_model_inputs(make, parts, processor):
    run = make("vit").run
    pixels, _ = pixels_of(parts["forget"].select(range(32)), processor)
    example = run.example("forget")
    assert set(example) == {"pixel_values"}
    torch.testing.assert_close(example["pixel_values"], pixels)
    small = make("vit", arguments={"per_device_train_batch_size": 256}).run
    assert len(small.example("forget")["pixel_values"]) == 60


class TestAccuracies:
    def by_hand(self, model, part, processor):
        pixels, labels = pixels_of(part, processor)
        with torch.no_grad():
            return model.eval()(pixels).logits.argmax(dim=1) == labels, labels

    def test_of_the_teacher_with_each_class_weighted_as_in_another_split(self, make, parts, processor):
        trainer = make(trained("resnet", processor), SCRUB())
        right, labels = self.by_hand(trainer.teacher, parts["unseen"], processor)
        forget = torch.tensor(parts["forget"]["label"])
        weighted = [right[labels == label].double().mean() for label in forget.tolist()]
        expected = torch.stack(weighted).mean().item()
        assert trainer.run.teacher_accuracy("unseen") == right.double().mean().item()
        assert trainer.run.teacher_accuracy("unseen", like="forget") == pytest.approx(expected, abs=1e-12)
        assert abs(expected - right.double().mean().item()) > 1e-3  # the test can tell the two

    def test_of_the_teacher_they_are_measured_once_and_of_the_student_each_time(self, make, parts, processor):
        trainer = make(trained("resnet", processor), LoTUS())
        asked = []
        trainer.teacher.register_forward_hook(lambda *_: asked.append(1))
        known = trainer.run.teacher_accuracy("unseen"), trainer.run.student_accuracy("forget")
        first = len(asked)
        assert first > 0 and trainer.run.teacher_accuracy("unseen", like="unseen") == pytest.approx(known[0])
        with torch.no_grad():
            trainer.run.student.classifier[-1].bias += torch.arange(10) * 100.0  # everything is a nine now
        assert trainer.run.teacher_accuracy("unseen") == known[0] and len(asked) == first
        assert trainer.run.student_accuracy("forget") == parts["forget"]["label"].count(9) / 60 != known[1]

    def test_predictions_of_the_teacher_are_those_of_each_sample_in_order(self, make, parts, processor):
        trainer = make(trained("resnet", processor), LoTUS())
        for split in ("forget", "unseen"):
            given = trainer.run.teacher_predictions(split)
            pixels, labels = pixels_of(parts[split], processor)
            with torch.no_grad():
                expected = trainer.teacher(pixels).logits.numpy()
            assert given.labels.tolist() == labels.tolist()
            np.testing.assert_allclose(given.logits, expected, rtol=1e-4, atol=1e-4)
            assert trainer.run.teacher_predictions(split) is given

    def test_the_student_is_left_in_its_mode_with_its_statistics(self, make):
        trainer = make("resnet")
        trainer.model.train()
        before = weights(trainer.model)
        trainer.run.student_accuracy("retain")
        assert trainer.model.training and equal(weights(trainer.model), before)


@pytest.mark.parametrize("processor_type", ["vit", "convnext"])
def test_the_range_of_the_inputs_is_what_the_processor_makes_of_black_and_white(make, processor, processor_type):
    if processor_type == "convnext":  # ImageNet's mean and deviation, which differ from channel to channel
        processor = ConvNextImageProcessorPil(size={"shortest_edge": 16}, crop_pct=0.875)
    run = make("resnet", processing_class=processor).run
    for bound, value in zip(run.input_range, (0, 255), strict=True):
        picture = PILImage.fromarray(np.full((20, 20, 3), value, dtype=np.uint8))
        expected = processor([picture], return_tensors="pt")["pixel_values"][0]
        assert bound.shape == (3, 1, 1)
        torch.testing.assert_close(bound.expand_as(expected), expected, rtol=0, atol=1e-6)


def test_a_run_knows_its_task_and_the_size_of_its_forget_side(make, digits):
    run = make("vit", LoTUS()).run
    assert (run.num_forget, run.class_wise, run.seed) == (60, False, 1)
    assert (run.task.num_labels, run.task.num_retain, run.task.is_batch_norm_model) == (10, 180, False)
    assert run.task.forget_classes == tuple(range(10))
    classes = make("resnet", UNSIR(noise_batch_size=7, noise_batches=3), **class_wise_parts(digits, (3, 8))).run
    assert (classes.num_forget, classes.class_wise) == (2 * 7 * 3, True)
    assert (classes.task.forget_classes, classes.task.is_batch_norm_model) == ((3, 8), True)
    assert make("vit", Finetune()).run.num_forget == 0


def test_sums_over_one_rank_are_the_values(make):
    values = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3)}
    summed = make("vit").run.sum_over_ranks(values)
    assert all(torch.equal(summed[name], value) for name, value in values.items())
