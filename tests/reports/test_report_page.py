"""The page as a file: whole, closed, and safe whatever it holds."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from counting_teacher import CountingTeacher
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run, page_data
from tiny_run import build

import hf_active_distill.reports
from hf_active_distill.cli.main import main
from hf_active_distill.reports import write_report
from hf_active_distill.reports.page import embedded_json
from hf_active_distill.trainer import ActiveDistillationCallback, ReportCallback


ASSETS = Path(hf_active_distill.reports.__file__).parent / "assets"
TEXT = st.text(st.characters(codec=None, categories=None))  # every code point, surrogates too


class Elements(HTMLParser):
    """The elements of a page, and the text inside of scripts and styles."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: str | None = None
        self.texts: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open = tag

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open in ("script", "style"):
            self.texts.append((self.open, data))


@given(st.recursive(TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=5))
def test_embedded_json_is_no_markup_and_says_the_same(data):
    text = embedded_json(data)
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", text)
    # Two lone halves that meet are one character to every reader of JSON.
    assert json.loads(text) == json.loads(json.dumps(data))


def test_the_policy_allows_what_the_page_carries_and_nothing_else(tmp_path):
    hostile = make_run(tmp_path, text=lambda text: f"</script><img src=x onerror=alert(1)>{text}")
    page = write_report(hostile).read_text(encoding="utf-8")
    elements = Elements(page)
    assert not [tag for tag, _ in elements.found if tag in ("img", "iframe", "object", "link", "base", "form")]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    [policy] = [a["content"] for t, a in elements.found if a.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    scripts = [text for tag, text in elements.texts if tag == "script"]
    [style] = [text for tag, text in elements.texts if tag == "style"]
    assert [a.get("type") for t, a in elements.found if t == "script"] == ["application/json", None]
    for name, text in (("script-src", scripts[1]), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[name] == f"'sha256-{digest}'"
    assert "http://" not in re.sub(r"/\*!.*?\*/|http://www\.w3\.org/\S+", "", page)


def test_what_is_carried_along_is_what_its_makers_published():
    listed = re.findall(r"\| `([^`]+)` \| [^|]+ \| `([0-9a-f]{64})` \|", (ASSETS / "vendor/README.md").read_text())
    files = {path.name for path in (ASSETS / "vendor").iterdir()} - {"README.md"}
    assert {name for name, _ in listed} == files
    for name, digest in listed:
        assert hashlib.sha256((ASSETS / "vendor" / name).read_bytes()).hexdigest() == digest


def test_the_command_writes_the_page_from_the_folder_alone(tmp_path, capsys):
    make_run(tmp_path / "out", trained=2)
    make_run(tmp_path / "seed-1", seed=1)
    assert main(["report", str(tmp_path / "out"), "--beside", str(tmp_path / "seed-1")]) == 0
    path = tmp_path / "out/report/index.html"
    assert capsys.readouterr().out == f"{path}\n"
    assert [arm["seed"] for arm in page_data(path)["arms"]] == [0, 1]
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]
    other = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "out"), "--output", str(other)]) == 0 and other.is_file()


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no round yet" in capsys.readouterr().err
    make_run(tmp_path / "out")
    (tmp_path / "out/report").write_text("in the way")
    assert main(["report", str(tmp_path / "out")]) == 2
    assert "--output" in capsys.readouterr().err


class Reader(ActiveDistillationCallback):
    """Reads the page while the run goes on."""

    def __init__(self):
        self.seen: list[tuple[int, list[bool]]] = []

    def on_step_end(self, args, state, control, **kwargs):
        data = page_data(Path(args.output_dir) / "report/index.html")
        self.seen.append((state.global_step, [row["trained"] for row in data["rounds"]]))


def test_the_page_follows_the_run(tmp_path):
    reader = Reader()
    with CountingTeacher() as teacher:
        trainer = build(str(tmp_path), teacher.url, {"args": {"num_rounds": 2}}, callbacks=[reader])
        trainer.train()
    assert reader.seen[0][1] == [False] and reader.seen[-1][1] == [True, False]
    data = page_data(tmp_path / "report/index.html")
    assert data["stop_reason"] == "rounds" and [row["trained"] for row in data["rounds"]] == [True, True]
    assert {row["id"] for row in data["rows"]} == {a.row_id for a in trainer.book.annotations()}
    spent = {row["name"]: row["spent"] for row in data["forecast"]}
    assert spent["tokens"] == sum(group["tokens"] for group in data["spent"]) > 0
    assert spent["calls"] == len(teacher.requests)


def test_a_page_that_cannot_be_written_does_not_end_the_run(tmp_path, caplog):
    (tmp_path / "report").write_text("in the way")
    with CountingTeacher() as teacher, caplog.at_level(logging.WARNING):
        trainer = build(str(tmp_path), teacher.url, {"args": {"num_rounds": 1}})
        trainer.train()
    assert trainer.stop_reason == "rounds"
    assert "The report was not written" in caplog.text


@pytest.mark.parametrize("wanted", [True, False])
def test_the_callback_can_be_removed(tmp_path, wanted):
    with CountingTeacher() as teacher:
        trainer = build(str(tmp_path), teacher.url, {"args": {"num_rounds": 1}})
        if not wanted:
            trainer.remove_callback(ReportCallback)
        trainer.train()
    assert (tmp_path / "report/index.html").exists() is wanted
