"""The arithmetic worlds: splits, solutions against Python's own arithmetic, and what passes as a right step."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, DataError
from hf_active_distill.synthetic import World, available_worlds, get_world, register_world
from hf_active_distill.synthetic.arithmetic import ArithmeticWorld, read_problem, read_step, split_of
from hf_active_distill.synthetic.operations import KNOWN, OPERATIONS, UNKNOWN, loose_meaning, write_sum
from hf_active_distill.synthetic.pretraining import pretraining_text


FORK = "Question: Ann has double 12. Ben has 5 plus 7. Eva has Ann minus Ben. How many has Eva?\n"

# What each phrase means, said once more and independently: a function of the numbers in the order they are told.
BY_HAND = {
    r"(\w+) plus (\w+)": lambda x, y: x + y,
    r"(\w+) minus (\w+)": lambda x, y: x - y,
    r"(\w+) more than (\w+)": lambda x, y: x + y,
    r"the number after (\w+)": lambda x: x + 1,
    r"(\w+) and ten": lambda x: x + 10,
    r"(\w+) less five": lambda x: x - 5,
    r"double (\w+)": lambda x: 2 * x,
    r"the digits of (\w+)": lambda x: sum(map(int, str(x))),
    r"(\w+) rounded down": lambda x: x // 10 * 10,
    r"a dozen over (\w+)": lambda x: x + 12,
    r"a score under (\w+)": lambda x: x - 20,
    r"a fortnight past (\w+)": lambda x: x + 14,
    r"a week before (\w+)": lambda x: x - 7,
    r"(\w+) shy of (\w+)": lambda x, y: y - x,
    r"(\w+) topped by (\w+)": lambda x, y: x + y % 10,
}


def answer_by_hand(question):
    values = {}
    told, asked = question.removeprefix("Question: ").rsplit(" How many has ", 1)
    for sentence in told.split(". "):
        name, phrase = sentence.rstrip(".").split(" has ")
        (meaning, match), *others = [(f, m) for p, f in BY_HAND.items() if (m := re.fullmatch(p, phrase))]
        assert not others
        values[name] = meaning(*(int(values.get(word, word)) for word in match.groups()))
    return str(values[asked.strip().rstrip("?")])


@pytest.mark.parametrize("name", ["arithmetic_skewed", "arithmetic_balanced"])
@pytest.mark.parametrize("split", ["pretrain", "train", "eval"])
def test_references_are_right_and_every_step_checks(name, split):
    world = get_world(name)
    for row in world.problems(150, 3, split):
        steps, answer = world.solve(row.prompt)
        assert answer == row.reference == answer_by_hand(row.prompt)
        assert steps[-1].endswith(f"= {answer}")
        for i, step in enumerate(steps):
            expression, value = step.split(": ")[1].split(" = ")
            assert eval(expression) == int(value)
            assert world.check_step(row.prompt, steps[:i], step)
            assert world.continue_from(row.prompt, steps[:i]) == (steps[i:], answer)


def test_splits_share_no_question_and_rows_are_unique_and_seeded():
    world = get_world("arithmetic_skewed")
    rows = {
        (split, seed): world.problems(300, seed, split) for split in ("train", "eval", "pretrain") for seed in (0, 1)
    }
    prompts = {key: {row.prompt for row in found} for key, found in rows.items()}
    assert all(len(found) == 300 for found in prompts.values())
    for first in prompts:
        for second in prompts:
            if first[0] != second[0]:
                assert not prompts[first] & prompts[second]
                assert {row.row_id for row in rows[first]}.isdisjoint(row.row_id for row in rows[second])
    assert rows["train", 0] == world.problems(300, 0, "train")
    assert prompts["train", 0] != prompts["train", 1]
    assert world.problems(20, 0, "train") == rows["train", 0][:20]


def test_pretraining_never_sees_a_row_of_pool_or_evaluation():
    generator = random.Random(0)
    assert {split_of(pretraining_text(generator)[0]) for _ in range(500)} == {"pretrain"}


@pytest.mark.parametrize(
    "name, split, share",
    [
        ("arithmetic_skewed", "train", 0.15),
        ("arithmetic_skewed", "eval", 0.6),
        ("arithmetic_balanced", "train", 0.6),
        ("arithmetic_balanced", "eval", 0.6),
    ],
)
def test_shares_of_unknown_rows(name, split, share):
    rows = get_world(name).problems(2000, 0, split)
    unknown = {operation.name for operation in UNKNOWN}
    for row in rows:
        assert row.columns["unknown"] == bool(unknown & set(row.columns["operations"]))
    # Five standard errors.
    assert sum(row.columns["unknown"] for row in rows) / 2000 == pytest.approx(share, abs=0.06)
    used = {name for row in rows for name in row.columns["operations"]}
    assert used == {operation.name for operation in OPERATIONS}


@pytest.mark.parametrize(
    "previous, step, right",
    [
        ([], "Ann: 12 + 12 = 24", True),
        ([], "Ben: 5 + 7 = 12", True),
        (["Ben: 5 + 7 = 12"], "Ann: 12 + 12 = 24", True),
        ([], "Ben: 7 + 5 = 12", True),
        ([], "Ann has 12 plus 12 is 24.", True),
        ([], "Step 1: Ann = 12+12=24", True),
        ([], "2) Ben: 12", True),
        ([], "Eva: 24 - 12 = 12", False),  # neither input is worked out
        (["Ann: 12 + 12 = 24"], "Eva: 24 - 12 = 12", False),  # one is missing
        (["Ann: 12 + 12 = 24", "Ben: 5 + 7 = 12"], "Eva: 24 - 12 = 12", True),
        (["Ann: 12 + 12 = 24", "Ben: 5 + 7 = 12"], "Eva: -12 + 24 = 12", True),
        (["Ann: 12 + 12 = 25", "Ben: 5 + 7 = 12"], "Eva: 24 - 12 = 12", False),  # an input was wrong
        (["Ann: 12 + 12 = 24"], "Ann: 12 + 12 = 24", False),  # said before
        ([], "Ann: 12 + 12 = 25", False),
        ([], "Ann: 20 + 4 = 24", False),  # right number, not what double means
        ([], "Ann: 12 + 12 = 20 + 4 = 24", False),
        ([], "Tom: 12 + 12 = 24", False),
        ([], "I think that Ann has a lot", False),
        ([], "Ann: 12 + = 24", False),
        ([], "", False),
    ],
)
def test_a_step_is_judged_by_its_meaning(previous, step, right):
    assert get_world("arithmetic_skewed").check_step(FORK, previous, step) is right


def test_going_on_from_another_order_and_from_a_wrong_step():
    world = get_world("arithmetic_skewed")
    assert world.continue_from(FORK, ["Ben: 5 + 7 = 12"]) == (["Ann: 12 + 12 = 24", "Eva: 24 - 12 = 12"], "12")
    assert world.continue_from(FORK, ["Ann: 12 + 12 = 23"]) == world.solve(FORK)
    steps, _ = world.solve(FORK)
    assert world.continue_from(FORK, steps) == ([], "12")


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_every_valid_order_checks_and_no_other(seed, generator):
    world = ArithmeticWorld(pool_unknown=0.5)
    (row,) = world.problems(1, seed, "train")
    steps, answer = world.solve(row.prompt)
    inputs = {s.name: s.inputs() for s in read_problem(row.prompt).sentences}
    generator.shuffle(steps)
    done, accepted = set(), []
    for step in steps:
        name = step.split(":")[0]
        assert world.check_step(row.prompt, accepted, step) is (inputs[name] <= done)
        if inputs[name] <= done:
            done.add(name)
            accepted.append(step)
    rest, found = world.continue_from(row.prompt, accepted)
    assert found == answer and len(accepted) + len(rest) == len(steps)


def test_a_question_is_found_inside_other_text():
    world = get_world("arithmetic_skewed")
    wrapped = f"Here is a problem.\n\n{FORK}\nPlease solve it step by step."
    assert world.solve(wrapped) == world.solve(FORK)
    assert world.solve(FORK.removeprefix("Question: ").strip()) == world.solve(FORK)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is 3 + 4?",
        "Ann has triple 12. How many has Ann?",
        "Ann has double Ben. Ben has double 3. How many has Ann?",
        "Ann has double 3. How many has Tom?",
        "Ann has double 3. Ann has double 4. How many has Ann?",
    ],
)
def test_what_is_no_question_is_refused(text):
    with pytest.raises(DataError, match="World.problems"):
        get_world("arithmetic_skewed").solve(text)


def test_steps_are_read_whatever_their_wording():
    assert read_step("Ann: 12 - 5 = 7") == ("Ann", [(12, -5), (7,)])
    assert read_step("3. ann gets 12 minus 5 equals 7.") == ("Ann", [(12, -5), (7,)])
    assert read_step("#### 7") is None


@given(st.lists(st.integers(-99, 99), min_size=1, max_size=4))
def test_sums_are_written_as_python_reads_them(terms):
    assert eval(write_sum(tuple(terms))) == sum(terms)


def test_phrases_are_read_by_one_operation_only():
    for operation in OPERATIONS:
        operands = ["41", "Ben"][: operation.arity]
        readers = [op.name for op in OPERATIONS if op.read(operation.say(operands)) is not None]
        assert readers == [operation.name]
        assert operation.read(operation.say(operands)) == operands


def test_unknown_words_are_heard_with_many_meanings():
    generator = random.Random(0)
    for operation in UNKNOWN:
        operands = (40, 17)[: operation.arity]
        heard = [sum(loose_meaning(operation, generator)(*operands)) for _ in range(400)]
        right = sum(value == sum(operation.meaning(*operands)) for value in heard) / len(heard)
        assert len(set(heard)) >= 6 and right < 0.35
    assert all(operation.known for operation in KNOWN)


def test_pretraining_texts_end_in_an_answer():
    generator = random.Random(1)
    pairs = [pretraining_text(generator, loose=0.0, early=0.3) for _ in range(300)]
    world = get_world("arithmetic_skewed")
    for prompt, completion in pairs:
        *steps, last = completion.split("\n")
        answer = re.fullmatch(r"The answer is (\d+)", last)[1]
        assert answer == world.solve(prompt)[1]
        steps = [step for step in steps if step]
        assert all(world.check_step(prompt, steps[:i], step) for i, step in enumerate(steps))
    complete = [len(world.solve(prompt)[0]) == completion.count("=") for prompt, completion in pairs]
    assert 50 < complete.count(False) < 130


def test_worlds_by_name():
    assert {"arithmetic_skewed", "arithmetic_balanced"} <= set(available_worlds())
    assert isinstance(get_world("arithmetic_skewed"), World)

    @register_world("tiny")
    def tiny(share=0.0):
        return ArithmeticWorld("tiny", pool_unknown=share)

    assert get_world("tiny", share=0.5).pool_unknown == 0.5


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda: get_world("chess"), "arithmetic_balanced, arithmetic_skewed"),
        (lambda: get_world("arithmetic_skewed", colour=3), "colour"),
        (lambda: get_world("arithmetic_skewed", pool_unknown=2), "share from 0 to 1"),
        (lambda: get_world("arithmetic_skewed").problems(1, 0, "test"), "pretrain, train, eval"),
    ],
)
def test_wrong_settings_name_the_cure(make, named):
    with pytest.raises(ConfigurationError, match=named):
        make()
