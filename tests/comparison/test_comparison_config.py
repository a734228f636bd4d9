"""What a comparison's YAML file means, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from hf_active_distill.comparison import ComparisonConfig, read_comparison
from hf_active_distill.errors import ConfigurationError


ARMS = [
    {"selection": ["random", "egss"], "annotation": ["cot", "clear"]},
    {"name": "shift", "selection": "egss", "annotation": "cot", "selection_kwargs": {"measure": "answer_shift"}},
    {"name": "{selection}-long", "selection": "random", "annotation": "cot", "num_rounds": 9, "seeds": [7]},
]


def config(**changes) -> ComparisonConfig:
    given = {"output_dir": "out", "teacher": "http://localhost:1", "arms": ARMS, "budgets": [100, 200], "seeds": 2}
    return ComparisonConfig(**{**given, **changes})


def test_lists_become_arms_and_seeds_come_one_after_the_other():
    made = config(base={"num_rounds": 3, "pool_size": 50}, per_annotation={"clear": {"num_rounds": 5}})
    names = ["random+cot", "random+clear", "egss+cot", "egss+clear", "shift", "random-long"]
    assert [arm.name for arm in made.arm_list] == names
    runs = made.runs()
    assert [run.label for run in runs[:6]] == [f"{name} seed {7 if name == 'random-long' else 0}" for name in names]
    assert [run.label for run in runs[6:]] == [f"{name} seed 1" for name in names[:5]]
    by_name = {run.arm: run.settings for run in runs[:6]}
    assert by_name["random+cot"]["num_rounds"] == 3
    assert by_name["random+clear"]["num_rounds"] == 5  # of the annotation, before the base
    assert by_name["random-long"]["num_rounds"] == 9  # the arm's own, before both
    assert by_name["shift"]["selection_kwargs"] == {"measure": "answer_shift"}
    assert {settings["max_teacher_tokens"] for settings in by_name.values()} == {200}
    assert made.reference == "random+cot" and made.targets == ["random+cot"]


def test_a_fingerprint_tells_settings_apart_and_not_places():
    first, moved, other = config(), config(output_dir="elsewhere"), config(budgets=[100, 300])
    assert first.runs()[0].fingerprint == moved.runs()[0].fingerprint != other.runs()[0].fingerprint
    assert len({run.fingerprint for run in first.runs()}) == len(first.runs())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": []}, "at least one"),
        ({"arms": [ARMS[0], ARMS[0]]}, "give them a `name`"),
        ({"arms": [{"selection": "random"}]}, "no annotation"),
        ({"arms": [{"name": "a/b", "selection": "random", "annotation": "cot"}]}, "names a folder"),
        ({"budgets": [200, 100]}, "rising order"),
        ({"budgets": []}, "rising order"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": 0}, "different whole numbers"),
        ({"base": {"seed": 3}}, "decides itself"),
        ({"per_annotation": {"cot": {"output_dir": "x"}}}, "decides itself"),
        ({"base": {"teacher_token": "hf_secret"}}, "HF_TOKEN in the environment"),
        ({"teacher_kwargs": {"token": "hf_secret"}}, "HF_TOKEN in the environment"),
        ({"reference": "nobody"}, "There is no arm 'nobody'"),
        ({"targets": [0.5, "nobody"]}, "There is no arm 'nobody'"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, words):
    with pytest.raises(ConfigurationError, match=words):
        config(**changes)


def test_a_file_is_read_and_its_mistakes_are_named(tmp_path):
    path = tmp_path / "compare.yaml"
    given = {"output_dir": "out", "teacher": "http://localhost:1", "arms": ARMS, "budgets": [100]}
    path.write_text(yaml.safe_dump(given))
    assert read_comparison(path).output_dir == "out"
    assert read_comparison(path, output_dir="other", seeds=None).output_dir == "other"
    path.write_text(yaml.safe_dump({**given, "num_rounds": 3}))
    with pytest.raises(ConfigurationError, match="num_rounds.*stand in `base`"):
        read_comparison(path)
    path.write_text(yaml.safe_dump({"arms": ARMS}))
    with pytest.raises(ConfigurationError, match="lacks output_dir, teacher, budgets"):
        read_comparison(path)
    for text in ("- 1", "a: ["):
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            read_comparison(path)
