"""Pixels that are kept for other runs: found by content, whole or made anew, and taken out to be forgotten."""

from __future__ import annotations

import io
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from transformers import ViTImageProcessorPil
from transformers.utils import logging

from hf_lotus.data import pixel_store
from hf_lotus.data.images import PixelPipeline, ReadyImages
from hf_lotus.data.pixel_store import forget_pictures, picture_keys

SIZE = 12


def pictures(count=9, seed=0, size=10):
    noise = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    columns = {"image": [PILImage.fromarray(each) for each in noise], "label": list(range(count))}
    return Dataset.from_dict(columns, features=Features({"image": Image(), "label": Value("int64")}))


def processor(size=SIZE, **options):
    return ViTImageProcessorPil(size={"height": size, "width": size}, **options)


def ready(data, folder, monkeypatch=None, **options):
    """The data set made ready, and how many pictures were decoded for it."""
    decoded = []
    prepare = PixelPipeline.prepare

    def counted(self, images):
        decoded.append(len(images))
        return prepare(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PixelPipeline, "prepare", counted)
        made = ReadyImages(data, processor(**options), ready_images_dir=str(folder))
        everything = made.__getitems__(list(range(len(data))))["pixel_values"]
    return everything, sum(decoded) - decoded[:2].count(1)  # what the pipeline is checked with is no row


def files(folder):
    return sorted(folder.rglob("*.safetensors"))


class TestKeeping:
    def test_another_run_finds_any_selection_and_decodes_nothing(self, tmp_path):
        data = pictures()
        expected, decoded = ready(data, tmp_path)
        assert decoded == 9 and torch.equal(
            expected, ReadyImages(data, processor()).__getitems__(range(9))["pixel_values"]
        )
        again, decoded = ready(pictures().select([7, 2, 2, 0]), tmp_path)
        assert decoded == 0 and torch.equal(again, expected[[7, 2, 2, 0]])
        assert len(files(tmp_path)) == 1

    def test_a_picture_that_is_there_many_times_is_decoded_and_kept_once(self, tmp_path):
        rows = [0, 1, 0, 0, 2, 1]
        expected = ReadyImages(pictures().select(rows), processor()).__getitems__(range(6))["pixel_values"]
        made, decoded = ready(pictures().select(rows), tmp_path)
        assert decoded == 3 and torch.equal(made, expected) and not torch.equal(expected[0], expected[1])
        (path,) = files(tmp_path)
        assert len(pixel_store._keys_of(path)) == 3
        again, decoded = ready(pictures().select(rows), tmp_path)
        assert decoded == 0 and torch.equal(again, expected)

    def test_only_what_is_missing_is_decoded(self, tmp_path):
        ready(pictures().select(range(4)), tmp_path)
        everything, decoded = ready(pictures(), tmp_path)
        assert decoded == 5 and torch.equal(
            everything, ReadyImages(pictures(), processor()).__getitems__(range(9))["pixel_values"]
        )

    def test_pixels_of_another_size_or_processor_are_others(self, tmp_path):
        ready(pictures(), tmp_path)
        for options in ({"size": 8}, {"resample": 0}):
            assert ready(pictures(), tmp_path, **options)[1] == 9
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3

    def test_files_are_the_owners_alone_and_of_a_bounded_size(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pixel_store, "_FILE_BYTES", 4 * 3 * SIZE * SIZE)
        ready(pictures(), tmp_path)
        assert len(files(tmp_path)) == 3 and {path.stat().st_mode & 0o777 for path in files(tmp_path)} == {0o600}

    def test_pictures_that_are_no_files_are_made_ready_as_ever(self, tmp_path):
        data = pictures()
        rows = [np.asarray(image).tolist() for image in data["image"]]
        assert picture_keys(Dataset.from_dict({"image": rows}), "image") is None


class TestWhatIsBroken:
    @pytest.mark.parametrize("harm", ["bit", "cut", "empty"])
    def test_it_is_told_deleted_and_made_anew(self, tmp_path, harm, caplog):
        expected, _ = ready(pictures(), tmp_path)
        (path,) = files(tmp_path)
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes({"bit": bytes(content), "cut": bytes(content[:-40]), "empty": b""}[harm])
        logging.get_logger("hf_lotus").addHandler(caplog.handler)
        again, decoded = ready(pictures(), tmp_path)
        assert decoded == 9 and torch.equal(again, expected)
        assert "is broken; it is deleted, and its pixels are made anew" in caplog.text
        assert ready(pictures(), tmp_path)[1] == 0

    def test_what_a_killed_process_left_half_is_not_read(self, tmp_path):
        ready(pictures(), tmp_path)
        (path,) = files(tmp_path)
        path.rename(path.with_name(path.name + ".abc.part"))
        assert ready(pictures(), tmp_path)[1] == 9

    def test_two_processes_that_make_the_same_leave_it_once(self, tmp_path):
        workers = [get_context("fork").Process(target=ready, args=(pictures(), tmp_path)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        assert len(files(tmp_path)) == 1 and ready(pictures(), tmp_path)[1] == 0


class TestForgetting:
    def test_nothing_is_left_of_the_picture_in_any_size_and_the_others_stay(self, tmp_path):
        for size in (SIZE, 8):
            ready(pictures(), tmp_path, size=size)
        before = files(tmp_path)
        assert forget_pictures(tmp_path, pictures().select([3, 5])) == 2
        gone = set(picture_keys(pictures().select([3, 5]), "image"))
        content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert not any(key in content for key in gone) and not set(before) & set(files(tmp_path))
        assert ready(pictures().select([0, 1, 2, 4, 6, 7, 8]), tmp_path)[1] == 0
        assert ready(pictures().select([3]), tmp_path)[1] == 1

    def test_nor_in_what_a_killed_process_left(self, tmp_path):
        ready(pictures(), tmp_path)
        (path,) = files(tmp_path)
        path.rename(path.with_name(path.name + ".abc.part"))
        forget_pictures(tmp_path, pictures().select([3]))
        assert not list(tmp_path.rglob("*.part"))

    def test_broken_off_between_writing_and_deleting_it_goes_on(self, tmp_path, monkeypatch):
        ready(pictures(), tmp_path)
        with monkeypatch.context() as patch, pytest.raises(OSError, match="busy"):
            patch.setattr(type(tmp_path), "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError("busy")))
            forget_pictures(tmp_path, pictures().select([3]))
        assert forget_pictures(tmp_path, pictures().select([3])) == 1
        assert forget_pictures(tmp_path, pictures().select([3])) == 0

    def test_where_there_is_no_store_or_something_else_nothing_happens(self, tmp_path):
        assert forget_pictures(tmp_path / "none", pictures()) == 0
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
        assert forget_pictures(tmp_path, pictures()) == 0
        assert (tmp_path / "model" / "model.safetensors").read_bytes() == b"weights"


class TestSizeThatIsRightAlready:
    @pytest.mark.parametrize("options", [{}, {"do_normalize": False}, {"resample": 0}])
    def test_the_pixels_are_the_processors_own(self, options):
        data = pictures(size=SIZE)
        pipeline = PixelPipeline(processor(**options), data[0]["image"])
        assert pipeline._passes == (SIZE, SIZE)
        images = list(data["image"])
        own = pipeline.processor(images, return_tensors="pt", do_rescale=False, do_normalize=False)["pixel_values"]
        shown = pipeline.prepare(images)
        assert torch.equal(shown, own) and shown.dtype == own.dtype == torch.uint8
        buffer = io.BytesIO()
        images[0].save(buffer, "JPEG")
        mixed = [images[1], PILImage.open(buffer).convert("L"), images[2].resize((30, 20))]
        own = pipeline.processor(
            [image.convert("RGB") for image in mixed], return_tensors="pt", do_rescale=False, do_normalize=False
        )
        assert torch.equal(pipeline.prepare(mixed), own["pixel_values"])

    def test_a_processor_that_changes_them_is_asked(self):
        class Turned(ViTImageProcessorPil):
            def preprocess(self, images, *args, **kwargs):
                return super().preprocess([image.rotate(90) for image in images], *args, **kwargs)

        pipeline = PixelPipeline(Turned(size={"height": SIZE, "width": SIZE}), pictures(size=SIZE)[0]["image"])
        assert pipeline.mean is not None and pipeline._passes is None
