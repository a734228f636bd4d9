"""The gate against its definition, written out with loops over plain numbers."""

import copy
import itertools
import json
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import CheckpointError, ConfigurationError, DataError
from hf_active_distill.losses import LLKDGate, normalised_entropy, starved_classes
from hf_active_distill.losses.llkd import CLASS_FACTORS, CLASS_STATISTICS, COMBINATIONS, MODES, STARTS


NAMES = ["a", "b", "c"]


class Definition:
    """Averages as plain weighted sums over the whole history: sum of m^(t-s) (1-m) x_s, over the sum of weights."""

    def __init__(self, k, statistic, factor, momentum, start):
        self.k, self.statistic, self.factor, self.m, self.start = k, statistic, factor, momentum, start
        self.history = {side: {"all": [], **{j: [] for j in range(k)}} for side in "TS"}

    def see(self, batch):
        """Rows are (c, u, y, p_teacher, p_student)."""
        for side, at, p in (("T", 0, 3), ("S", 1, 4)):
            self.history[side]["all"].append(sum(row[at] for row in batch) / len(batch))
            for j in range(self.k):
                if self.statistic == "expectation":
                    self.history[side][j].append(sum(row[p][j] for row in batch) / len(batch))
                else:
                    own = [row[at] for row in batch if row[2] == j]
                    if own:
                        self.history[side][j].append(sum(own) / len(own))

    def average(self, values):
        m, t = self.m, len(values)
        moved = sum((1 - m) * m ** (t - 1 - s) * value for s, value in enumerate(values))
        if self.start == "uniform":
            return m**t / self.k + moved
        return moved / (1 - m**t) if t else None

    def tau(self, side, j):
        g = self.average(self.history[side]["all"])
        local = [self.average(self.history[side][i]) for i in range(self.k)]
        known = [value for value in local if value is not None]
        if self.factor == "none" or local[j] is None:
            return g
        if self.factor == "own":
            return local[j]
        norm = max(known) if self.factor == "max_norm" else sum(known) / len(known)
        return g * local[j] / norm

    def keeps(self, row, mode):
        sure = row[0] >= self.tau("T", row[2]) - 1e-12
        unsure = row[1] >= self.tau("S", row[2]) - 1e-12
        return {"both": sure and unsure, "teacher_only": sure, "student_only": unsure, "off": True}[mode]


def simplex(generator, k=3):
    # Multiples of 1/1024, so that float32 holds them exactly.
    cuts = sorted(generator.randrange(1025) for _ in range(k - 1))
    return [(b - a) / 1024 for a, b in itertools.pairwise([0, *cuts, 1024])]


def make_batch(generator, rows, labels=range(3)):
    batch = []
    for _ in range(rows):
        teacher, student = simplex(generator), simplex(generator)
        y = generator.choice(list(labels))
        batch.append((max(teacher), generator.randrange(1025) / 1024, y, teacher, student))
    return batch


def tensors(batch):
    c, u, y, teacher, student = ([row[i] for row in batch] for i in range(5))
    probabilities = {
        "teacher_probabilities": torch.tensor(teacher).reshape(-1, 3),
        "student_probabilities": torch.tensor(student).reshape(-1, 3),
    }
    return torch.tensor(c), torch.tensor(u), torch.tensor(y, dtype=torch.long), probabilities


@pytest.mark.parametrize("factor", CLASS_FACTORS)
@pytest.mark.parametrize("statistic", CLASS_STATISTICS)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
def test_every_option_is_what_its_definition_says(factor, statistic, start, momentum):
    if (statistic, factor) == ("expectation", "own"):
        with pytest.raises(ConfigurationError, match="conditional_mean"):
            LLKDGate(NAMES, class_statistic=statistic, class_factor=factor)
        return
    options = {"class_statistic": statistic, "class_factor": factor, "momentum": momentum, "start": start}
    gates = {mode: LLKDGate(NAMES, mode=mode, **options) for mode in MODES}
    definition = Definition(3, statistic, factor, momentum, start)
    generator = random.Random(7)
    for step in range(12):
        # No row of the last class at first, then none of the first one.
        batch = make_batch(generator, generator.randint(1, 9), range(2) if step < 4 else range(1, 3))
        definition.see(batch)
        c, u, y, probabilities = tensors(batch)
        for mode, gate in gates.items():
            gate.update(c, u, y, **probabilities)
            for taus, side in zip(gate.thresholds(), "TS", strict=True):
                assert taus == pytest.approx([definition.tau(side, j) for j in range(3)], abs=1e-9)
            assert gate.keep(c, u, y).tolist() == [definition.keeps(row, mode) for row in batch]


def test_thresholds_by_hand():
    gate = LLKDGate(NAMES, momentum=0.5)
    assert gate.thresholds() == ([0.0] * 3, [0.0] * 3)
    gate.update(torch.tensor([0.5, 1.0]), torch.tensor([0.25, 0.75]), torch.tensor([0, 1]))
    # g = 0.75, l = 0.5 and 1; class c was not seen.
    assert gate.thresholds()[0] == [0.375, 0.75, 0.75]
    gate.update(torch.tensor([0.25]), torch.tensor([0.5]), torch.tensor([0]))
    # g = (0.25 * 0.75 + 0.5 * 0.25) / 0.75, l(a) = (0.25 * 0.5 + 0.5 * 0.25) / 0.75
    assert gate.thresholds()[0] == pytest.approx([5 / 12 * (1 / 3), 5 / 12, 5 / 12])
    assert gate.figures()["gate_teacher_threshold/b"] == pytest.approx(5 / 12)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("value", [1.0, 0.9, 0.1, 1e-7, 0.0])
def test_equal_values_pass_their_own_threshold(momentum, value):
    """A teacher that says 1.0 throughout (sampled labels) must not be shut out by rounding."""
    gate = LLKDGate(NAMES, momentum=momentum)
    same, labels = torch.full((7,), value), torch.arange(7) % 3
    for _ in range(50):
        gate.update(same, same, labels)
        assert gate.keep(same, same, labels).all()


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_weights_and_that_no_gradient_flows(combine):
    gate = LLKDGate(NAMES, combine=combine, alpha=0.25)
    c, u = torch.tensor([0.9, 0.5], requires_grad=True), torch.tensor([0.2, 1.0], requires_grad=True)
    by_hand = {
        "sum": [1.1, 1.5],
        "product": [0.18, 0.5],
        "mix": [0.25 * 0.9 + 0.75 * 0.2, 0.25 * 0.5 + 0.75],
        "one": [1, 1],
    }
    weights = gate.weights(c, u)
    assert weights.tolist() == pytest.approx(by_hand[combine]) and not weights.requires_grad
    assert not gate.keep(c, u, torch.tensor([0, 1])).requires_grad


@given(st.integers(0, 10_000), st.integers(1, 40), st.lists(st.integers(0, 40), max_size=4), st.booleans())
@settings(deadline=None, max_examples=60)
def test_splitting_a_batch_over_processes_changes_no_bit(seed, rows, cuts, expectation):
    statistic = "expectation" if expectation else "conditional_mean"
    generator = torch.Generator().manual_seed(seed)
    c, u = torch.rand(rows, generator=generator), torch.rand(rows, generator=generator) ** 8
    y = torch.randint(0, 3, (rows,), generator=generator)
    p = torch.rand(rows, 3, generator=generator).softmax(-1)
    whole, split = (LLKDGate(NAMES, class_statistic=statistic) for _ in range(2))
    bounds = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    order = torch.randperm(rows, generator=generator)
    for _ in range(3):
        whole.update(c, u, y, teacher_probabilities=p, student_probabilities=p.flip(1))
        parts = [order[a:b] for a, b in itertools.pairwise(bounds)] + [order[:0]]
        sums = [
            split.statistics(c[i], u[i], y[i], teacher_probabilities=p[i], student_probabilities=p[i].flip(1))
            for i in parts
        ]
        split.apply(torch.stack(sums).sum(0))
        assert split.state_dict() == whole.state_dict()
        kept = torch.cat([split.keep(c[i], u[i], y[i]) for i in parts])
        assert torch.equal(kept, whole.keep(c, u, y)[order])


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_the_state_survives_json_bit_by_bit(seed):
    generator = random.Random(seed)
    first = LLKDGate(NAMES, momentum=0.97)
    batches = [tensors(make_batch(generator, 5)) for _ in range(6)]
    for c, u, y, _ in batches[:3]:
        first.update(c, u, y)
        first.count(first.keep(c, u, y), y)
    second = LLKDGate(NAMES, momentum=0.97)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    frozen = copy.deepcopy(first.state_dict())
    for c, u, y, _ in batches[3:]:
        for gate in (first, second):
            gate.update(c, u, y)
        assert second.state_dict() == first.state_dict() != frozen
        assert second.thresholds() == first.thresholds()
        assert torch.equal(second.keep(c, u, y), first.keep(c, u, y))


def test_a_gate_over_other_labels_is_refused():
    state = LLKDGate(NAMES).state_dict()
    with pytest.raises(CheckpointError, match="label set"):
        LLKDGate(["b", "a", "c"]).load_state_dict(state)


def test_an_empty_batch_changes_nothing():
    gate = LLKDGate(NAMES)
    c, u, y, _ = tensors(make_batch(random.Random(0), 4))
    gate.update(c, u, y)
    before = gate.state_dict()
    gate.update(c[:0], u[:0], y[:0])
    assert gate.state_dict() == before and gate.keep(c[:0], u[:0], y[:0]).tolist() == []


def sharp_and_vague(rows):
    """A class whose teacher is sure, and a rarer one whose teacher never is: the collapse of gating on confidence."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.arange(rows) % 4 == 0).long()
    noise = torch.rand(rows, generator=generator)
    return torch.where(y == 0, 0.9 + 0.1 * noise, 0.5 + 0.2 * noise), torch.rand(rows, generator=generator), y


@pytest.mark.parametrize(
    ("options", "starved"),
    [
        ({"class_factor": "none"}, ["vague"]),
        ({"class_factor": "max_norm"}, []),
        ({"class_factor": "own"}, []),
        ({"class_factor": "none", "min_class_share": 0.3}, []),
    ],
)
def test_one_threshold_starves_a_class_and_gates_by_class_do_not(options, starved):
    gate = LLKDGate(["sharp", "vague"], mode="teacher_only", momentum=0.9, **options)
    c, u, y = sharp_and_vague(400)
    for i in range(0, 400, 40):
        part = slice(i, i + 40)
        gate.update(c[part], u[part], y[part])
        gate.count(gate.keep(c[part], u[part], y[part]), y[part])
    assert gate.drawn == [300, 100] and list(gate.starved()) == starved
    assert gate.figures()["gate_kept_share"] == sum(gate.kept) / 400
    assert gate.figures()["gate_kept/vague"] == gate.kept[1]


def test_the_quota_takes_the_best_of_those_refused_and_no_more():
    gate = LLKDGate(NAMES, min_class_share=0.5, class_factor="none", momentum=0.0)
    c = torch.tensor([0.9, 0.2, 0.3, 0.4, 0.9, 0.1])
    u = torch.tensor([0.9, 0.2, 0.3, 0.1, 0.9, 0.0])
    y = torch.tensor([0, 1, 1, 1, 0, 2])
    gate.update(c, u, y)
    # The condition keeps rows 0 and 4. Two of three rows of b: 2 (0.6), then 3 (0.5); the only row of c.
    assert gate.keep(c, u, y).tolist() == [True, False, True, True, True, True]


def test_starved_classes_by_hand():
    drawn = {"a": 900, "b": 90, "c": 10, "d": 0}
    # b: 10 of 910 kept where 90 of 1000 were drawn; c is too rare to be judged.
    found = starved_classes(drawn, {"a": 900, "b": 10})
    assert found == {"b": pytest.approx(10 / 910 / 0.09)}
    assert starved_classes(drawn, {"a": 900, "b": 10}, min_drawn=5) == {"b": pytest.approx(0.1221, abs=1e-4), "c": 0}
    assert starved_classes(drawn, {}) == starved_classes({}, {}) == {}
    assert starved_classes(drawn, {"a": 900, "b": 60}) == {}


def test_uncertainty_is_the_entropy_over_that_of_the_uniform():
    logits = torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0], [1.0, 2.0, -1.0], [0.0, 0.0, -math.inf]])
    found = normalised_entropy(logits.requires_grad_())
    p = [math.exp(x) / sum(map(math.exp, (1, 2, -1))) for x in (1, 2, -1)]
    by_hand = [1.0, 0.0, -sum(q * math.log(q) for q in p) / math.log(3), math.log(2) / math.log(3)]
    assert found.tolist() == pytest.approx(by_hand, abs=1e-6) and not found.requires_grad
    many = normalised_entropy(torch.tensor([[0.0, 50.0], [0.0, 0.0]]), multi_label=True)
    assert many.tolist() == pytest.approx([0.5, 1.0], abs=1e-6)
    assert normalised_entropy(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "all"}, "mode='all'.*both, teacher_only"),
        ({"class_statistic": "median"}, "conditional_mean"),
        ({"class_factor": "x"}, "max_norm"),
        ({"start": "x"}, "uniform"),
        ({"combine": "x"}, "product"),
        ({"momentum": 1.0}, "0.9 to 0.999"),
        ({"alpha": 2}, "alpha=2"),
        ({"min_class_share": -1}, "share"),
    ],
)
def test_odd_options_say_what_there_is(options, words):
    with pytest.raises(ConfigurationError, match=words):
        LLKDGate(NAMES, **options)
    with pytest.raises(ConfigurationError, match="two names"):
        LLKDGate(["only"])


def test_odd_values_are_refused():
    gate = LLKDGate(NAMES)
    one, y = torch.tensor([0.5]), torch.tensor([0])
    with pytest.raises(DataError, match="diverged"):
        gate.update(one, torch.tensor([math.nan]), y)
    with pytest.raises(DataError, match="confidence.*between 0 and 1"):
        gate.update(torch.tensor([1.2]), one, y)
    with pytest.raises(DataError, match="one length"):
        gate.update(one, torch.tensor([0.5, 0.5]), y)
    with pytest.raises(DataError, match="outside"):
        gate.keep(one, one, torch.tensor([3]))
    with pytest.raises(ConfigurationError, match="student_probabilities"):
        LLKDGate(NAMES, class_statistic="expectation").update(one, one, y, teacher_probabilities=torch.ones(1, 3) / 3)
