"""What a comparison's YAML file means, and what is refused."""

from __future__ import annotations

import pytest
import yaml

from hf_active_distill.comparison import ComparisonConfig, read_comparison
from hf_active_distill.comparison.secrecy import is_secret
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
        ({"base": {"hub_token": "hf_secret"}}, "HF_TOKEN in the environment"),
        ({"base": {"model_init_kwargs": {"token": "hf_secret"}}}, "holds a `token`"),
        ({"arms": [{**ARMS[1], "hub_token": "hf_secret"}]}, "HF_TOKEN in the environment"),
        ({"base": {"teacher_error_rate": 0.1}}, r"teacher_kwargs: \{error_rate"),
        ({"base": {"teacher_model": "x"}}, "teacher: local:PATH"),
        ({"base": {"teacher_client": "hub"}}, r"teacher_kwargs: \{client"),
        ({"base": {"compare": "random"}}, "add an arm"),
        ({"base": {"plan": True}}, "hf-active-distill plan"),
        ({"arms": [{**ARMS[1], "teacher_timeout": 3}]}, "one process asks for all runs: set it in `base`"),
        ({"per_annotation": {"cot": {"teacher_max_retries": 3}}}, "set it in `base`"),
        ({"per_annotation": {"cott": {"num_rounds": 3}}}, "cott, but no arm has that annotation.*clear, cot"),
        *(
            ({"seeds": seeds}, "different whole numbers")
            for seeds in (None, 2.5, [[1]], True, [-1], [True], "two", {})
        ),
        *(({"seeds": seeds}, "different whole numbers") for seeds in ([2**32], 1e12, -3, [0, 0.5], [0, None])),
        *(({"arms": [{**ARMS[1], "seeds": seeds}]}, "different whole numbers") for seeds in (None, [], [1, 1])),
        *(
            ({"budgets": budgets}, "rising order")
            for budgets in (["a"], [1.5, 2.5], [True], None, {}, [0], "x", [[1]])
        ),
        *(({"budgets": budgets}, "rising order") for budgets in ([100, 100], [float("nan")], [float("inf")])),
        *(({"arms": arms}, "`arms` is a list") for arms in (None, ARMS[1], "random+cot", ["random+cot"], [None], 3)),
        ({"arms": [{"selection": [], "annotation": "cot"}]}, "`selection` of an arm is a name"),
        ({"arms": [{"selection": "random", "annotation": 3}]}, "`annotation` of an arm is a name"),
        ({"arms": [{"selection": None, "annotation": "cot"}]}, "`selection` of an arm is a name"),
        ({"arms": [{**ARMS[1], "name": 3}]}, "`name` is a text"),
        *(
            ({"arms": [{**ARMS[1], "name": name}]}, "names a folder")
            for name in (".", "..", "x" * 300, ".a", "é" * 60)
        ),
        *(({"base": base}, "`base` holds names with values") for base in ([1], 3, "x", {1: 2})),
        *(({"base": {"teacher_timeout": wrong}}, "seconds above 0") for wrong in (None, "x", 0, True, float("nan"))),
        *(({"base": {"teacher_max_retries": wrong}}, "a whole number from 0") for wrong in (None, "x", -1, 1.5)),
        *(({"per_annotation": wrong}, "`per_annotation` holds names") for wrong in ([1], "cot", {1: {}})),
        ({"per_annotation": {"cot": 3}}, "`per_annotation: cot` holds names"),
        *(({"teacher_kwargs": wrong}, "`teacher_kwargs` holds names") for wrong in ([1], "x")),
        *(({"metric": wrong}, "`metric` is a text") for wrong in (None, 3, "")),
        *(({"output_dir": wrong}, "`output_dir` is a text") for wrong in (None, 3, "", [])),
        *(({"teacher": wrong}, "`teacher` is a text") for wrong in (None, 5, " ")),
        ({"reference": 5}, "`reference` is a text"),
        *(({"targets": wrong}, "`targets` are numbers") for wrong in (True, [None], [[0.5]], float("nan"), {})),
        *(({"threads": wrong}, "`threads` is a whole number") for wrong in ("two", 0, None, 1.5, True)),
        ({"teacher_concurrency": "many"}, "`teacher_concurrency` is a whole number"),
        ({"max_paid_tokens": -1}, "`max_paid_tokens` is a whole number"),
        ({"keep_students": "no way"}, "`keep_students` is `true` or `false`"),
        ({"greater_is_better": None}, "`greater_is_better` is `true` or `false`"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, words):
    with pytest.raises(ConfigurationError, match=words):
        config(**changes)


def read(tmp_path, text: str) -> ComparisonConfig:
    path = tmp_path / "compare.yaml"
    path.write_text("output_dir: out\nteacher: scripted:x\narms: [{selection: random, annotation: cot}]\n" + text)
    return read_comparison(path)


def test_what_is_meant_is_taken(tmp_path):
    """YAML 1.1 reads `4e3` as text; an empty mapping is one without names; one target is a list of one."""
    assert read(tmp_path, "budgets: [4e3, 1e4]").budgets == [4000, 10000]
    assert read(tmp_path, "budgets: [4.0e+3, '8000']").budgets == [4000, 8000]
    assert all(isinstance(budget, int) for budget in read(tmp_path, "budgets: [4.0e+3, 1e4]").budgets)
    assert read(tmp_path, "budgets: 4000").budgets == [4000]
    bare = read(tmp_path, "budgets: [9]\nbase:\nper_annotation: {cot: }\nteacher_kwargs:\n")
    assert (bare.base, bare.per_annotation, bare.teacher_kwargs) == ({}, {"cot": {}}, {})
    assert bare.runs()[0].settings["annotation"] == "cot"
    assert read(tmp_path, "budgets: [9]\nper_annotation:\n").per_annotation == {}
    assert read(tmp_path, "budgets: [9]\ntargets: 0.6").targets == [0.6]
    assert read(tmp_path, "budgets: [9]\ntargets: random+cot").targets == ["random+cot"]
    assert read(tmp_path, "budgets: [9]\ntargets:\n").targets == ["random+cot"]
    assert read(tmp_path, "budgets: [9]\nseeds: [1e2]").arm_list[0].seeds == (100,)
    # A block for all methods may stand in a file whose arms use some.
    assert config(per_annotation={"one_call": {"num_rounds": 3}}).per_annotation
    assert config(seeds=range(3)).arm_list[0].seeds == (0, 1, 2)
    assert config(base={"eos_token": "<end>", "price_per_token": 3, "hub_token": None}).base["eos_token"] == "<end>"


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "compare.yaml").write_bytes(b"output_dir: \xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_comparison(tmp_path / "compare.yaml")
    (tmp_path / "compare.yaml").write_text("1: 2\nx: 3")
    with pytest.raises(ConfigurationError, match="must hold the fields"):
        read_comparison(tmp_path / "compare.yaml")


@pytest.mark.parametrize(
    "name", ["token", "hub_token", "HF-Token", "X-Api-Key", "api_key", "apikey", "apiKey", "Authorization", "password"]
)
def test_a_secret_never_shows(name):
    nested = {"headers": {name: "abc-123"}, "of": [{name: "abc-123"}], name.lower(): None}
    shown = config(teacher_kwargs={"options": nested, "seed": 3}, budgets=[123]).shown()
    assert "abc-123" not in shown and shown.count("[secret]") == 2 and "123" in shown


@pytest.mark.parametrize(
    "name", ["max_teacher_tokens", "tokens", "tokens_per_minute", "eos_token", "monkey", "author"]
)
def test_settings_that_sound_like_secrets_show(name):
    assert not is_secret(name)
    shown = config(base={"nested": {name: "abc-123"}}).shown()
    assert "abc-123" in shown and yaml.safe_load(shown)["budgets"] == [100, 200]


def test_an_error_shows_no_secret():
    for changes in ({"arms": {"api_key": "abc-123"}}, {"teacher_kwargs": ["hf_abcdefgh123"]}, {"metric": ["x" * 999]}):
        with pytest.raises(ConfigurationError) as caught:
            config(**changes)
        assert not any(secret in str(caught.value) for secret in ("abc-123", "hf_abcdefgh123", "x" * 300))


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
