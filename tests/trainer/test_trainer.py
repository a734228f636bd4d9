"""The trainer in one process: rounds, events, stops, budgets, adapters, data formats."""

from __future__ import annotations

import json
import re

import pytest
import torch
import transformers
from counting_teacher import rule
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import EVAL, POOL, build
from transformers import TrainerCallback

from hf_active_distill import (
    ActiveDistillationCallback,
    ActiveDistillationConfig,
    ActiveDistillationTrainer,
    SelectionCallback,
)
from hf_active_distill.asking import JournalReader
from hf_active_distill.errors import BudgetExhaustedError, ConfigurationError, TeacherError
from hf_active_distill.trainer.callbacks import probe_accept_rate


def teacher(messages, params):
    """A Python function as the teacher; answers as the counting server does."""
    return rule(messages)


def figures(trainer) -> list[dict]:
    lines = (trainer.args.output_path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_it_is_a_transformers_trainer(tmp_path):
    trainer = build(str(tmp_path), teacher, {})
    assert isinstance(trainer, transformers.Trainer)
    assert trainer.processing_class is not None


class Recorder(ActiveDistillationCallback):
    def __init__(self):
        self.events = []

    def on_selection_begin(self, args, state, control, event, **kwargs):
        self.events.append(("selection", event.round, len(event.available_ids)))
        if event.round == 0:
            event.available_ids[:] = event.available_ids[:6]

    def on_annotation_end(self, args, state, control, event, **kwargs):
        self.events.append(("annotation", event.record.round, len(event.annotations)))

    def on_round_end(self, args, state, control, event, **kwargs):
        self.events.append(("round_end", event.record.round, len(event.history)))

    def on_evaluate(self, args, state, control, **kwargs):
        self.events.append(("evaluate", state.global_step))

    def on_save(self, args, state, control, **kwargs):
        self.events.append(("save", state.global_step))


def test_events_come_in_their_order_and_new_rows_train_in_their_own_round(tmp_path):
    recorder = Recorder()

    class Seen(TrainerCallback):
        rows: list[int] = []

        def on_step_end(self, args, state, control, **kwargs):
            self.rows.append(len(trainer.training_rows))

    trainer = build(str(tmp_path), teacher, {"args": {"num_rounds": 2}}, callbacks=[recorder, Seen()])
    trainer.train()
    assert recorder.events == [
        ("evaluate", 0),
        ("selection", 0, 40),
        ("annotation", 0, 4),
        ("evaluate", 4),
        ("round_end", 0, 1),
        ("save", 4),
        ("selection", 1, 36),
        ("annotation", 1, 4),
        ("evaluate", 12),
        ("round_end", 1, 2),
        ("save", 12),
    ]
    assert Seen.rows == [4] * 4 + [8] * 8
    assert trainer.stop_reason == "rounds"
    # The recorder left only the first six rows to round 0.
    assert set(trainer.book.records[0].selected_ids) <= set(list(trainer.data.pool.rows)[:6])


def test_a_users_own_selection_callback_and_strategy(tmp_path):
    class FirstOnes(SelectionCallback):
        def requests(self):
            return ()

        def select(self, context):
            from hf_active_distill.selection.base import SelectionResult

            ids = [candidate.row_id for candidate in context.candidates][: context.n]
            return SelectionResult(ids, {c.row_id: 0.0 for c in context.candidates}, dict.fromkeys(ids, "first"))

    options = {"args": {"num_rounds": 1, "candidates_per_round": -1}}
    trainer = build(str(tmp_path / "callback"), teacher, options, callbacks=[FirstOnes()])
    trainer.train()
    assert trainer.book.records[0].selected_ids == list(trainer.data.pool.rows)[:4]
    assert set(trainer.book.records[0].reasons.values()) == {"first"}

    def longest(context):
        return {candidate.row_id: float(len(candidate.row.prompt)) for candidate in context.candidates}

    options["args"]["random_share"] = 0.0
    trainer = build(str(tmp_path / "function"), teacher, options, selection=longest)
    trainer.train()
    lengths = [len(trainer.data.pool.rows[row_id].prompt) for row_id in trainer.book.records[0].selected_ids]
    assert min(lengths) == max(len(row["prompt"]) for row in POOL)


def test_the_loss_is_on_the_completion_and_the_training_text_is_what_inference_sees(tmp_path):
    trainer = build(str(tmp_path), teacher, {"args": {"num_rounds": 1, "annotation": "cot"}})
    trainer.train()
    tokenizer = trainer.processing_class
    for row, annotation in zip(trainer.training_rows.rows, trainer.book.annotations(), strict=True):
        learnt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
        prompt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label == -100]
        assert tokenizer.decode(prompt) == trainer.task.student_prompt(trainer.data.pool.rows[annotation.row_id])
        assert learnt[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(learnt[:-1]) == annotation.completion
        numbers = [int(number) for number in re.findall(r"\d+", str(annotation.prompt))]
        assert annotation.answer == str(sum(numbers))


def test_the_budget_holds_and_the_last_round_is_trained_and_saved(tmp_path):
    trainer = build(str(tmp_path), teacher, {"args": {"max_teacher_calls": 9, "teacher_concurrency": 4}})
    trainer.train()
    assert trainer.stop_reason == "budget"
    totals = figures(trainer)[-1]
    assert totals["total_teacher_calls"] <= 9
    assert totals["stop_reason"] == "budget"
    # Calls of dialogues that the budget cut short were paid for, too.
    with JournalReader(tmp_path / "journal.sqlite") as journal:
        spent, _ = journal.spent("train")
    assert (totals["total_teacher_calls"], totals["total_teacher_tokens"]) == (spent.calls, spent.total_tokens)
    last = max(trainer.book.records)
    assert trainer.book.records[last].unfinished_ids
    assert (tmp_path / f"checkpoint-{trainer.state.global_step}").is_dir()
    assert trainer.schedule.position(trainer.state.global_step) == (last + 1, 0)
    # Resumed with the same cap it stays stopped; with a higher one it goes on.
    steps = trainer.state.global_step
    again = build(str(tmp_path), teacher, {"args": {"max_teacher_calls": 9}})
    again.train(resume_from_checkpoint=True)
    assert (again.stop_reason, again.state.global_step) == ("budget", steps)
    further = build(str(tmp_path), teacher, {"args": {"max_teacher_calls": 1000}})
    further.train(resume_from_checkpoint=True)
    assert further.stop_reason == "rounds"
    assert further.state.global_step == further.schedule.total_steps


def test_a_budget_too_small_for_one_row_says_so(tmp_path):
    trainer = build(str(tmp_path), teacher, {"args": {"max_teacher_tokens": 40}})
    with pytest.raises(BudgetExhaustedError, match="teacher_max_new_tokens"):
        trainer.train()


def test_failed_rows_return_to_the_pool_until_their_attempts_are_used_up(tmp_path):
    def stubborn(messages, params):
        text = messages[0]["content"]
        return "mumble" if "How much is 1 " in text or "How much is 2 " in text else rule(messages)

    options = {
        "pool": 6,
        "args": {
            "annotation": "cot",
            "num_rounds": 3,
            "samples_per_round": 6,
            "random_share": 0.0,
            "candidates_per_round": -1,
        },
    }
    with pytest.warns(UserWarning, match="used up"):
        trainer = build(str(tmp_path), stubborn, options)
    trainer.train()
    asked = [len(trainer.book.records[index].selected_ids) for index in range(3)]
    assert asked == [6, 2, 0]
    failed = [a for a in trainer.book.annotations() if a.status == "failed"]
    assert {a.reason for a in failed} == {"no_answer"}
    assert sorted(a.attempt for a in failed) == [0, 0, 1, 1]
    assert len(trainer.training_rows) == 4


def test_nothing_to_train_on_is_an_error_that_names_the_reasons(tmp_path):
    trainer = build(str(tmp_path), lambda messages, params: "mumble", {"args": {"annotation": "cot"}})
    with pytest.raises(TeacherError, match="no_answer"):
        trainer.train()


def test_stops(tmp_path):
    always_yes = {"args": {"transfer_threshold": 0.9, "transfer_min_steps": 3, "random_share": 1.0}}

    def agrees(messages, params):
        return "#### 1" if "All steps" in messages[-1]["content"] else f"Yes\nStep: words {len(messages)}"

    trainer = build(str(tmp_path / "transfer"), agrees, always_yes)
    trainer.train()
    assert (trainer.stop_reason, len(trainer.book.records)) == ("transfer", 1)
    trainer = build(str(tmp_path / "plateau"), teacher, {"args": {"plateau_patience": 1, "learning_rate": 0.0}})
    trainer.train()
    assert (trainer.stop_reason, len(trainer.book.records)) == ("plateau", 1)

    class Enough(ActiveDistillationCallback):
        def on_round_end(self, args, state, control, event, **kwargs):
            event.stop_reason = "enough"

    trainer = build(str(tmp_path / "own"), teacher, {}, callbacks=[Enough()])
    trainer.train()
    assert (trainer.stop_reason, len(trainer.book.records)) == ("enough", 1)


def test_few_steps_are_no_transfer():
    def rounds(*counts):
        return [{"probe_judged_steps": n, "probe_accept_rate": a / n if n else None} for a, n in counts]

    start = [{"round": -1}]
    assert probe_accept_rate(start, 5) is None
    assert probe_accept_rate([*start, *rounds((3, 3))], 5) is None
    # As few of the latest rounds as have enough: the first one tells of a weaker student.
    assert probe_accept_rate([*start, *rounds((0, 9), (1, 4), (0, 0), (4, 4))], 5) == pytest.approx(5 / 8)
    assert probe_accept_rate([*start, *rounds((0, 9), (1, 4), (5, 5))], 5) == 1.0
    # Rounds of before this figure was kept.
    assert probe_accept_rate([{"round": 0, "probe_accept_rate": 1.0}], 5) is None


def test_restart_puts_back_the_first_weights(tmp_path):
    class Watch(TrainerCallback):
        first: dict[int, dict] = {}

        def on_step_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
            if state.global_step in (0, 4, 12):
                weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                self.first[state.global_step] = (weights, len(optimizer.state))

    trainer = build(str(tmp_path), teacher, {"args": {"round_start": "restart"}}, callbacks=[Watch()])
    start = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    for step in (0, 4, 12):
        weights, optimizer_state = Watch.first[step]
        assert all(weights[name].equal(start[name]) for name in start), step
        assert optimizer_state == 0
    rates = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    assert rates, "the learning rate is logged"


def test_adapter_trains_and_merges(tmp_path):
    trainer = build(str(tmp_path), teacher, {"peft": True, "args": {"num_rounds": 2, "gradient_checkpointing": True}})
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    trainer.train()
    assert all(p.equal(before[n]) for n, p in trainer.model.named_parameters() if n in before)
    ids = torch.tensor([[5, 6, 7, 8]])
    trainer.model.eval()
    adapted = trainer.model(input_ids=ids).logits
    merged = trainer.model.merge_and_unload()
    torch.testing.assert_close(merged(input_ids=ids).logits, adapted, rtol=1e-4, atol=1e-4)
    assert not adapted.equal(tiny_model("llama", seed=1)(input_ids=ids).logits)


def test_conversational_rows_go_through_the_chat_template(tmp_path):
    pool = [{"messages": [{"role": "user", "content": row["prompt"]}]} for row in POOL[:8]]
    args = ActiveDistillationConfig(
        output_dir=str(tmp_path),
        num_rounds=1,
        samples_per_round=2,
        annotation="cot",
        max_new_tokens=8,
        selection="random",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        num_train_epochs=1,
        keep_thinking=True,
    )
    trainer = ActiveDistillationTrainer(
        tiny_model("llama"),
        args,
        pool,
        lambda messages, params: f"<think>hm</think>{rule(messages)}",
        processing_class=tiny_tokenizer(chat=True),
    )
    trainer.train()
    tokenizer = trainer.processing_class
    text = tokenizer.decode(trainer.training_rows[0]["input_ids"])
    assert text.startswith("<|im_start|>user\nHow much is")
    assert "<think>" in text and "hm" in text
    dataset = trainer.annotations_dataset()
    assert dataset[0]["prompt"][0]["role"] == "user"
    assert dataset[0]["completion"][0]["role"] == "assistant"
    assert dataset[0]["thinking"] == "hm"


def test_seed_annotations_are_trained_on_and_left_out_of_the_pool(tmp_path):
    seeds = [{"prompt": row["prompt"], "completion": "add\n#### 1"} for row in POOL[:3]]
    trainer = build(str(tmp_path), teacher, {"args": {"num_rounds": 1}}, train_dataset=seeds)
    trainer.train()
    assert len(trainer.training_rows) == 3 + 4
    assert trainer.data.pool.excluded == 3
    assert not {a.row_id for a in trainer.data.seed_annotations} & set(trainer.data.pool.rows)


def test_evaluation_agrees_with_the_teacher_where_there_are_no_references(tmp_path):
    kwargs = {"num_rounds": 1, "eval_with_teacher": True}
    trainer = build(str(tmp_path), teacher, {"args": kwargs})
    for row in trainer.data.eval_parts[""]:
        row.reference = None
    trainer.train()
    assert [row.reference for row in trainer.data.eval_parts[""]] == [row["answer"] for row in EVAL]
    assert figures(trainer)[-1]["eval_accuracy"] is not None


def test_the_card_says_what_it_cost_and_nothing_of_this_machine(tmp_path):
    trainer = build(str(tmp_path), teacher, {"args": {"num_rounds": 2}})
    trainer.train()
    trainer.create_model_card(model_name="tiny")
    card = (tmp_path / "README.md").read_text()
    assert "2402.13098" in card and "active-distillation" in card
    assert f"{figures(trainer)[-1]['total_teacher_tokens']:,}" in card
    assert str(tmp_path) not in card
    assert len(re.findall(r"^\| (?:before|\d+) \|", card, flags=re.M)) == 3


def test_the_token_is_saved_nowhere(tmp_path):
    secret = "hf_verysecretverysecret"
    trainer = build(str(tmp_path), teacher, {"args": {"num_rounds": 1, "teacher_token": secret}})
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_two_selection_callbacks_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="SelectionCallback"):
        build(str(tmp_path), teacher, {}, callbacks=[SelectionCallback(), SelectionCallback()])
