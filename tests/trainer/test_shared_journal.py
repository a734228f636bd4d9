"""Several runs on one journal: an answer is paid for once, and each run pays from a budget of its own."""

from __future__ import annotations

import json

from counting_teacher import rule
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import POOL

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.asking import JournalReader
from hf_active_distill.rounds import NAME_KEY, RUN_FILE, RoundStore
from hf_active_distill.trainer.desk import journal_and_run


def teacher(messages, params):
    return rule(messages)


def run(output_dir, journal, pool, resume=None, **args):
    config = ActiveDistillationConfig(
        output_dir=str(output_dir),
        journal_path=str(journal),
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
    trainer = ActiveDistillationTrainer(tiny_model("llama"), config, pool, teacher, processing_class=tiny_tokenizer())
    trainer.train(resume_from_checkpoint=resume)
    return config


def calls_by_run(journal):
    with JournalReader(journal) as reader:
        return {name: reader.spent(name)[0].calls for name in reader.runs()}


def test_folders_of_one_name_do_not_share_a_budget(tmp_path):
    journal = tmp_path / "journal.sqlite"
    first = run(tmp_path / "monday" / "run", journal, POOL[:4], max_teacher_calls=2)
    second = run(tmp_path / "tuesday" / "run", journal, POOL[4:8], max_teacher_calls=2)
    names = [journal_and_run(config)[1] for config in (first, second)]
    assert len(set(names)) == 2 and all(name.startswith("run-") for name in names)
    # The first run's calls would have used up the second one's cap.
    assert calls_by_run(journal) == dict.fromkeys(names, 2)
    # Begun anew in the same folder, it is the same run to its budget: what it spent stays spent.
    run(tmp_path / "tuesday" / "run", journal, POOL[8:12], max_teacher_calls=3, overwrite_rounds=True)
    assert calls_by_run(journal) == {names[0]: 2, names[1]: 3}


def test_a_run_keeps_its_name_and_one_of_before_keeps_its_folders(tmp_path):
    settings = {"seed": 1}
    store = RoundStore(tmp_path / "run")
    store.begin(settings, resuming=False, overwrite=False)
    name = store.run_name()
    store.begin(settings, resuming=True, overwrite=False)
    assert store.run_name() == name != "run"
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = RoundStore(tmp_path / "moved")
    moved.begin(settings, resuming=True, overwrite=False)
    assert moved.run_name() == name
    # Written before runs had names: its calls stand in the journal under its folder's.
    path = moved.folder / RUN_FILE
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != NAME_KEY}))
    moved.begin(settings, resuming=True, overwrite=False)
    assert moved.run_name() == "moved"
    (tmp_path / "moved").rename(tmp_path / "again")
    assert RoundStore(tmp_path / "again").run_name() == "moved"
