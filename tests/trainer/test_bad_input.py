"""What is wrong is said before the teacher is asked, with the cure; what is odd is warned of."""

from __future__ import annotations

import json
import shutil
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from counting_teacher import CountingTeacher, rule
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import EVAL, POOL, build
from trl import TrlParser

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer, annotate, select
from hf_active_distill.errors import (
    CheckpointError,
    ConfigurationError,
    DataError,
    EmptyPoolError,
    JournalError,
    TeacherError,
)


def teacher(messages, params):
    return rule(messages)


def make(tmp_path, pool=POOL, eval_dataset=EVAL, teacher=teacher, processing_class=None, model=None, **args):
    config = ActiveDistillationConfig(
        output_dir=str(tmp_path / "run"),
        num_rounds=1,
        samples_per_round=2,
        max_new_tokens=4,
        selection="random",
        annotation="cot",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **args,
    )
    return ActiveDistillationTrainer(
        model or tiny_model("llama"),
        config,
        pool,
        teacher,
        eval_dataset=eval_dataset,
        processing_class=processing_class or tiny_tokenizer(),
    )


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"max_teacher_cost": 1.0}, "teacher_input_price"),
        ({"transfer_threshold": 0.9, "random_share": 0.0}, "random_share"),
        ({"transfer_threshold": 0.9, "annotation": "cot"}, "clear"),
        ({"candidates_per_round": 3, "samples_per_round": 4}, "-1"),
        ({"random_share": 1.5}, "between 0 and 1"),
        ({"round_start": "again"}, "'continue' or 'restart'"),
        ({"num_rounds": 0}, "at least 1"),
        ({"num_train_epochs": 0}, "over 0"),
        ({"max_teacher_tokens": 0}, "no cap"),
        ({"dataloader_persistent_workers": True, "dataloader_num_workers": 1}, "False"),
        ({"auto_find_batch_size": True}, "per_device_train_batch_size"),
        ({"round_start": "restart", "lr_scheduler_type": "reduce_lr_on_plateau"}, "linear"),
        ({"selection_kwargs": "k=3"}, "JSON"),
        ({"task_kwargs": "[1]"}, "JSON"),
    ],
)
def test_settings_that_cannot_work(tmp_path, settings, cure):
    with pytest.raises(ConfigurationError, match=cure):
        ActiveDistillationConfig(output_dir=str(tmp_path), report_to="none", **settings)


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"selection": "nearest"}, "least_confidence"),
        ({"annotation": "nicely"}, "one_call"),
        ({"task": "poetry"}, "reasoning"),
        ({"selection": "disagreement", "selection_kwargs": {"samples": 3}}, "k"),
    ],
)
def test_names_that_do_not_exist(tmp_path, settings, cure):
    args = ActiveDistillationConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, **settings)
    with pytest.raises(ConfigurationError, match=cure):
        ActiveDistillationTrainer(tiny_model("llama"), args, POOL, teacher, processing_class=tiny_tokenizer())


def test_command_line_and_yaml(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"output_dir: {tmp_path}\nselection_kwargs: '{{\"k\": 3}}'\nselection: disagreement\n")
    (args,) = TrlParser(ActiveDistillationConfig).parse_args_and_config(
        ["--config", str(path), "--samples_per_round", "7", "--chat_template_kwargs", '{"enable_thinking": false}']
    )
    assert (args.samples_per_round, args.selection_kwargs, args.selection) == (7, {"k": 3}, "disagreement")
    assert args.chat_template_kwargs == {"enable_thinking": False}
    path.write_text("samples_a_round: 3\n")
    with pytest.raises(ValueError, match="samples_a_round"):
        TrlParser(ActiveDistillationConfig).parse_args_and_config(["--config", str(path), "--output_dir", "x"])


def test_help_can_be_printed(capsys):
    with pytest.raises(SystemExit) as ending:
        TrlParser(ActiveDistillationConfig).parse_args_and_config(["--help"])
    assert ending.value.code == 0
    assert "--samples_per_round" in capsys.readouterr().out


# ---------------------------------------------------------------- data


def test_a_data_set_without_the_expected_column_names_those_it_has(tmp_path):
    with pytest.raises(DataError, match=r"pool_dataset.*body.*title"):
        make(tmp_path, pool=[{"title": "a", "body": "b"}])


def test_an_empty_pool(tmp_path):
    with pytest.raises(DataError, match="pool_dataset.*empty"):
        make(tmp_path, pool=[])
    with pytest.raises(EmptyPoolError, match="evaluation"):
        make(tmp_path, pool=[{"prompt": EVAL[0]["prompt"]}])
    with pytest.raises(ConfigurationError, match="pool_dataset"):
        make(tmp_path, pool=None)


def test_duplicates_and_evaluation_rows_leave_the_pool_and_are_counted(tmp_path, caplog):
    pool = [*POOL, POOL[0], {"prompt": "  " + POOL[1]["prompt"]}, {"prompt": EVAL[2]["prompt"] + " "}]
    trainer = make(tmp_path, pool=pool)
    assert (len(trainer.data.pool.rows), trainer.data.pool.duplicates, trainer.data.pool.excluded) == (40, 2, 1)
    assert "2 of 43 pool rows are duplicates" in caplog.text
    assert "1 of 43 pool rows stand in the evaluation" in caplog.text


def test_more_samples_than_rows_is_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="more than the pool holds"):
        trainer = make(tmp_path, pool=POOL[:1])
    trainer.train()
    assert trainer.stop_reason == "rounds"


def test_an_evaluation_set_without_answers(tmp_path):
    with pytest.raises(DataError, match="eval_with_teacher=True"):
        make(tmp_path, eval_dataset=[{"prompt": "How much is 5 and 5?"}])


def test_conversations_without_a_chat_template(tmp_path):
    pool = [{"messages": [{"role": "user", "content": "How much is 1 and 2?"}]}] * 2
    with pytest.raises(DataError, match="chat_template_path"):
        make(tmp_path, pool=pool, eval_dataset=None)


def test_a_model_that_writes_nothing(tmp_path):
    from transformers import BertConfig, BertModel

    encoder = BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
    with pytest.raises(ConfigurationError, match="causal language model"):
        make(tmp_path, model=encoder)


def test_rows_that_are_not_scored_or_not_explained(tmp_path):
    with pytest.raises(DataError, match="score"):
        select(POOL, 3)
    with pytest.raises(ConfigurationError, match="explanation"):
        annotate(POOL[:2], teacher)


# ---------------------------------------------------------------- teacher


def test_no_teacher(tmp_path):
    with pytest.raises(ConfigurationError, match="localhost:8080"):
        make(tmp_path, teacher=None).train()


def test_an_address_where_nobody_listens(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TeacherError, match="127.0.0.1"):
        make(tmp_path, teacher=url).train()
    assert not (tmp_path / "run" / "rounds" / "round-000").exists()


def test_an_address_that_is_no_teacher(tmp_path):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises((TeacherError, ConfigurationError), match="TGI"):
            make(tmp_path, teacher=f"http://127.0.0.1:{server.server_address[1]}").train()
    finally:
        server.shutdown()
        server.server_close()


def test_a_refused_token(tmp_path):
    with CountingTeacher(status=401) as counting, pytest.raises(TeacherError, match="HF_TOKEN"):
        make(tmp_path, teacher=counting.url).train()


# ---------------------------------------------------------------- folders


def test_another_runs_folder(tmp_path):
    make(tmp_path).train()
    with pytest.raises(CheckpointError, match="overwrite_rounds=True"):
        make(tmp_path).train()
    with pytest.raises(CheckpointError, match="selection was 'random', is 'egss'"):
        trainer = make(tmp_path)
        trainer.args.selection = "egss"
        trainer.train(resume_from_checkpoint=True)
    calls = []

    def counted(messages, params):
        calls.append(messages)
        return rule(messages)

    # The journal stays, and with it every answer; a function teacher is known by its name.
    counted.__name__ = counted.__qualname__ = "teacher"
    trainer = make(tmp_path, teacher=counted, overwrite_rounds=True)
    trainer.train()
    assert trainer.stop_reason == "rounds"
    assert calls == []


def test_checkpoints_of_a_replaced_run_are_gone(tmp_path):
    """Beside the new run's rounds, one with a higher number would be resumed as the new run's."""
    make(tmp_path).train()
    stale = tmp_path / "run" / "checkpoint-999"
    shutil.copytree(tmp_path / "run" / "checkpoint-1", stale)
    trainer = make(tmp_path, overwrite_rounds=True)
    trainer.train()
    assert not stale.exists()
    assert (tmp_path / "run" / "checkpoint-1").is_dir()


def test_a_named_checkpoint_that_is_incomplete(tmp_path):
    trainer = build(str(tmp_path), teacher, {"args": {"num_rounds": 2}})
    trainer.train()
    (tmp_path / "checkpoint-12" / "optimizer.pt").unlink()
    again = build(str(tmp_path), teacher, {"args": {"num_rounds": 2}})
    with pytest.raises(CheckpointError, match="optimizer.pt"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    # The last complete one is taken instead.
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 12


def test_a_checkpoint_inside_a_round_whose_record_is_gone(tmp_path):
    options = {"args": {"num_rounds": 2, "save_strategy": "steps", "save_steps": 3, "num_train_epochs": 4}}
    build(str(tmp_path), teacher, options).train()
    shutil.rmtree(tmp_path / "rounds" / "round-001")
    with pytest.raises(CheckpointError, match="round-001"):
        build(str(tmp_path), teacher, options).train(resume_from_checkpoint=str(tmp_path / "checkpoint-9"))


def test_a_damaged_journal_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "journal.sqlite"
    path.write_bytes(b"this is no database, and somebody may want it" * 100)
    before = path.read_bytes()
    with pytest.raises(JournalError):
        make(tmp_path).train()
    assert path.read_bytes() == before


def test_a_second_run_on_the_same_journal_is_told_who_holds_it(tmp_path):
    from hf_active_distill import Dispatcher, load_teacher

    path = tmp_path / "shared.sqlite"
    with Dispatcher(load_teacher(teacher), journal=path), pytest.raises(JournalError, match="process"):
        make(tmp_path, journal_path=str(path)).train()


def test_the_full_figures_are_json(tmp_path):
    trainer = make(tmp_path)
    trainer.train()
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
