"""The benchmark on real explanations: on three rows made here, and on the real files where `DATA_DIR` names them."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest


PATH = Path(__file__).parents[2] / "benchmarks" / "real_explanations.py"
DATA_DIR = os.environ.get("DATA_DIR")
needs_data = pytest.mark.skipif(DATA_DIR is None, reason="DATA_DIR names the folder with the real files")


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("real_explanations", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


@pytest.fixture
def made_data(tmp_path, benchmark):
    right = {"is_correct": True, "solution": "Ann has 3 + 4 = 7 apples\nA: 7"}
    wrong = {"is_correct": False, "solution": "Ann has 3 + 4 = 8 apples\nA: 8"}
    models = {model: right if index % 2 else wrong for index, model in enumerate(benchmark.MODELS)}
    solved = {"question": "Ann has 3 and buys 4?", "ground_truth": "Ann has 7\nA: 7", **models}
    write_lines(tmp_path / "gsm8k" / "example_model_solutions_first400.jsonl", [solved])
    steps = ["A = 3 + 4 = 7.", "B = 7 - 1 = 5.", "So B is 5. Then C = 5. So the answer is 5"]
    for index, name in enumerate(benchmark.MARKED):
        rows = [
            {"input": f"{index}.{mark} =", "steps": steps, "answer": "5", "target": "6", "mistake_index": mark}
            for mark in (None, 0, 1, 2)
        ]
        write_lines(tmp_path / "big_bench_mistake" / f"{name}.jsonl", rows)
    write_lines(tmp_path / "svamp" / "svamp_test.json", [{"input": "3 of 4?", "label": "( 4.0 - 3.0 )"}])
    explanations = ["There were 4. So 4 - 3. The answer is (4 - 3).\n\nQ: And 2?\nA: The answer is (2)"]
    (tmp_path / "svamp" / "palm_test_cot.json").write_text(json.dumps(explanations), encoding="utf-8")
    return tmp_path


def test_parts_on_made_rows(benchmark, made_data, capsys):
    report = made_data / "figures.json"
    assert benchmark.main(["--data_dir", str(made_data), "--json", str(report)]) == 0
    figures = json.loads(report.read_text(encoding="utf-8"))
    assert figures["verdicts"]["verdicts equal"] == 4
    assert figures["clear"]["stopped where marked"] == figures["clear"]["steps given back"] == 8
    assert figures["clear"]["turns"] - figures["clear"]["asked again"] == 2 * (4 + 1 + 2 + 3)
    assert figures["cot"]["usable"] == figures["cot"]["teacher right"] == 1
    assert figures["svamp"]["teacher right"] == figures["svamp"]["text that runs on"] == 1
    assert "WRONG" not in capsys.readouterr().out


def test_a_contradiction_is_reported(benchmark, made_data, capsys):
    path = made_data / "gsm8k" / "example_model_solutions_first400.jsonl"
    row = json.loads(path.read_text(encoding="utf-8"))
    row[benchmark.MODELS[0]]["is_correct"] = True
    write_lines(path, [row])
    assert benchmark.main(["--data_dir", str(made_data), "--parts", "verdicts"]) == 1
    assert "WRONG 6b_finetuning" in capsys.readouterr().out


@needs_data
def test_all_verdicts_equal_the_datas_own(benchmark):
    part = benchmark.run_verdicts(Path(DATA_DIR))
    assert part.wrong == [] and part.figures["verdicts equal"] == part.figures["rows"] == 1600


@needs_data
def test_all_dialogues_stop_where_people_marked(benchmark):
    part = benchmark.run_clear(Path(DATA_DIR))
    assert part.wrong == [] and part.figures["stopped where marked"] == part.figures["steps given back"] == 600
    assert {annotation.status for annotation in part.annotations} == {"failed"}


@needs_data
def test_recorded_teachers_go_through(benchmark):
    cot, svamp = benchmark.run_cot(Path(DATA_DIR)), benchmark.run_svamp(Path(DATA_DIR))
    assert cot.wrong == svamp.wrong == []
    assert (cot.figures["usable"], cot.figures["teacher right"]) == (400, 224)
    assert svamp.figures["usable"] == 198
