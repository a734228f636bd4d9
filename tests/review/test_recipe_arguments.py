"""What a recipe is given and is not there is a configuration that cannot work, with that exit code."""

from __future__ import annotations

import pytest
from trl import ModelConfig

from hf_active_distill import ActiveDistillationConfig
from hf_active_distill.cli.recipe import ScriptArguments, make_trainer
from hf_active_distill.errors import EXIT_CONFIGURATION, ConfigurationError


@pytest.mark.parametrize(
    ("data", "model", "folder", "named"),
    [
        ({"dataset_name": "/nowhere/rows.jsonl"}, {}, "out", "rows.jsonl"),
        ({}, {"model_name_or_path": "nowhere/model"}, "out", "huggingface.co"),
        ({}, {}, "file/out", "file"),
        ({}, {"load_in_4bit": True}, "out", "bitsandbytes"),
    ],
    ids=["data", "model", "folder", "library"],
)
def test_what_is_not_there_is_a_configuration_error(tmp_path, data, model, folder, named):
    (tmp_path / "file").write_text("")
    args = ActiveDistillationConfig(
        output_dir=str(tmp_path / folder), samples_per_round=2, num_rounds=1, use_cpu=True, report_to="none"
    )
    script = ScriptArguments(**{"pool_size": 8, "eval_size": 2, **data})
    with pytest.raises(ConfigurationError, match=named) as raised:
        make_trainer(script, args, ModelConfig(**model), "http://127.0.0.1:1")
    assert raised.value.exit_code == EXIT_CONFIGURATION


def test_the_defaults_go_together(tmp_path):
    args = ActiveDistillationConfig(
        output_dir=str(tmp_path), samples_per_round=2, num_rounds=1, use_cpu=True, report_to="none"
    )
    trainer = make_trainer(ScriptArguments(pool_size=8, eval_size=2), args, ModelConfig(), "http://127.0.0.1:1")
    assert len(trainer.data.eval_parts[""]) == 2
    assert {row.reference for row in trainer.data.pool.rows.values()} == {None}
