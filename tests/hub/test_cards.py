"""Cards, line by line, and what hostile text makes of them: nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from card_facts import elad_run, history, label, llkd_run, revision
from datasets import Features, Value
from hub_server.cards import check, metadata
from huggingface_hub import DatasetCard, ModelCard
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.hub import shards
from hf_active_distill.hub.cards import draw_learning_curve, model_card
from hf_active_distill.hub.dataset_cards import (
    TableFacts,
    annotations_card,
    field_words,
    label_example,
    pool_card,
    revision_example,
)
from hf_active_distill.hub.layout import TABLES
from hf_active_distill.hub.markup import code, fenced, is_repo_id, plain, scrubbed, table
from hf_active_distill.records import Explanation
from hf_active_distill.rounds import RoundRecord
from hf_active_distill.tables import annotations_to_dataset
from hf_active_distill.tasks import get_task


HERE = Path(__file__).parent
FEATURES = annotations_to_dataset([revision("a", 0)]).features
ANNOTATIONS = [TableFacts("annotations", "annotations/*.parquet", FEATURES, default=True)]
ROWS = [TableFacts("rows", "rows/*.parquet", Features({"row_id": Value("string")}), "The rows, once.")]
CARDS = {
    "model": lambda facts: model_card(facts),
    "pool": lambda facts: pool_card(facts, ROWS),
    "annotations": lambda facts: annotations_card(facts, ANNOTATIONS),
}


@pytest.mark.parametrize("run", [elad_run, llkd_run])
@pytest.mark.parametrize("kind", CARDS)
def test_a_card_matches_its_pattern_in_full(kind, run):
    pattern = (HERE / "cards" / f"{run.__name__}_{kind}.md").read_text(encoding="utf-8")
    card = str(CARDS[kind](run()))
    assert card.split("\n") == pattern.split("\n")


@pytest.mark.parametrize("run", [elad_run, llkd_run])
@pytest.mark.parametrize("kind", CARDS)
def test_the_hub_takes_the_metadata(kind, run):
    card = str(CARDS[kind](run()))
    assert check(card, "model" if kind == "model" else "dataset") == ([], [])


def test_the_model_index_is_read_back_with_both_metrics():
    results = ModelCard(str(model_card(llkd_run()))).data.eval_results
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in results] == [
        ("accuracy", "accuracy", 0.8),
        ("f1", "macro f1", 0.7),
    ]
    assert {one.task_type for one in results} == {"text-classification"}


def test_what_nobody_has_stated_is_marked_unknown():
    card = model_card(elad_run())
    assert card.data.license == "unknown"
    assert "Licence of this model: **unknown**" in card.text and "Terms of the teacher: **unknown**" in card.text
    named = model_card(elad_run(license="My Own Licence!", teacher_terms="ask *first*"))
    assert (named.data.license, named.data.license_name) == ("other", "my-own-licence")
    assert "Licence of this model: `My Own Licence!`" in named.text
    assert "Terms of the teacher: `ask *first*`" in named.text


def test_a_run_without_rounds_or_evaluation_has_a_card_that_says_so():
    facts = elad_run(records=[], history=[], arms={}, picture=None, base_model=None, dataset=None)
    card = model_card(facts)
    assert "No round was finished." in card.text and "Nothing was evaluated" in card.text
    assert card.data.eval_results is None and card.data.base_model is None
    for other in (pool_card(facts, ROWS), annotations_card(facts, ANNOTATIONS)):
        assert "|  |" not in other.text


@pytest.mark.parametrize("conversational", [False, True])
def test_every_column_that_is_pushed_is_explained(conversational):
    tables = {
        "rows": shards.rows_features(conversational),
        "states": shards.STATES,
        "scores": shards.SCORES,
        "annotations": shards.annotations_features(conversational),
        "seed": shards.seed_features(conversational),
        "journal": shards.JOURNAL,
    }
    assert set(tables) == set(TABLES)
    assert not [(name, field) for name, columns in tables.items() for field in columns if not field_words(name, field)]


def test_the_learning_curve_is_drawn_where_something_was_measured(tmp_path):
    assert draw_learning_curve(elad_run(), tmp_path) == "learning_curve.png"
    assert (tmp_path / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert draw_learning_curve(llkd_run(history=history([])), tmp_path) is None


HOSTILE = [
    "\n---\nlicense: mit\n---\n",
    "---\nbase_model: evil/model\n---",
    "</td></table><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "```\n# escaped\n```",
    "````diff\n~~~\n`````",
    "a | b | c\n| --- |",
    "`code` ``more`` ` |",
    "{{ 7 * 7 }} {% for x in y %}",
    "www.evil.example https://evil.example",
    "right\u202eleft \u2066x\u2069 zero\u200bwidth \x1b[31m \x00 \ud800",
    "# Heading\n- list\n> quote\n\n    indented",
    "&lt;b&gt; &#60;i&#62;",
    "",
]


def hostile_run(text: str):
    """The text wherever a person, a pool or a teacher may have put it."""
    student = Explanation("x", text, [text, text], text)
    bad = revision(
        "x", 0, prompt=text or "?", steps=[text, f"{text}!"], answer=text, student=student, teacher=text, reason=text
    )
    records = [RoundRecord(0, selected_ids=["x"], scores={text: 1.0}, annotations=[bad], available=1)]
    rows = history(records, eval_accuracy=[0.1, 0.2])
    return elad_run(
        title=text,
        records=records,
        history=[{**row, f"eval_{text}": 0.5} for row in rows],
        settings={"selection": text, "annotation": text, "task": text, "num_rounds": 1},
        hyper_parameters={"learning_rate": text},
        base_model=text,
        dataset=text,
        student_repo=text,
        pool_repo=text,
        annotations_repo=text,
        arms={text: rows},
        license=text,
        teacher_terms=text,
        language=text,
        tags=[text, "fine"],
        stop_reason="rounds",
    )


def outside_code(markdown: str) -> str:
    """What a renderer would read as Markdown: without fenced blocks and code spans, by the rules of CommonMark."""
    kept, fence = [], None
    for line in markdown.split("\n"):
        marks = re.match(r"(`{3,}|~{3,})(.*)$", line)
        if fence is None and marks and "`" not in marks[2]:
            fence = marks[1]
        elif fence is not None:
            if marks and marks[1].startswith(fence) and not marks[2].strip():
                fence = None
        else:
            kept.append(line)
    assert fence is None, "a fence was left open"
    # A code span ends at the next run of as many backticks.
    return re.sub(r"(?<!`)(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", "\n".join(kept))


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_nothing_else(kind, text):
    card = CARDS[kind](hostile_run(text))
    content = str(card)
    assert check(content, "model" if kind == "model" else "dataset") == ([], [])
    front = metadata(content)
    assert front.get("base_model") is None and front["license"] in ("other", "unknown")
    assert "fine" in front["tags"] and all("\n" not in tag for tag in front["tags"])
    markdown = outside_code(card.text)
    for trace in ("<script", "<img", "javascript:", "evil", "\n---\n", "alert(1)", "&lt;", "49", "escaped", "~~~"):
        assert trace not in markdown, trace
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", content)
    known = str(CARDS[kind](hostile_run("plain")))
    headings = [line for line in markdown.split("\n") if line.startswith("#")]
    assert headings == [line for line in outside_code(known).split("\n") if line.startswith("#")] or not text


@given(st.text())
def test_a_code_span_is_one_span(text):
    span = code(text)
    assert "\n" not in span and outside_code(span) == ""
    assert not re.search(r"(?<!\\)\|", span), "a cell of a table would end here"
    if plain(text).split():
        assert " ".join(plain(text, 300).split()) in span.replace("\\|", "|")


@given(st.text())
def test_a_block_is_one_block(text):
    block = fenced(text)
    assert outside_code(block) == "" and plain(text) in block


def test_a_table_without_rows_or_with_empty_columns():
    assert table(["a", "b"], []) == ""
    assert table(["a", "b", "c"], [["1", "", "2"], ["3", "", ""]]).split("\n")[0] == "| a | c |"


def test_no_secret_and_no_path_of_this_machine_is_in_a_card(tmp_path, monkeypatch):
    token = "hf_" + "aB3" * 12
    monkeypatch.setenv("HF_TOKEN", token)
    texts = [
        token,
        "sk-proj-" + "x1" * 20,
        "https://me:pass@teacher.example/v1",
        str(Path.home() / "data"),
        "Bearer abc.def",
    ]
    facts = hostile_run(" and ".join([*texts, str(tmp_path)]))
    facts.private = [str(tmp_path)]
    for make in CARDS.values():
        content = str(make(facts))
        for secret in (token, "x1x1", "me:pass", str(Path.home()), "abc.def", str(tmp_path)):
            assert secret not in content
    assert scrubbed("see https://huggingface.co/me and a@b.example") == "see https://huggingface.co/me and a@b.example"


def test_names_that_the_hub_would_refuse_are_no_links():
    assert [is_repo_id(name) for name in ("gpt2", "me/x-1.5_b", "me/a/b", "/root/x", "a--b", "a..b", "", None)] == [
        True,
        True,
        *[False] * 6,
    ]


def test_the_example_is_the_shortest_revision():
    long, short = revision("a", 0, prompt="long " * 50), revision("b", 0)
    assert "long" not in revision_example([long, short])
    accepted = revision("c", 0, first_rejected=None)
    assert revision_example([accepted, revision("d", 0, status="failed")]) == ""


def test_an_example_of_a_label_is_one_that_the_student_had_wrong():
    settings = {"task": "classification", "task_kwargs": {"labels": ["good", "bad"]}}
    task = get_task("classification", labels=["good", "bad"])

    def labelled(row_id, text, **changes):
        prompt = task.student_prompt(task.read_row({"text": text}))
        return replace(label(row_id, 0, "bad"), prompt=prompt, **changes)

    own = Explanation("c", "good", [], "good")
    rows = [
        labelled("a", "Short."),
        labelled("b", "Failed", status="failed"),
        labelled("c", "A `text` | longer.", student=own),
    ]
    shown = label_example(rows, settings)
    assert shown.startswith("```\nA `text` | longer.\n```\n\n| label | probability | given |")
    assert "| `bad` | 0.75 | x |\n| `good` | 0.25 |  |" in shown and shown.endswith("The student's own: `good`")
    assert "Short." in label_example(rows[:2], settings) and "own" not in label_example(rows[:2], settings)
    assert label_example([revision("a", 0)], settings) == "" == label_example([], {})
    card = str(annotations_card(llkd_run(), ANNOTATIONS))
    assert card.count("## Example") == 1 and "The battery died." in card and "| `bad` | 0.75 |" in card
    assert "probability | given" not in str(annotations_card(elad_run(), ANNOTATIONS))


def test_cards_are_cards_of_the_library():
    assert isinstance(model_card(elad_run()), ModelCard)
    assert isinstance(pool_card(elad_run(), ROWS), DatasetCard)
    front = yaml.safe_load(str(annotations_card(elad_run(), ANNOTATIONS)).split("---")[1])
    assert front["configs"] == [{"config_name": "annotations", "data_files": "annotations/*.parquet", "default": True}]
