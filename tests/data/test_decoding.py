"""Decoding by a pool: the same pixels, one process of several at a time, and clear words where something breaks."""

from __future__ import annotations

import io
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import get_context

import pytest
import torch
from datasets import Dataset, Features, Image, Value

from hf_lotus.data import decoding, pixel_store
from hf_lotus.data.decoding import Decoder, decode, pool_size
from hf_lotus.data.images import PixelPipeline, ReadyImages
from hf_lotus.methods import Finetune
from tests.conftest import divided, scans
from tests.data.test_pixel_store import SIZE, files, pictures, processor
from tests.support.every_method import build


@pytest.fixture
def pool(monkeypatch):
    """Two processes, also for few pictures, and on one CPU."""
    monkeypatch.setattr(decoding, "_WORTH", 0.0)
    monkeypatch.setattr(decoding, "_AT_ONCE", 4)
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


@pytest.fixture
def decoded_by(monkeypatch, tmp_path):
    """The processes that decoded, each with its pictures."""
    told = tmp_path / "decoded"
    told.mkdir()
    prepare = PixelPipeline.prepare

    def noted(self, images):
        with (told / str(os.getpid())).open("a") as file:
            file.write("x" * len(images))
        return prepare(self, images)

    monkeypatch.setattr(PixelPipeline, "prepare", noted)
    return lambda: {int(path.name): len(path.read_text()) for path in told.iterdir()}


def photographs(count=24, side=40):
    """JPEGs, whose decoding and resizing round."""
    data = pictures(count, size=side)
    stored = []
    for picture in data["image"]:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG")
        stored.append({"bytes": buffer.getvalue(), "path": None})
    columns = {"image": stored, "label": data["label"]}
    return Dataset.from_dict(columns, features=Features({"image": Image(), "label": Value("int64")}))


def pixels_of(data, **options):
    return ReadyImages(data, processor(), **options).__getitems__(range(len(data)))["pixel_values"]


def test_the_pixels_are_those_of_one_process_to_the_bit(tmp_path, pool, monkeypatch, decoded_by):
    monkeypatch.setattr(pixel_store, "_FILE_BYTES", 10 * 3 * SIZE * SIZE)
    expected = pixels_of(photographs())
    alone = decoded_by()[os.getpid()]
    made = pixels_of(photographs(), ready_images_dir=str(tmp_path / "store"), decoding_workers=2)
    assert torch.equal(made, expected) and len(made.flatten().unique()) > 50
    by = decoded_by()
    # What the pipeline is checked with and what is timed is this process's; every row once another's.
    assert by.pop(os.getpid()) - alone <= 2 + 10 and len(by) == 2 and sum(by.values()) == 24
    assert len(files(tmp_path)) == 3
    assert torch.equal(pixels_of(photographs(), ready_images_dir=str(tmp_path / "store")), expected)


def test_few_pictures_start_no_process(tmp_path, monkeypatch, decoded_by):
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    pixels_of(photographs(), ready_images_dir=str(tmp_path / "store"), decoding_workers=2)
    assert set(decoded_by()) == {os.getpid()}


def test_a_picture_that_cannot_be_read_is_told_by_its_row(tmp_path, pool):
    data = photographs()
    stored = data.cast_column("image", Image(decode=False))["image"]
    rows = [{**row, "bytes": b"no picture"} if place == 13 else row for place, row in enumerate(stored)]
    broken = Dataset.from_dict({"image": rows, "label": data["label"]}, features=data.features)
    with pytest.raises(ValueError, match=r"^The picture in row 13 of the data set \(column 'image'\) cannot be read"):
        ReadyImages(broken, processor(), ready_images_dir=str(tmp_path), decoding_workers=2)


@dataclass(frozen=True, eq=False)
class Dying(Decoder):
    """Its processes are killed at one row, as for want of memory."""

    def __getitems__(self, rows):
        if 13 in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitems__(rows)


def test_a_process_that_dies_is_told_and_what_is_whole_stays(tmp_path, pool, monkeypatch):
    monkeypatch.setattr(pixel_store, "_FILE_BYTES", 4 * 3 * SIZE * SIZE)
    data = photographs()
    expected = pixels_of(data)
    with monkeypatch.context() as patch:
        patch.setattr("hf_lotus.data.images.Decoder", Dying)
        with pytest.raises(ChildProcessError, match="One of 2 processes that decode pictures died.*What was decoded"):
            ReadyImages(data, processor(), ready_images_dir=str(tmp_path), decoding_workers=2)
    again = pixels_of(data, ready_images_dir=str(tmp_path), decoding_workers=2)
    assert torch.equal(again, expected)


def test_another_error_of_a_process_is_not_called_its_death(pool, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0: no room")
        yield

    monkeypatch.setattr(decoding, "DataLoader", failing)
    data = photographs()
    pipeline = PixelPipeline(processor(), data[0]["image"])
    with pytest.raises(RuntimeError, match="no room"):
        decode(Decoder(data, "image", pipeline), [range(4), range(4, 8)], lambda rows, pixels: None, 2)


def _make(folder, told, begin):
    prepare = PixelPipeline.prepare

    def slow(self, images):
        time.sleep(0.02 * len(images))
        told.put(len(images))
        return prepare(self, images)

    PixelPipeline.prepare = slow
    decoding._AT_ONCE = 4
    begin.wait()
    ReadyImages(photographs(), processor(), ready_images_dir=str(folder))


def test_of_two_ranks_one_decodes_and_the_other_waits(tmp_path):
    context = get_context("fork")
    told, begin = context.Queue(), context.Barrier(2)
    ranks = [context.Process(target=_make, args=(tmp_path, told, begin)) for _ in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    decoded = 0
    while not told.empty():
        decoded += told.get()
    assert decoded <= 24 + 2 * 3  # and what each checks its pipeline with
    assert len(files(tmp_path)) == 1


def test_who_waits_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pixel_store, "_UNTOLD_SECONDS", 0.05)
    store = pixel_store.PixelStore(tmp_path, [])
    context = get_context("fork")
    holds, lets_go = context.Event(), context.Event()

    def hold():
        with store.filling():
            holds.set()
            lets_go.wait()

    other = context.Process(target=hold)
    other.start()
    holds.wait()
    told = []
    monkeypatch.setattr(pixel_store.logger, "warning", lambda text: (told.append(text), lets_go.set()))
    with store.filling():
        pass
    other.join()
    assert len(told) == 1 and "Another process decodes pictures into" in told[0]


def test_a_process_that_is_killed_lets_others_in(tmp_path):
    store, context = pixel_store.PixelStore(tmp_path, []), get_context("fork")
    holds = context.Event()

    def hold():
        with store.filling():
            holds.set()
            time.sleep(600)

    other = context.Process(target=hold)
    other.start()
    holds.wait()
    other.kill()
    with store.filling():
        pass


@pytest.mark.parametrize(("workers", "ranks", "expected"), [(0, 4, 0), (1, 1, 1), (2, 2, 4), (8, 2, 6)])
def test_the_ranks_that_wait_lend_their_processes(monkeypatch, workers, ranks, expected):
    monkeypatch.setattr(decoding.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert pool_size(workers) == expected


def test_a_trainer_decodes_with_as_many_as_its_loader_has(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("hf_lotus.data.images.fill", lambda *given: asked.append(given[-1]))
    parts = divided(scans())
    options = {f"{name}_dataset": parts[name] for name in ("forget", "retain", "unseen")}
    options["ready_images_dir"] = str(tmp_path / "store")
    build(tmp_path / "out", Finetune(), options=options, dataloader_num_workers=3)
    assert asked == [3, 3, 3]
