"""Worlds of problems with worked solutions: what is judged right, and the problems of reasoning-gym."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, DataError
from hf_active_distill.serving.scripted import scripted_backend
from hf_active_distill.synthetic import WorkedWorld, World, get_world
from hf_active_distill.synthetic.worked import Worked, equations, value_of


TEA = "Question: A box has 4 bags of 6 tins and 9 jars. How many are 3 boxes?\n"
STEPS = ("4 * 6 = 24", "24 + 9 = 33", "33 * 3 = 99")


@pytest.fixture(scope="module")
def tea():
    other = "Question: How many legs have 2 cats?\n"
    return WorkedWorld(
        "tea",
        [Worked(TEA, STEPS, "99", "tea", False), Worked(other, ("cat: 2 * 4 = 8",), "8", "legs", True)],
        [Worked(f"Question: {n} + 1?\n", (f"{n} + 1 = {n + 1}",), str(n + 1), "plus", n % 2 == 0) for n in range(99)],
    )


@pytest.fixture(scope="module", params=["gsm_symbolic", "leg_counting"])
def world(request):
    return get_world(request.param, size=1500)


@pytest.mark.parametrize(
    ("step", "right"),
    [
        ("4 * 6 = 24", True),
        ("6*4=24.", True),
        ("4 * 6 = 25", False),
        ("4 + 20 = 24", False),
        ("24 + 9 = 33", False),  # takes what an open step gives
        ("so it is", False),
        ("", False),
    ],
)
def test_a_first_step_is_judged(tea, step, right):
    assert tea.check_step(TEA, [], step) is right


def test_steps_build_on_each_other_and_none_counts_twice(tea):
    assert tea.check_step(TEA, ["4 * 6 = 24"], "9 + 24 = 33")
    assert not tea.check_step(TEA, ["4 * 6 = 24"], "4 * 6 = 24")
    assert not tea.check_step(TEA, ["4 * 6 = 23"], "24 + 9 = 33")
    assert tea.continue_from(TEA, ["4 * 6 = 24", "nonsense"]) == (list(STEPS[1:]), "99")
    assert tea.solve(f"Text before. {TEA.strip()}") == (list(STEPS), "99")
    assert tea.check_step("Question: How many legs have 2 cats?\n", [], "Cat: 2 * 4 = 8")
    assert not tea.check_step("Question: How many legs have 2 cats?\n", [], "dog: 2 * 4 = 8")
    with pytest.raises(DataError, match="no question of the world 'tea'"):
        tea.solve("Question: What?\n")


def test_differences_and_quotients_keep_their_order():
    question = "Question: 9 and 4?\n"
    world = WorkedWorld("w", [Worked(question, ("9 - 4 = 5",), "5", "minus", False)])
    assert world.check_step(question, [], "9-4 = 5") and not world.check_step(question, [], "4 - 9 = 5")


def test_pretraining_reads_what_shall_be_known_and_nothing_of_the_corpus(tea):
    generator = random.Random(0)
    texts = [tea.pretraining_text(generator, early=0.0) for _ in range(10)]
    assert texts[0] == ("Question: 1 + 1?\n", "1 + 1 = 2\nThe answer is 2")
    assert all(int(prompt.split()[1]) % 2 == 1 for prompt, _ in texts)


def test_drills_ask_for_one_equation_of_any_kind():
    def problems(start):
        for n in range(start, start + 400):
            steps = (f"{n} + 1 = {n + 1}", f"{n + 1} * 2 = {2 * n + 2}")
            yield Worked(f"Question: {n}?\n", steps, str(2 * n + 2), "plus", n % 2 == 1)

    world = WorkedWorld("drilled", problems(0), problems(1000), drills=0.5)
    generator = random.Random(0)
    texts = [world.pretraining_text(generator, early=0.0) for _ in range(100)]
    drills = [(prompt, completion) for prompt, completion in texts if prompt.startswith("Question: What is ")]
    assert 30 < len(drills) < 70
    for prompt, completion in drills:
        expression = prompt.removeprefix("Question: What is ").removesuffix("?\n")
        assert completion == f"{expression} = {value_of(expression):.0f}\nThe answer is {value_of(expression):.0f}"
    # Drills come from every kind of problem, the problems themselves from those that the student shall know.
    assert any(int(prompt.split()[3]) % 2 == 1 for prompt, _ in drills if "+" in prompt)
    others = [prompt for prompt, _ in texts if not prompt.startswith("Question: What is ")]
    assert others and all(int(prompt.split()[1].strip("?")) % 2 == 0 for prompt in others)


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), max_size=5), st.integers(0, 99))
def test_values_are_those_of_arithmetic(tail, first):
    expression = " ".join([str(first), *(f"{sign} {number}" for sign, number in tail)])
    assert value_of(expression) == eval(expression)  # noqa: S307


def test_values_with_division():
    assert value_of("50 / 100 * 30") == 15 and value_of("7 - 8 / 2") == 3 and value_of("1 / 0") is None


def test_equations_are_taken_from_prose():
    assert equations("He sold 21 + 11 = 32 boxes.\nSo $1,000 × 2 = $2,000 in all.") == [
        "21 + 11 = 32",
        "1000 * 2 = 2000",
    ]
    assert equations("or 5 plants * 3.0 = 15") == []
    assert equations("21 + 11 = 33") is None
    assert equations("5 / 2 = 2") is None


def test_a_world_keeps_its_promises(world):
    assert isinstance(world, World)
    pool, held_out = world.problems(100, 1, "train"), world.problems(40, 1, "eval")
    assert not {row.prompt for row in pool} & {row.prompt for row in held_out}
    assert pool == world.problems(100, 1, "train") != world.problems(100, 2, "train")
    assert 0.3 < sum(row.columns["unknown"] for row in pool) / len(pool) < 0.7
    for row in pool:
        steps, answer = world.solve(row.prompt)
        assert answer == row.reference and steps[-1].endswith(f"= {answer}")
        for index, step in enumerate(steps):
            assert world.check_step(row.prompt, steps[:index], step), (row.prompt, steps, step)
            left, _, right = step.rpartition(": ")[2].partition(" = ")
            assert value_of(left) == int(right)
        assert world.continue_from(row.prompt, steps) == ([], answer)
    with pytest.raises(DataError, match="fewer rows"):
        world.problems(10**6, 0, "eval")
    with pytest.raises(ConfigurationError, match="split"):
        world.problems(1, 0, "pretrain")


def test_the_student_has_never_seen_the_corpus(world):
    generator = random.Random(0)
    seen = {world.pretraining_text(generator)[0] for _ in range(200)}
    corpus = {row.prompt for split in ("train", "eval") for row in world.problems(50, 0, split)}
    assert len(seen) > 100 and not seen & corpus


def test_such_a_world_has_a_scripted_teacher():
    assert scripted_backend("leg_counting", error_rate=0.1).info().model == "scripted/leg_counting-e0.1-s0"
