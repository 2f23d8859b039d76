"""Images are decoded once, and the pixels that reach the model are the processor's own."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from PIL import Image as PILImage
from torch.utils.data import DataLoader
from transformers import (
    BitImageProcessorPil,
    ConvNextImageProcessorPil,
    DeiTImageProcessorPil,
    EfficientNetImageProcessorPil,
    ViTImageProcessorPil,
)

from hf_lotus.data import images
from hf_lotus.data.images import Augmentation, PixelPipeline, ReadyImages
from hf_lotus.data.prepared import ready

SQUARE = {"height": 16, "width": 16}
SPLITTABLE = {
    "vit": ViTImageProcessorPil(size=SQUARE),
    "vit without normalisation": ViTImageProcessorPil(size=SQUARE, do_normalize=False),
    "deit": DeiTImageProcessorPil(size={"height": 20, "width": 20}, crop_size=SQUARE),
    "convnext": ConvNextImageProcessorPil(size={"shortest_edge": 16}, crop_pct=0.875),
    "bit": BitImageProcessorPil(size={"shortest_edge": 20}, crop_size=SQUARE),
}
WHOLE = {
    "rescale offset": EfficientNetImageProcessorPil(size=SQUARE, rescale_offset=True, include_top=False),
    "normalised twice": EfficientNetImageProcessorPil(size=SQUARE),
    "no rescaling": ViTImageProcessorPil(size=SQUARE, do_rescale=False),
}


def photographs(count: int = 5) -> list[PILImage.Image]:
    """Coloured noise of different sizes."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(18, 40, (count, 2))
    return [PILImage.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def labelled(pictures: list) -> Dataset:
    features = Features({"image": Image(), "label": ClassLabel(num_classes=10)})
    return Dataset.from_dict({"image": pictures, "label": [n % 10 for n in range(len(pictures))]}, features=features)


class CountingProcessor(ViTImageProcessorPil):
    """Remembers how many images it was given."""

    seen = 0

    def __call__(self, pictures, **options):
        self.seen += len(pictures)
        return super().__call__(pictures, **options)


def own_output(processor, pictures, **options) -> torch.Tensor:
    return processor([picture.convert("RGB") for picture in pictures], return_tensors="pt", **options)["pixel_values"]


def with_workers(data: ReadyImages, batch_size: int) -> DataLoader:
    options = {"num_workers": 2, "multiprocessing_context": "fork", "collate_fn": lambda batch: batch}
    return DataLoader(data, batch_size=batch_size, **options)


class TestPixels:
    @pytest.mark.parametrize("name", SPLITTABLE)
    def test_prepared_bytes_are_the_processors_own_and_finished_pixels_agree(self, name):
        processor, pictures = SPLITTABLE[name], photographs()
        pipeline = PixelPipeline(processor, pictures[0])
        prepared = pipeline.prepare(pictures)
        assert prepared.dtype == pipeline.dtype == torch.uint8 and pipeline.shape == (3, 16, 16)
        assert torch.equal(prepared, own_output(processor, pictures, do_rescale=False, do_normalize=False))
        finished = pipeline.finish(prepared)
        assert finished.dtype == torch.float32
        assert (finished - own_output(processor, pictures)).abs().max() < 1e-6

    @pytest.mark.parametrize("name", WHOLE)
    def test_a_processor_with_steps_of_its_own_is_obeyed_as_it_is(self, name):
        processor, pictures = WHOLE[name], photographs()
        pipeline = PixelPipeline(processor, pictures[0])
        assert pipeline.dtype == torch.float32
        assert torch.equal(pipeline.finish(pipeline.prepare(pictures)), own_output(processor, pictures))
        ready_images = ReadyImages(labelled(pictures), processor)
        assert torch.equal(ready_images.finish(ready_images.__getitems__([4, 0]))["pixel_values"],
                           own_output(processor, [pictures[4], pictures[0]]))  # fmt: skip

    @pytest.mark.parametrize("name", SPLITTABLE)
    def test_the_range_is_that_of_black_and_white_images(self, name):
        low, high = PixelPipeline(SPLITTABLE[name], photographs()[0]).range
        assert low.shape == high.shape == (3, 1, 1)
        for bound, colour in ((low, "black"), (high, "white")):
            (expected,) = own_output(SPLITTABLE[name], [PILImage.new("RGB", (30, 24), colour)])
            torch.testing.assert_close(bound.expand_as(expected), expected, rtol=0, atol=1e-6)

    def test_the_range_of_a_processor_that_is_obeyed_as_it_is_is_not_known(self):
        assert PixelPipeline(WHOLE["normalised twice"], photographs()[0]).range is None

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1", "CMYK"])
    def test_every_kind_of_image_becomes_rgb(self, mode):
        processor = SPLITTABLE["vit"]
        odd = photographs()[0].convert(mode)
        mixed = [*photographs(2), odd]
        for example in (odd, mixed[0]):
            finished = PixelPipeline(processor, example)
            finished = finished.finish(finished.prepare(mixed))
            assert (finished - own_output(processor, mixed)).abs().max() < 1e-6

    def test_a_processor_for_one_channel_keeps_one(self):
        processor = ViTImageProcessorPil(size=SQUARE, image_mean=[0.5], image_std=[0.25])
        grey = [picture.convert("L") for picture in photographs()]
        pipeline = PixelPipeline(processor, grey[0])
        assert pipeline.shape == (1, 16, 16) and pipeline.dtype == torch.uint8
        expected = processor(grey, return_tensors="pt")["pixel_values"]
        assert (pipeline.finish(pipeline.prepare(grey)) - expected).abs().max() < 1e-6


class TestReadyImages:
    def test_every_image_is_decoded_at_most_once(self, digits, monkeypatch):
        decoded, decode = [], Image.decode_example
        monkeypatch.setattr(Image, "decode_example", lambda *given, **key: decoded.append(1) or decode(*given, **key))
        processor = CountingProcessor(size=SQUARE)
        data = ReadyImages(digits.select(range(20)), processor)
        decoded.clear()  # the example that the pipeline was checked on
        processor.seen = 0
        for _ in range(3):
            for rows in ([0, 1, 2], [3, 19, 3, 4], [4], range(10, 20)):
                data.__getitems__(rows)
        data[19]
        assert len(decoded) == processor.seen == 15

    def test_rows_come_in_the_order_asked_for_with_their_labels(self):
        pictures = photographs(6)
        data = ReadyImages(labelled(pictures), SPLITTABLE["vit"])
        for rows in ([4, 1, 1, 5], [0, 1, 4, 3]):
            batch = data.__getitems__(rows)
            assert batch["labels"].tolist() == rows
            expected = own_output(SPLITTABLE["vit"], [pictures[row] for row in rows], do_rescale=False,
                                  do_normalize=False)  # fmt: skip
            assert torch.equal(batch["pixel_values"], expected)
        assert torch.equal(data[3]["pixel_values"], batch["pixel_values"][3]) and data[3]["labels"] == 3
        assert len(data) == 6

    def test_pixels_are_kept_as_bytes(self, digits, processor):
        data = ReadyImages(digits, processor)
        assert data.pixels.dtype == torch.uint8 and data.pixels.shape == (400, 3, 16, 16)

    def test_finish_normalises_and_augments_only_where_asked(self, digits, processor):
        data = ReadyImages(digits.select(range(8)), processor)
        batch = {**data.__getitems__(range(8)), "is_forget": torch.ones(8, dtype=torch.bool)}
        finished = data.finish(batch)
        assert finished["is_forget"] is batch["is_forget"] and finished["labels"] is batch["labels"]
        assert torch.equal(finished["pixel_values"], data.pipeline.finish(batch["pixel_values"]))
        augmentation = Augmentation(horizontal_flip=True, crop_padding=2)
        augmented = data.finish(batch, augmentation, torch.Generator().manual_seed(0))["pixel_values"]
        expected = augmentation(batch["pixel_values"], torch.Generator().manual_seed(0))
        assert torch.equal(augmented, data.pipeline.finish(expected))
        assert not torch.equal(augmented, finished["pixel_values"])

    def test_worker_processes_fill_one_store(self, digits):
        data = ReadyImages(digits.select(range(12)), CountingProcessor(size=SQUARE))
        assert not data.is_ready.any()
        from_workers = torch.cat([batch["pixel_values"] for batch in with_workers(data, 4)])
        assert data.is_ready.all()
        data.pipeline.processor.seen = 0
        assert torch.equal(data.__getitems__(range(12))["pixel_values"], from_workers)
        assert data.pipeline.processor.seen == 0

    def test_a_large_store_lies_in_an_unnamed_file(self, digits, processor, monkeypatch, tmp_path):
        in_memory = ReadyImages(digits, processor).__getitems__(range(400))
        opened = []
        temporary_file = images.tempfile.TemporaryFile
        monkeypatch.setattr(images.datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr(
            images.tempfile, "TemporaryFile", lambda **where: opened.append(where) or temporary_file(**where)
        )
        monkeypatch.setattr(images, "IN_MEMORY_BYTES", 400 * 3 * 16 * 16)
        ReadyImages(digits, processor)
        assert opened == []
        monkeypatch.setattr(images, "IN_MEMORY_BYTES", 400 * 3 * 16 * 16 - 1)
        data = ReadyImages(digits, processor)
        assert opened == [{"dir": str(tmp_path / "cache")}]
        assert list((tmp_path / "cache").iterdir()) == []  # it vanishes with the process
        from_workers = torch.cat([batch["pixel_values"] for batch in with_workers(data, 100)])
        assert torch.equal(from_workers, in_memory["pixel_values"])
        assert data.is_ready.all()

    def test_images_of_different_sizes_are_refused(self):
        keeps_size = ViTImageProcessorPil(do_resize=False)
        data = ReadyImages(labelled([PILImage.new("RGB", (8, 8)), PILImage.new("RGB", (8, 9))]), keeps_size)
        data[0]
        with pytest.raises(ValueError, match=r"\(3, 9, 8\) after one of \(3, 8, 8\)\. Use a processor that resizes"):
            data[1]

    def test_no_image_column(self, digits, processor):
        with pytest.raises(ValueError, match="no image column; its columns are label, user_id"):
            ReadyImages(digits.remove_columns("image"), processor)

    def test_the_format_of_the_data_set_does_not_matter(self, digits, processor):
        expected = ReadyImages(digits.select(range(3)), processor).__getitems__([0, 1, 2])
        for data in (digits.with_format("torch"), digits.with_format("numpy", columns=["label"])):
            batch = ReadyImages(data, processor).__getitems__([0, 1, 2])
            assert torch.equal(batch["pixel_values"], expected["pixel_values"])


def augmented_one_by_one(pixels: torch.Tensor, augmentation: Augmentation, seed: int) -> torch.Tensor:
    """Flip and crop every image by itself, from the same draws in the same order."""
    generator = torch.Generator().manual_seed(seed)
    count, _, height, width = pixels.shape
    pad, result = augmentation.crop_padding, []
    flips = torch.randint(2, (count,), generator=generator) if augmentation.horizontal_flip else torch.zeros(count)
    tops, lefts = (torch.randint(2 * pad + 1, (count,), generator=generator) for _ in "yx")
    for image, flip, top, left in zip(pixels.numpy(), flips.tolist(), tops.tolist(), lefts.tolist(), strict=True):
        image = image[:, :, ::-1] if flip else image
        padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
        result.append(torch.from_numpy(padded[:, top : top + height, left : left + width].copy()))
    return torch.stack(result)


class TestAugmentation:
    PIXELS = torch.randint(1, 256, (64, 3, 5, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("padding", [0, 2])
    def test_agrees_with_a_loop_over_the_images(self, flip, padding):
        augmentation = Augmentation(flip, padding)
        augmented = augmentation(self.PIXELS, torch.Generator().manual_seed(5))
        assert augmented.dtype == torch.uint8
        assert torch.equal(augmented, augmented_one_by_one(self.PIXELS, augmentation, 5))

    def test_each_image_has_its_own_draw(self):
        same = self.PIXELS[:1].expand(64, -1, -1, -1)
        flipped = Augmentation(horizontal_flip=True)(same, torch.Generator().manual_seed(0))
        as_it_was = (flipped == same).flatten(1).all(dim=1)
        mirrored = (flipped == same.flip(-1)).flatten(1).all(dim=1)
        assert (as_it_was ^ mirrored).all() and 16 < mirrored.sum() < 48  # 32 expected, four deviations
        cropped = Augmentation(crop_padding=1)(same, torch.Generator().manual_seed(0))
        assert len(cropped.unique(dim=0)) == 9

    def test_depends_on_the_generator_alone(self):
        augmentation = Augmentation(horizontal_flip=True, crop_padding=1)
        torch.manual_seed(0)
        first = augmentation(self.PIXELS, torch.Generator().manual_seed(3))
        assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(first, augmentation(self.PIXELS, torch.Generator().manual_seed(3)))
        assert not torch.equal(first, augmentation(self.PIXELS, torch.Generator().manual_seed(4)))

    def test_does_nothing_unless_asked(self):
        assert Augmentation()(self.PIXELS) is self.PIXELS


class TestReady:
    def test_raw_images_become_ready_images(self, digits, processor):
        data = ready(digits, processor, "forget set", num_labels=10)
        assert isinstance(data, ReadyImages) and data.labels.tolist() == digits["label"][:]
        named = ready(digits.add_column("half", [0, 1] * 200), processor, label_column="half")
        assert named.labels.tolist() == [0, 1] * 200

    def test_samples_of_model_inputs_pass_as_they_are(self, digits, processor):
        inputs = Dataset.from_dict({"pixel_values": [[1, 2]], "label": [0]})
        pairs = torch.utils.data.TensorDataset(torch.zeros(2, 3))
        transformed = digits.with_transform(lambda batch: batch)
        for data in (inputs, pairs, transformed):
            assert ready(data, processor) is data

    def test_raw_images_need_an_image_processor(self, digits):
        with pytest.raises(ValueError, match="The forget set has raw images.*processing_class=.*got NoneType"):
            ready(digits, None, "forget set")

    def test_streamed_data(self, digits, processor):
        with pytest.raises(TypeError, match="The unseen set is an IterableDataset"):
            ready(digits.to_iterable_dataset(), processor, "unseen set")


def test_real_photographs(shared, tmp_path):
    data = load_dataset(str(shared / "data" / "cifar10"), split="test[:64]", cache_dir=str(tmp_path))
    processor = ViTImageProcessorPil(size={"height": 24, "width": 24})
    batch = ready(data, processor).__getitems__(range(64))
    assert batch["labels"].tolist() == data["label"][:]
    expected = own_output(processor, data["img"][:], do_rescale=False, do_normalize=False)
    assert torch.equal(batch["pixel_values"], expected)


def test_some_rows_share_the_pixels_of_all(digits, processor):
    data = ReadyImages(digits.select(range(20)), processor)
    some = data.select([7, 3, 11])
    fewer = some.select([2, 0])
    assert len(some) == 3 and some.labels.tolist() == data.labels[[7, 3, 11]].tolist()
    batch = fewer.__getitems__([0, 1])
    assert data.is_ready.nonzero().flatten().tolist() == [7, 11]  # prepared by the one, ready for the other
    whole = data.__getitems__([11, 7])
    for name in ("pixel_values", "labels"):
        assert torch.equal(batch[name], whole[name])
    assert len(fewer.images) == 2 and fewer.images._fingerprint != data.images._fingerprint
