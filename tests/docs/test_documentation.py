"""The documentation against the code: names, fields, defaults, links, code blocks and commands."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser as torchrun_parser
from transformers import TrainingArguments

import hf_active_distill
from hf_active_distill import ActiveDistillationConfig
from hf_active_distill.cli.arms import RECIPE_DEFAULTS
from hf_active_distill.cli.main import parse
from hf_active_distill.serving import EmbeddedServer
from hf_active_distill.synthetic import get_world, quickstart_student_path
from hf_active_distill.trainer.label_config import LabelArguments


ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ROOMS = (
    "annotation",
    "asking",
    "comparison",
    "engine",
    "evaluation",
    "hub",
    "losses",
    "reports",
    "selection",
    "serving",
    "students",
    "synthetic",
    "tasks",
    "teachers",
    "trainer",
)
# Written before a block that cannot run here: it needs the Hub, a GPU, or a server of another kind.
NOT_RUN = "<!-- not run -->"
# What a reader has and a test has not. The blocks are executed with these in their place.
SMALLER = {
    "num_rounds=5": "num_rounds=2",
    "num_rounds=3": "num_rounds=2",
    "samples_per_round=64": "samples_per_round=4",
    "samples_per_round=32": "samples_per_round=4",
    "max_new_tokens=512": "max_new_tokens=96",
}


def blocks(page: Path, language: str) -> list[tuple[int, str, bool]]:
    """(line, code, runnable) of the fenced blocks of a language."""
    lines = page.read_text(encoding="utf-8").split("\n")
    found, start = [], None
    for number, line in enumerate(lines):
        if start is None and line.strip() == f"```{language}":
            start = number
        elif start is not None and line.strip() == "```":
            before = [text.strip() for text in lines[:start] if text.strip()]
            indent = len(lines[start]) - len(lines[start].lstrip())
            code = "\n".join(text[indent:] for text in lines[start + 1 : number])
            found.append((start + 1, code, not before or before[-1] != NOT_RUN))
            start = None
    return found


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in sorted(ROOT.glob("docs/reference/*.md")))


def public_names() -> list[tuple[str, str]]:
    rooms = {"": hf_active_distill, **{room: importlib.import_module(f"hf_active_distill.{room}") for room in ROOMS}}
    return [(room, name) for room, module in rooms.items() for name in module.__all__ if name != "__version__"]


def test_every_room_that_exports_names_is_documented():
    packages = {path.parent.name for path in (ROOT / "hf_active_distill").glob("*/__init__.py")}
    assert packages - set(ROOMS) == {"cli"}


@pytest.mark.parametrize(("room", "name"), public_names())
def test_a_public_name_has_a_docstring_and_stands_in_the_reference(room, name):
    value = getattr(importlib.import_module(f"hf_active_distill.{room}".rstrip(".")), name)
    text = inspect.getdoc(value) or ""
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        text = "a type"  # an alias has a comment, not a docstring
    assert text and not text.startswith(f"{name}("), f"{name} has no docstring of its own"
    assert re.search(rf"`(?:\w+\.)*{name}\b[^`]*`", REFERENCE), f"{name} is not named in docs/reference"


def own_fields() -> list[dataclasses.Field]:
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
    # In the annotations of the class itself: new, or with another default.
    own = {*ActiveDistillationConfig.__annotations__, *LabelArguments.__annotations__}
    fields = dataclasses.fields(ActiveDistillationConfig)
    return [field for field in fields if field.name in own or field.name not in inherited]


def reference_defaults() -> dict[str, str]:
    text = (ROOT / "docs/reference/config.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\w+)` \| [^|]+ \| `?([^|`]*)`? \|", text)
    assert len(rows) == len({name for name, _ in rows})
    return dict(rows)


@pytest.mark.parametrize("field", own_fields(), ids=lambda field: field.name)
def test_a_field_stands_in_the_docstring_and_in_the_reference_with_its_default(field):
    text = f"{ActiveDistillationConfig.__doc__}\n{LabelArguments.__doc__}"
    documented = re.search(rf"(?m)^ +{field.name} \(|`{field.name}`", text)
    assert documented or field.name in (
        # Redefined to give them another form or help text, not another meaning.
        "lr_scheduler_kwargs",
        "use_liger_kernel",
        "torch_empty_cache_steps",
    )
    assert reference_defaults()[field.name] == json.dumps(field.default).replace("null", "None").replace(
        "true", "True"
    ).replace("false", "False")
    assert field.metadata["help"].endswith(".")


def test_the_reference_invents_no_field():
    assert set(reference_defaults()) == {field.name for field in own_fields()}


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page_id(page)} links to {link}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page_id(page)} links to {link}"


def test_every_page_is_reached_from_the_index():
    index = ROOT / "docs/index.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index.read_text("utf-8"))}
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page != index} <= linked


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_id)
def test_all_python_compiles(page):
    for line, code, _ in blocks(page, "python"):
        compile(code, f"{page_id(page)}:{line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.fixture(scope="module")
def server():
    with EmbeddedServer("--scripted", "arithmetic_skewed") as running:
        yield running


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The folder and the names that a page's code may count on."""
    rows = get_world("arithmetic_skewed").problems(24, 0, "train")
    dev = get_world("arithmetic_skewed").problems(6, 0, "eval")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps({"prompt": row.prompt}) + "\n" for row in rows))
    return {
        "pool": [{"prompt": row.prompt} for row in rows],
        "dev": [{"prompt": row.prompt, "answer": row.reference} for row in dev],
    }


RUN_PAGES = [page for page in PAGES if any(runnable for *_, runnable in blocks(page, "python"))]


@pytest.mark.parametrize("page", RUN_PAGES, ids=page_id)
def test_python_runs(page, reader, server, monkeypatch):
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    vars(module).update(reader)
    stand_ins = {
        '"Qwen/Qwen3-0.6B"': repr(str(quickstart_student_path())),
        '"http://localhost:8080"': repr(server.url),
        **SMALLER,
    }
    for line, code, runnable in blocks(page, "python"):
        if not runnable:
            continue
        for before, after in stand_ins.items():
            code = code.replace(before, after)
        # As many empty lines before it as make a traceback name the page's own line.
        exec(compile("\n" * line + code, str(page), "exec"), vars(module))


def load_script(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for line, code, _ in blocks(page, "shell"):
            for command in code.replace("\\\n", " ").split("\n"):
                if command.strip() and not command.startswith("#"):
                    found.append((f"{page_id(page)}:{line}", command))
    return found


def check_recipe(words: list[str], monkeypatch, name: str = "elad") -> None:
    """Parses a whole command line of a recipe: options, values, YAML, and what the configuration demands."""
    parser = load_script(ROOT / f"recipes/{name}.py").make_parser()
    words = [str(ROOT / word) if word.startswith("recipes/configs/") else word for word in words]
    if words == ["--help"]:
        assert "--teacher" in parser.format_help()
        return
    monkeypatch.chdir(ROOT)
    script_args, training_args, _ = parser.parse_args_and_config(words)
    assert script_args.dataset_name and training_args.num_rounds >= 1


def check_words(words: list[str], monkeypatch) -> None:
    while "=" in words[0] and not words[0].startswith("-"):  # variables before a command
        words = words[1:]
    program, rest = words[0], words[1:]
    if program == "make":
        targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
        variables = set(re.findall(r"(?m)^(\w+) [?:]?=", (ROOT / "Makefile").read_text())) | {"ARGS"}
        assert all(word.split("=")[0] in (variables if "=" in word else targets) for word in rest)
        for word in rest:
            if "demo" in rest and word.startswith("ARGS="):
                options = ["--config", "recipes/configs/elad_quickstart.yaml", *shlex.split(word[len("ARGS=") :])]
                check_recipe(options, monkeypatch)
    elif program == "hf-active-distill":
        if parse(rest).further_options:
            check_recipe(rest[1:], monkeypatch, rest[0] if rest[0] in RECIPE_DEFAULTS else "elad")
    elif program in ("accelerate", "torchrun"):
        parser = launch_command_parser() if program == "accelerate" else torchrun_parser()
        options = rest[1:] if program == "accelerate" else rest
        at = next(index for index, word in enumerate(options) if word.endswith(".py"))
        parser.parse_args(options[: at + 1])
        check_words(["python", *options[at:]], monkeypatch)
    elif program == "python" and rest[0] in [f"recipes/{name}.py" for name in RECIPE_DEFAULTS]:
        check_recipe(rest[1:], monkeypatch, Path(rest[0]).stem)
    elif program == "python" and rest[0].endswith(".py"):
        source = (ROOT / rest[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in rest if word.startswith("--"))
    elif program == "python":
        assert rest[:2] in (["-m", "pytest"], ["-m", "venv"], ["-m", "pip"])
    elif program == "pip":
        extras = re.findall(r"\[([\w,]+)\]", " ".join(rest))
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert rest[0] == "install" and all(set(extra.split(",")) <= set(known) for extra in extras)
    else:
        assert program in ("git", "cd", "export", "curl", "docker", "echo", "."), program


@pytest.mark.parametrize(("place", "command"), commands(), ids=lambda value: value[:60])
def test_commands_have_the_options_that_exist(place, command, monkeypatch):
    for part in re.split(r"\s*(?:&&|;)\s*", command):
        words = shlex.split(part, comments=True)
        if words:
            check_words(words, monkeypatch)
