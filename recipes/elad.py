# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-active-distill[serve,plot]"]
# ///
"""
Explanation-guided active distillation (ELAD): a student is distilled from a teacher, round by round.

The built-in example, with a teacher server of its own:

```shell
accelerate launch recipes/elad.py --config recipes/configs/elad_quickstart.yaml
```

All weights, with a TGI endpoint as the teacher:

```shell
accelerate launch recipes/elad.py \
    --config recipes/configs/elad_qwen3_gsm8k.yaml \
    --teacher http://localhost:8080 \
    --output_dir qwen3-gsm8k-elad
```

LoRA:

```shell
accelerate launch recipes/elad.py \
    --config recipes/configs/elad_qwen3_gsm8k.yaml \
    --teacher http://localhost:8080 \
    --use_peft --lora_r 16 --learning_rate 1e-4 \
    --output_dir qwen3-gsm8k-elad-lora
```

Every round as a version on the Hub: add `--push_to_hub --hub_model_id user/name`. What it will cost, without a single
teacher call: add `--plan`. Two processes on a CPU: `torchrun --nproc_per_node 2 recipes/elad.py ...`. Go on after an
interruption: add `--resume_from_checkpoint true`.

The program ends with 0 when all rounds are done, 2 for a configuration that cannot work, 3 when the budget was reached
(the student is trained and saved), 4 when the teacher is gone, 5 for the journal, 6 for checkpoints, 130 after Ctrl-C,
and 143 after a SIGTERM (everything is saved).
"""

from __future__ import annotations

import sys

from trl import TrlParser

from hf_active_distill.cli.arms import make_recipe_parser, run_command


def make_parser() -> TrlParser:
    """The parser of the command line and of the YAML file."""
    return make_recipe_parser("elad")


if __name__ == "__main__":
    sys.exit(run_command("elad"))
