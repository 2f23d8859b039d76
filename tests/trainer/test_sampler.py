"""The batches of a round: every sample in its pass once, dealt out evenly, in an order that can be repeated."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_lotus.methods.rounds import Pass
from hf_lotus.trainer.sampler import RoundBatches
from hf_lotus.utils.seeds import ORDER, derived_seed

MIXED, ALONE, KEPT, PAIRED = Pass(), Pass(retain=False), Pass(forget=False), Pass(paired=True)


def dealt(num_forget, num_retain, passes, batch_size, index=0, **options):
    """A round's batches on each rank, and the sampler of the first; `passes` may be one pass."""
    passes = (passes,) if isinstance(passes, Pass) else passes
    samplers = [
        RoundBatches(num_forget, num_retain, lambda _: passes, batch_size, 3, **options, rank=rank)
        for rank in range(options.get("ranks", 1))
    ]
    for sampler in samplers:
        sampler.set_epoch(index)
    return [list(sampler) for sampler in samplers], samplers[0]


def steps_of(ranks, accumulation=1):
    """Optimizer steps, each the parts that were dealt, in the order of the pass: by accumulated batch, then rank."""
    count = len(ranks[0]) // accumulation
    return [
        [batches[step * accumulation + turn] for turn in range(accumulation) for batches in ranks]
        for step in range(count)
    ]


def flat(nested):
    return [position for part in nested for position in part]


class TestOnePass:
    def test_the_order_is_the_permutation_of_seed_and_round(self):
        for index in (0, 1, 7):
            ([batches], _) = dealt(30, 70, MIXED, 16, index=index)
            generator = torch.Generator().manual_seed(derived_seed(3, ORDER, index))
            assert flat(batches) == torch.randperm(100, generator=generator).tolist()
            assert [len(batch) for batch in batches] == [16] * 6 + [4]

    @pytest.mark.parametrize(("which", "positions"), [(MIXED, range(100)), (ALONE, range(30)), (KEPT, range(30, 100))])
    def test_each_sample_of_the_sides_that_take_part_comes_once(self, which, positions):
        ([batches], _) = dealt(30, 70, which, 16)
        assert sorted(flat(batches)) == list(positions) != flat(batches)

    def test_the_forget_batch_size_holds_in_a_pass_without_retain_samples_only(self):
        def sizes(**sides):
            ([batches], _) = dealt(30, 70, Pass(**sides, forget_batch_size=8), 16)
            return [len(batch) for batch in batches]

        assert sizes(retain=False) == [8, 8, 8, 6]
        assert sizes() == [16] * 6 + [4]

    def test_each_round_has_an_order_of_its_own_which_any_process_finds_again(self):
        rounds = [dealt(30, 70, (ALONE, KEPT), 16, index=index)[0] for index in (0, 1, 2)]
        assert rounds[0] != rounds[1] != rounds[2] != rounds[0]
        _, sampler = dealt(30, 70, (ALONE, KEPT), 16, index=2)
        torch.manual_seed(5)
        before = torch.random.get_rng_state()
        assert [list(sampler)] == [list(sampler)] == rounds[2]
        assert torch.equal(torch.random.get_rng_state(), before)
        other = RoundBatches(30, 70, lambda _: (ALONE, KEPT), 16, 4)
        assert [list(other)] != rounds[0]

    @pytest.mark.parametrize(
        ("which", "sizes"), [(ALONE, (0, 5)), (KEPT, (5, 0)), (PAIRED, (0, 5)), (PAIRED, (5, 0)), (MIXED, (0, 0))]
    )
    def test_a_pass_without_samples_is_refused(self, which, sizes):
        with pytest.raises(ValueError, match="The pass .* has no samples"):
            dealt(*sizes, which, 2)
        with pytest.raises(ValueError, match="has no samples"):
            RoundBatches(*sizes, lambda _: (which,), 2, 0).steps(0)

    def test_a_round_without_a_pass_is_refused(self):
        with pytest.raises(ValueError, match="Round 1 has no pass"):
            RoundBatches(3, 5, lambda index: () if index else (MIXED,), 2, 0).first_step(2)


class TestPairs:
    def test_each_retain_batch_is_joined_by_a_forget_batch_and_forget_samples_start_over(self):
        ([batches], _) = dealt(12, 50, PAIRED, 8)
        retain = [[p for p in batch if p >= 12] for batch in batches]
        forget = [[p for p in batch if p < 12] for batch in batches]
        assert [len(batch) for batch in retain] == [8] * 6 + [2]
        assert sorted(flat(retain)) == list(range(12, 62))
        # 56 forget samples in walks of 12: each walk has each of them once, the last one is broken off.
        walked = flat(forget)
        assert [len(batch) for batch in forget] == [8] * 7
        walks = [walked[start : start + 12] for start in range(0, 56, 12)]
        assert all(sorted(walk) == list(range(12)) for walk in walks[:4])
        assert len(set(walks[4])) == 8 and len({tuple(walk) for walk in walks[:4]}) == 4

    @pytest.mark.parametrize(("forget_batch_size", "joined"), [(3, 3), (12, 12), (40, 12)])
    def test_their_number_can_be_set_and_is_the_whole_forget_set_at_most(self, forget_batch_size, joined):
        ([batches], _) = dealt(12, 24, Pass(paired=True, forget_batch_size=forget_batch_size), 8)
        assert [len(batch) for batch in batches] == [8 + joined] * 3
        if joined == 12:
            assert all(sorted(p for p in batch if p < 12) == list(range(12)) for batch in batches)

    def test_over_ranks_few_forget_samples_are_shared_out_and_never_repeated(self):
        """Three forget samples for four batches: one batch has none, and each counts once."""
        ranks, _ = dealt(3, 40, PAIRED, 4, ranks=2, accumulation=2)
        for step in steps_of(ranks, 2):
            forget = [[p for p in part if p < 3] for part in step]
            assert sorted(flat(forget)) == [0, 1, 2]
            assert sorted(len(part) for part in forget) == [0, 1, 1, 1]


class TestBalance:
    HALF = Pass(forget_share=0.5, samples=80)

    def test_every_batch_has_its_share_and_both_sides_start_over(self):
        ([batches], sampler) = dealt(12, 50, self.HALF, 16)
        assert [len(batch) for batch in batches] == [16] * 5 and sampler.steps(0) == 5
        forget, retain = ([p for p in flat(batches) if (p < 12) is side] for side in (True, False))
        assert [sum(p < 12 for p in batch) for batch in batches] == [8] * 5
        assert sorted(forget[:12]) == sorted(forget[12:24]) == list(range(12)) and forget[:12] != forget[12:24]
        assert len(set(retain)) == 40 <= 50  # none of the 50 twice before all had their turn

    def test_a_single_forget_sample_is_once_in_every_batch_and_rounds_differ_in_the_rest(self):
        which = Pass(forget_share=0.25, samples=24)
        ([first], _) = dealt(1, 90, which, 8)
        ([second], _) = dealt(1, 90, which, 8, index=1)
        for batches in (first, second):
            assert [batch.count(0) for batch in batches] == [1, 1, 1]
            assert [len(batch) for batch in batches] == [8, 8, 8]
        assert first != second

    @pytest.mark.parametrize(("ranks", "accumulation"), [(2, 1), (1, 4), (2, 2)])
    def test_the_parts_together_are_the_step_of_one_process(self, ranks, accumulation):
        ([whole], _) = dealt(30, 70, self.HALF, 16)
        parts, _ = dealt(30, 70, self.HALF, 16 // ranks // accumulation, ranks=ranks, accumulation=accumulation)
        steps = steps_of(parts, accumulation)
        assert [sorted(flat(step)) for step in steps] == [sorted(batch) for batch in whole]
        assert {len(part) for step in steps for part in step} == {16 // ranks // accumulation}

    @pytest.mark.parametrize("sizes", [(0, 5), (5, 0)])
    def test_both_sides_are_needed(self, sizes):
        with pytest.raises(ValueError, match="has no samples"):
            dealt(*sizes, self.HALF, 2)


class TestAtLeastTwo:
    """What BatchNorm needs of every batch."""

    @pytest.mark.parametrize(
        ("samples", "size", "sizes"),
        [(33, 32, [33]), (65, 32, [32, 33]), (34, 32, [32, 2]), (64, 32, [32, 32]), (1, 32, [2]), (3, 1, [2, 2, 2])],
    )
    def test_a_last_sample_joins_the_batch_before_it(self, samples, size, sizes):
        ([batches], sampler) = dealt(0, samples, KEPT, size, at_least=2)
        assert [len(batch) for batch in batches] == sizes and sampler.steps(0) == len(sizes)
        assert {position % samples for position in flat(batches)} == set(range(samples))
        assert sorted(position for position in flat(batches) if position < samples) == list(range(samples))

    def test_so_do_the_few_that_would_leave_a_rank_with_one(self):
        """18 samples in steps of 16 on four parts: the two that are left join the first step."""
        ranks, _ = dealt(0, 18, KEPT, 4, ranks=2, accumulation=2, at_least=2)
        (step,) = steps_of(ranks, 2)
        assert sorted(len(part) for part in step) == [4, 4, 5, 5] and sorted(flat(step)) == list(range(18))
        ranks, _ = dealt(0, 24, KEPT, 4, ranks=2, accumulation=2, at_least=2)
        assert [sorted(len(part) for part in step) for step in steps_of(ranks, 2)] == [[4] * 4, [2] * 4]

    def test_without_need_a_last_sample_stays_alone(self):
        ([batches], _) = dealt(0, 33, KEPT, 32)
        assert [len(batch) for batch in batches] == [32, 1]


class TestSharing:
    @pytest.mark.parametrize("which", [MIXED, ALONE, KEPT, (ALONE, KEPT), PAIRED], ids=str)
    @pytest.mark.parametrize(("ranks", "accumulation"), [(2, 1), (1, 4), (2, 2), (4, 1)])
    def test_together_the_parts_of_a_step_are_the_step_of_one_process_with_the_large_batch(
        self, which, ranks, accumulation
    ):
        ([whole], _) = dealt(30, 70, which, 16)
        parts, _ = dealt(30, 70, which, 16 // ranks // accumulation, ranks=ranks, accumulation=accumulation)
        together = [flat(step) for step in steps_of(parts, accumulation)]
        if which is PAIRED:  # both sides are dealt out, so that they are no longer one after the other
            together, whole = ([sorted(step) for step in steps] for steps in (together, whole))
        assert together == whole

    def test_no_step_straddles_two_passes(self):
        ranks, _ = dealt(30, 70, (ALONE, KEPT), 4, ranks=2, accumulation=2)
        sides = [{position < 30 for position in flat(step)} for step in steps_of(ranks, 2)]
        assert sides == [{True}] * 2 + [{False}] * 5  # 30 and 70 in steps of 16

    def test_the_tail_is_dealt_out_evenly(self):
        ranks, _ = dealt(0, 23, KEPT, 4, ranks=2, accumulation=2)
        steps = steps_of(ranks, 2)
        assert [[len(part) for part in step] for step in steps] == [[4] * 4, [1, 2, 2, 2]]

    def test_samples_are_repeated_only_where_there_are_fewer_than_parts_and_can_be_told(self):
        ranks, sampler = dealt(0, 18, KEPT, 4, ranks=2, accumulation=2)
        tail = flat(steps_of(ranks, 2)[1])
        assert sampler.size == 18
        assert sorted([*flat(steps_of(ranks, 2)[0]), *tail[:2]]) == list(range(18))
        assert tail[2:] == [18 + tail[0], 18 + tail[1]]
        ranks, _ = dealt(0, 1, KEPT, 4, ranks=4)
        assert flat(flat(ranks)) == [0, 1, 1, 1]  # of a single sample, its number from the size on is 1

    @pytest.mark.parametrize(("samples", "steps"), [(64, 4), (63, 3), (17, 1), (15, 1)])
    def test_a_tail_can_be_left_out_but_for_the_only_step(self, samples, steps):
        ranks, sampler = dealt(0, samples, KEPT, 4, ranks=2, accumulation=2, drop_last=True)
        assert sampler.steps(0) == steps == len(steps_of(ranks, 2))
        sizes = [len(flat(step)) for step in steps_of(ranks, 2)]
        assert sizes == [min(16, samples)] * steps
        positions = flat(flat(steps_of(ranks, 2)))
        assert len(set(positions)) == len(positions) and max(positions) < samples


class TestSteps:
    """Rounds of different lengths: 2 and 5 steps, 2 and 5, then 5."""

    SAMPLER = RoundBatches(30, 70, lambda index: (ALONE, KEPT) if index < 2 else (KEPT,), 16, 0)

    def test_lengths_and_first_steps_of_rounds(self):
        assert [self.SAMPLER.steps(index) for index in range(4)] == [7, 7, 5, 5]
        assert [self.SAMPLER.first_step(index) for index in range(5)] == [0, 7, 14, 19, 24]

    def test_a_step_is_located_in_its_round_up_to_the_last(self):
        located = [self.SAMPLER.locate(step, 3) for step in range(26)]
        assert located == [0] * 7 + [1] * 7 + [2] * 5 + [3] * 7

    def test_the_pass_of_each_step_and_where_it_ends(self):
        first = [self.SAMPLER.pass_at(0, step) for step in range(7)]
        assert first == [(ALONE, False), (ALONE, True)] + [(KEPT, False)] * 4 + [(KEPT, True)]
        assert [self.SAMPLER.pass_at(2, step)[0] for step in range(5)] == [KEPT] * 5
        with pytest.raises(IndexError, match="Round 2 has no step"):
            self.SAMPLER.pass_at(2, 5)

    def test_the_length_is_that_of_the_current_round_in_batches(self):
        sampler = RoundBatches(30, 70, self.SAMPLER.passes, 4, 0, accumulation=4)
        for index, steps in ((0, 7), (2, 5)):
            sampler.set_epoch(index)
            assert len(sampler) == 4 * steps == len(list(sampler))


ANY_PASS = st.one_of(
    st.sampled_from([MIXED, ALONE, KEPT, PAIRED]),
    st.builds(lambda size: Pass(retain=False, forget_batch_size=size), st.integers(1, 9)),
    st.builds(lambda size: Pass(paired=True, forget_batch_size=size), st.integers(1, 9)),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    num_forget=st.integers(1, 40),
    num_retain=st.integers(1, 40),
    passes=st.lists(ANY_PASS, min_size=1, max_size=3),
    batch_size=st.integers(1, 9),
    ranks=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    drop_last=st.booleans(),
)
def test_what_every_round_owes(num_forget, num_retain, passes, batch_size, ranks, accumulation, drop_last):
    options = {"ranks": ranks, "accumulation": accumulation, "drop_last": drop_last}
    batches, sampler = dealt(num_forget, num_retain, passes, batch_size, **options)
    size, parts = num_forget + num_retain, ranks * accumulation
    assert {len(mine) for mine in batches} == {len(sampler)} == {sampler.steps(0) * accumulation}
    assert all(batch for mine in batches for batch in mine)  # every rank has something to do in every batch
    steps = steps_of(batches, accumulation)
    at = [sampler.pass_at(0, step) for step in range(len(steps))]
    assert sum(last for _, last in at) == len(passes)
    ends = [number + 1 for number, (_, last) in enumerate(at) if last]
    for current, start, end in zip(passes, [0, *ends], ends, strict=False):
        seen, mine = Counter(), steps[start:end]
        assert all(now is current for now, _ in at[start:end])
        for step in mine:
            real = [p for p in flat(step) if p < size]
            # Where forget samples start over within a step, one may be in it twice.
            assert len(set(real)) == len(real) or (current.paired and max(Counter(real).values()) == 2)
            repeated = [p for p in flat(step) if p >= size]
            walked = [p for p in real if not current.paired or p >= num_forget]
            assert len(repeated) == max(parts - len(walked), 0)
            assert {p - size for p in repeated} <= set(walked)
            lengths = [len(part) for part in step]
            assert max(lengths) - min(lengths) <= (2 if current.paired else 1)
            seen.update(real)
        retain = {p: n for p, n in seen.items() if p >= num_forget}
        forget = [seen[p] for p in range(num_forget)]
        assert set(retain.values()) <= {1} and bool(retain) <= current.retain
        if not drop_last:
            assert len(retain) == (num_retain if current.retain else 0)
        if current.paired:
            assert max(forget) - min(forget) <= 1  # they start over only when all had their turn
        else:
            assert set(forget) <= ({0, 1} if current.forget else {0})
            assert drop_last or set(forget) == {int(current.forget)}


class TestInTurn:
    """A pass over the retain samples, with steps on forget samples before every so-many-th."""

    @pytest.mark.parametrize(
        ("every", "expected"), [(1, "frfrfrfrfr"), (2, "frrfrrfr"), (4, "frrrrfr"), (5, "frrrrr"), (9, "frrrrr")]
    )
    def test_the_steps_and_their_number(self, every, expected):
        ([batches], sampler) = dealt(30, 70, Pass(forget_every=every), 16)
        assert "".join("f" if max(batch) < 30 else "r" for batch in batches) == expected
        assert all(max(batch) < 30 or min(batch) >= 30 for batch in batches)
        assert len(batches) == sampler.steps(0) == len(sampler)
        for step, kind in enumerate(expected):
            current, is_last = sampler.pass_at(0, step)
            assert (current.forget, current.retain) == ((True, False) if kind == "f" else (False, True))
            assert current.forget_every is None and is_last == (step == len(expected) - 1)

    def test_every_retain_sample_comes_once_and_the_forget_samples_start_over(self):
        ([batches], _) = dealt(30, 70, Pass(forget_every=1), 16)
        assert sorted(p for batch in batches for p in batch if p >= 30) == list(range(30, 100))
        forget = [p for batch in batches for p in batch if p < 30]
        assert len(forget) == 5 * 16 and sorted(forget[:30]) == sorted(forget[30:60]) == list(range(30))
        assert forget[:30] != forget[30:60]

    def test_fewer_forget_samples_than_a_batch_come_all(self):
        ([batches], _) = dealt(5, 70, Pass(forget_every=2), 16)
        assert [sorted(batch) for batch in batches if max(batch) < 5] == [list(range(5))] * 3

    def test_ranks_and_accumulated_batches_share_each_step(self):
        ([alone], _) = dealt(30, 70, Pass(forget_every=2), 16)
        ranks, sampler = dealt(30, 70, Pass(forget_every=2), 4, ranks=2, accumulation=2)
        assert [flat(step) for step in steps_of(ranks, 2)] == alone
        assert sampler.steps(0) == len(alone)

    def test_a_batch_norm_model_gets_no_batch_of_one(self):
        ranks, _ = dealt(3, 70, Pass(forget_every=2), 4, ranks=2, at_least=2)
        assert all(len(batch) >= 2 for batches in ranks for batch in batches)

    def test_both_sides_are_needed(self):
        with pytest.raises(ValueError, match="has no samples"):
            dealt(0, 70, Pass(forget_every=2), 16)


class TestParts:
    """Thirty forget samples, of which every third is of one part."""

    OPTIONS = {"parts": torch.arange(30) % 3}

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_a_pass_takes_the_samples_of_its_part_alone(self, part):
        mine = list(range(part, 30, 3))
        for which, positions in ((ALONE, mine), (MIXED, [*mine, *range(30, 100)]), (KEPT, list(range(30, 100)))):
            ([batches], sampler) = dealt(30, 70, replace(which, part=part), 16, **self.OPTIONS)
            assert sorted(flat(batches)) == positions != flat(batches)
            assert len(batches) == len(sampler) == -(-len(positions) // 16)

    def test_pairs_and_balanced_passes_cycle_through_the_part(self):
        for which in (replace(PAIRED, part=1), Pass(forget_share=0.5, samples=64, part=1)):
            ([batches], _) = dealt(30, 70, which, 16, **self.OPTIONS)
            shown = [position for position in flat(batches) if position < 30]
            assert set(shown) == set(range(1, 30, 3)) and len(shown) > 10

    def test_it_is_dealt_out_to_ranks_and_accumulated_batches_once(self):
        ranks, _ = dealt(30, 70, replace(MIXED, part=2), 8, ranks=2, accumulation=2, **self.OPTIONS)
        assert sorted(flat(flat(ranks))) == [*range(2, 30, 3), *range(30, 100)]

    def test_without_a_part_all_samples_take_part_in_the_order_of_the_seed(self):
        ([given], _), ([expected], _) = dealt(30, 70, MIXED, 16, **self.OPTIONS), dealt(30, 70, MIXED, 16)
        assert given == expected

    def test_a_part_without_samples_is_refused(self):
        for which in (replace(ALONE, part=5), replace(PAIRED, part=5)):
            with pytest.raises(ValueError, match="has no samples"):
                dealt(30, 70, which, 16, **self.OPTIONS)[1].steps(0)


class TestCounts:
    """What is known of each batch without looking at it, against a count."""

    @pytest.mark.parametrize(
        "passes",
        [MIXED, (ALONE, KEPT), PAIRED, Pass(forget_share=0.25, samples=64), Pass(forget_every=2)],
        ids=["mixed", "two passes", "pairs", "balanced", "in turn"],
    )
    def test_they_are_those_of_the_batches(self, passes):
        ranks, sampler = dealt(13, 50, passes, 4, ranks=2, accumulation=2, at_least=2, index=1)
        for step, parts in enumerate(steps_of(ranks, 2)):
            once = [p for p in flat(parts) if p < 63]
            forgotten = sum(p < 13 for p in once)
            assert sampler.counted(step) == (len(once) - forgotten, forgotten)
            for turn in range(2):
                mine = [p % 63 for p in parts[2 * turn]]
                assert sampler.shown(step, turn) == (sum(p >= 13 for p in mine), sum(p < 13 for p in mine))

    def test_of_repeated_samples_only_the_first_counts(self):
        """Three samples for four batches of two: five are repeated, and known by their numbers."""
        _, sampler = dealt(3, 40, ALONE, 8, ranks=2, accumulation=2, at_least=2)
        assert sampler.counted(0) == (0, 3) and sampler.shown(0, 0) == (0, 2)

    def test_each_round_has_its_own(self):
        _, sampler = dealt(13, 50, MIXED, 4)
        first = [sampler.shown(step, 0) for step in range(16)]
        sampler.set_epoch(1)
        assert first != [sampler.shown(step, 0) for step in range(16)]
        assert sum(sampler.shown(step, 0).forgotten for step in range(16)) == 13
