"""The samples of a round: what a method asked for, drawn from the seed alone, each with the right flag."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from hf_lotus.data.batches import Collator
from hf_lotus.data.images import ReadyImages
from hf_lotus.methods.rounds import Pass, Streams
from hf_lotus.trainer.round_data import RoundDataset, draw_per_class, draw_subset
from hf_lotus.trainer.sampler import RoundBatches
from hf_lotus.utils.seeds import derived_seed


class TestSubset:
    @pytest.mark.parametrize(
        ("size", "fraction", "count"), [(1000, 0.3, 300), (10, 0.34, 3), (10, 1.0, 10), (10, 0.01, 1), (10, 0.0, 0)]
    )
    def test_has_the_size_asked_for_without_repetition(self, size, fraction, count):
        rows = draw_subset(size, fraction, seed=0)
        assert rows.dtype == torch.int64 and len(rows) == count == len(rows.unique())
        assert torch.equal(rows, rows.sort().values) and all(0 <= row < size for row in rows)

    def test_depends_on_the_seed_alone(self):
        torch.manual_seed(1)
        first = draw_subset(100, 0.3, seed=5)
        torch.manual_seed(2)
        assert torch.equal(first, draw_subset(100, 0.3, seed=5))
        assert not torch.equal(first, draw_subset(100, 0.3, seed=6))

    def test_every_row_is_as_likely_as_another(self):
        counts = torch.cat([draw_subset(50, 0.3, seed) for seed in range(2000)]).bincount(minlength=50)
        assert counts.sum() == 2000 * 15
        assert (counts - 600).abs().max() < 5 * np.sqrt(2000 * 0.3 * 0.7)  # five deviations


class TestPerClass:
    LABELS = torch.tensor([2] * 7 + [0] * 3 + [5] * 4)[torch.randperm(14, generator=torch.Generator().manual_seed(0))]

    @pytest.mark.parametrize(("count", "sizes"), [(1, [1, 1, 1]), (3, [3, 3, 3]), (5, [3, 5, 4]), (99, [3, 7, 4])])
    def test_so_many_of_each_class_or_all_where_there_are_fewer(self, count, sizes):
        rows = draw_per_class(self.LABELS, count, seed=0)
        assert rows.dtype == torch.int64 and torch.equal(rows, rows.unique())  # sorted, none twice
        assert [int((self.LABELS[rows] == label).sum()) for label in (0, 2, 5)] == sizes

    @pytest.mark.parametrize("count", [1, 3, 10, 22])
    def test_rows_are_repeated_equally_often_where_asked_for(self, count):
        rows = draw_per_class(self.LABELS, count, seed=0, repeat=True)
        assert torch.equal(rows, rows.sort().values)
        for label in (0, 2, 5):
            members = torch.nonzero(self.LABELS == label)[:, 0]
            times = torch.stack([(rows == member).sum() for member in members])
            assert times.sum() == count and times.max() - times.min() <= 1

    def test_depends_on_the_seed_alone(self):
        labels = torch.arange(100) % 4
        before = torch.random.get_rng_state()
        drawn = [draw_per_class(labels, 5, seed) for seed in (1, 1, 2)]
        assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_every_row_of_a_class_is_as_likely_as_another(self):
        labels = torch.tensor([0] * 10 + [1] * 40)
        counts = torch.cat([draw_per_class(labels, 4, seed) for seed in range(2000)]).bincount(minlength=50)
        expected = torch.tensor([0.4] * 10 + [0.1] * 40)
        deviation = (2000 * expected * (1 - expected)).sqrt()
        assert ((counts - 2000 * expected).abs() < 5 * deviation).all()


class TestStreams:
    @pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
    def test_the_fraction_lies_between_0_and_1(self, fraction):
        with pytest.raises(ValueError, match=f"retain_fraction must lie between 0 and 1, got {fraction}"):
            Streams(forget=True, retain_fraction=fraction)

    def test_a_round_holds_something(self):
        with pytest.raises(ValueError, match="needs the forget set, a part of the retain set, or both"):
            Streams(forget=False, retain_fraction=0)
        assert Streams(True, 0.0).forget and Streams(False, 1.0).retain_fraction == 1

    @pytest.mark.parametrize("name", ["forget_per_class", "retain_per_class"])
    @pytest.mark.parametrize("count", [0, -3])
    def test_a_number_per_class_is_of_samples(self, name, count):
        with pytest.raises(ValueError, match=f"{name} must be 1 or more samples, got {count}"):
            Streams(True, 1.0, **{name: count})


class TestPass:
    @pytest.mark.parametrize("sides", [{"forget": False}, {"retain": False}])
    def test_pairs_need_both_sides(self, sides):
        with pytest.raises(ValueError, match="A paired pass needs both sides"):
            Pass(paired=True, **sides)

    @pytest.mark.parametrize("size", [0, -1])
    def test_a_batch_holds_something(self, size):
        with pytest.raises(ValueError, match=f"forget_batch_size must be 1 or more samples, got {size}"):
            Pass(forget_batch_size=size)


@pytest.fixture
def sides(digits):
    """Ten scans to forget, twenty to retain, with labels that say which scan each is: 0 to 9 and 100 to 119."""
    forget = digits.select(range(10)).remove_columns("label").add_column("label", list(range(10)))
    retain = digits.select(range(10, 30)).remove_columns("label").add_column("label", list(range(100, 120)))
    return forget, retain


RETAIN_ROWS = torch.tensor([1, 5, 6, 19])
NONE = torch.arange(0)
LABELS = [*range(10), 101, 105, 106, 119]


class TestRoundDataset:
    def as_samples(self, sides) -> RoundDataset:
        """The sides as data sets of single samples."""
        forget, retain = (side.remove_columns("image") for side in sides)
        return RoundDataset(forget, retain, torch.arange(10), RETAIN_ROWS)

    def as_images(self, sides, processor) -> RoundDataset:
        """The sides as `ReadyImages`, which give whole batches."""
        forget, retain = (ReadyImages(side, processor) for side in sides)
        return RoundDataset(forget, retain, torch.arange(10), RETAIN_ROWS)

    def test_holds_the_forget_set_and_the_chosen_retain_rows(self, sides, processor):
        for data in (self.as_samples(sides), self.as_images(sides, processor)):
            assert len(data) == 14
            assert [int(data[n].get("labels", data[n].get("label"))) for n in range(14)] == LABELS
            assert [data[n]["is_forget"] for n in range(14)] == [True] * 10 + [False] * 4
            assert [data[n]["position"] for n in range(14)] == list(range(14))

    @pytest.mark.parametrize("positions", [[12, 3, 13, 0, 9, 10], [4, 2], [13, 11], [10], [9]])
    def test_flags_and_labels_are_right_in_every_mixture(self, sides, processor, positions):
        images = self.as_images(sides, processor)
        samples = self.as_samples(sides)
        batches = [images.__getitems__(positions), Collator(frozenset({"label"}))(samples.__getitems__(positions))]
        for batch in batches:
            assert batch["labels"].tolist() == [LABELS[position] for position in positions]
            assert batch["is_forget"].dtype == torch.bool
            assert batch["is_forget"].tolist() == [position < 10 for position in positions]
            assert batch["position"].tolist() == positions
        singly = torch.stack([images[position]["pixel_values"] for position in positions])
        assert torch.equal(batches[0]["pixel_values"], singly)

    def test_a_loader_gives_each_sample_of_a_round_once_with_its_flag(self, sides, processor):
        for data in (self.as_samples(sides), self.as_images(sides, processor)):
            loader = DataLoader(
                data,
                batch_sampler=RoundBatches(10, 4, lambda index: (Pass(),), 4, seed=1),
                collate_fn=Collator(frozenset({"label"})),
            )
            batches = list(loader)
            labels = torch.cat([batch["labels"] for batch in batches])
            assert sorted(labels.tolist()) == LABELS
            assert torch.equal(torch.cat([batch["is_forget"] for batch in batches]), labels < 100)
            assert any(0 < batch["is_forget"].sum() < len(batch["labels"]) for batch in batches)  # mixed ones

    def test_a_round_without_the_forget_set(self, sides, processor):
        for whole in (self.as_samples(sides), self.as_images(sides, processor)):
            data = RoundDataset(whole.forget, whole.retain, NONE, RETAIN_ROWS)
            batch = Collator(frozenset({"label"}))(data.__getitems__([3, 0]))
            assert len(data) == 4 and batch["labels"].tolist() == [119, 101] and not batch["is_forget"].any()

    def test_forget_rows_are_those_chosen_and_may_repeat(self, sides, processor):
        forget, retain = (ReadyImages(side, processor) for side in sides)
        data = RoundDataset(forget, retain, torch.tensor([7, 2, 2, 7, 7]), RETAIN_ROWS)
        assert (data.num_forget, len(data)) == (5, 9)
        batch = data.__getitems__([4, 6, 2, 0, 3, 1])
        assert batch["labels"].tolist() == [7, 105, 2, 7, 7, 2]
        assert batch["is_forget"].tolist() == [True, False, True, True, True, True]
        assert torch.equal(batch["pixel_values"][0], batch["pixel_values"][3])
        assert [int(data[n]["labels"]) for n in range(9)] == [7, 2, 2, 7, 7, 101, 105, 106, 119]

    def test_batches_of_images_are_finished_as_the_images_are(self, sides, processor):
        images = self.as_images(sides, processor)
        batch = images.__getitems__([11, 0])
        finished = images.finish(batch)["pixel_values"]
        assert torch.equal(finished[1], images.forget.finish(images.forget.__getitems__([0]))["pixel_values"][0])
        assert self.as_samples(sides).finish is None

    def test_sides_of_different_kinds_are_read_one_by_one(self, sides, processor):
        forget, retain = sides
        sides = ReadyImages(forget, processor), retain.remove_columns("image")
        data = RoundDataset(*sides, torch.arange(10), RETAIN_ROWS)
        first, second = data.__getitems__([10, 2])
        assert (first["label"], first["is_forget"]) == (101, False)
        assert (int(second["labels"]), second["is_forget"]) == (2, True)


def test_seeds_of_different_purposes_are_different_and_fit_every_generator():
    paths = [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (2, 0, 5, 1)]
    seeds = [derived_seed(seed, *path) for seed in [*range(20), 2**32, 2**32 + 1] for path in paths]
    assert len(set(seeds)) == len(seeds)
    assert derived_seed(7, 1, 2) == derived_seed(7, 1, 2)
    assert all(0 <= seed < 2**63 for seed in seeds) and max(seeds) > 2**60
    torch.Generator().manual_seed(max(seeds))


def test_data_of_other_kinds_needs_only_rows_by_number():
    data = RoundDataset([{"x": 1}], Dataset.from_dict({"x": [5, 6]}), torch.tensor([0]), torch.tensor([1]))
    assert data.__getitems__([1, 0]) == [
        {"x": 6, "is_forget": False, "position": 1},
        {"x": 1, "is_forget": True, "position": 0},
    ]


def test_a_repeated_position_gives_the_same_sample_and_keeps_its_number(parts, processor):
    forget, retain = (ReadyImages(parts[name], processor) for name in ("forget", "retain"))
    dataset = RoundDataset(forget, retain, torch.arange(60), torch.arange(5))
    batch = dataset.__getitems__([3, 3 + len(dataset), 62, 62 + len(dataset)])
    assert batch["position"].tolist() == [3, 3 + len(dataset), 62, 62 + len(dataset)]
    assert batch["is_forget"].tolist() == [True, True, False, False]
    assert torch.equal(batch["pixel_values"][0], batch["pixel_values"][1])
    assert torch.equal(batch["pixel_values"][2], batch["pixel_values"][3])
    single = dataset[3 + len(dataset)]
    assert (single["position"], single["is_forget"]) == (3 + len(dataset), True)


class TestStepsInTurn:
    def test_a_step_is_a_side_of_the_pass(self):
        whole = Pass(forget_every=2, max_norm=7.0, masks_retain=False, name="turns")
        forget = Pass(retain=False, max_norm=7.0, masks_retain=False, name="turns")
        retain = Pass(forget=False, is_masked=False, masks_retain=False, name="turns")
        assert [whole.step(index) for index in range(5)] == [forget, retain, retain, forget, retain]
        assert not whole.masks_every_step and not retain.masks_every_step and forget.masks_every_step
        assert Pass(forget_every=2).masks_every_step and Pass(forget_every=2).step(1).is_masked

    def test_of_any_other_pass_a_step_is_the_pass(self):
        given = Pass(paired=True)
        assert given.step(3) is given and given.masks_every_step

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"forget_every": 0}, "forget_every must be 1 or more retain steps"),
            ({"forget_every": 2, "paired": True}, "has both sides, and is neither paired nor balanced"),
            ({"forget_every": 2, "retain": False}, "has both sides, and is neither paired nor balanced"),
            ({"forget_every": 2, "forget_share": 0.5, "samples": 9}, "has both sides, and is neither"),
            ({"max_norm": -1.0}, "max_norm must be above 0, got -1"),
            ({"bargain": lambda *norms: (1, 1)}, "A bargain is between the two sides of a paired pass"),
        ],
    )
    def test_bad_values(self, values, message):
        with pytest.raises(ValueError, match=message):
            Pass(**values)
