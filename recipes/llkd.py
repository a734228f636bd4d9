# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-active-distill[classification,serve,plot]"]
# ///
"""
Learning with less (LLKD): a small classifier is distilled from a teacher that labels text, asked no more than needed.

The built-in example, with a teacher server of its own. The student chooses what is asked ("ask last"):

```shell
accelerate launch recipes/llkd.py --config recipes/configs/llkd_quickstart.yaml --compare random
```

The order of the paper, where the teacher labels the pool first and a gate decides at every training step:

```shell
accelerate launch recipes/llkd.py --config recipes/configs/llkd_published.yaml
```

A real pair, RoBERTa on PubMed abstracts with a TGI endpoint as the teacher:

```shell
accelerate launch recipes/llkd.py \
    --config recipes/configs/llkd_roberta_pubmed.yaml \
    --teacher http://localhost:8080 \
    --output_dir roberta-pubmed-llkd
```

What it will cost, without a single teacher call: add `--plan`. Go on after an interruption: add
`--resume_from_checkpoint true`. The exit codes are those of `recipes/elad.py`.
"""

from __future__ import annotations

import sys

from trl import TrlParser

from hf_active_distill.cli.arms import make_recipe_parser, run_command


def make_parser() -> TrlParser:
    """The parser of the command line and of the YAML file."""
    return make_recipe_parser("llkd")


if __name__ == "__main__":
    sys.exit(run_command("llkd"))
