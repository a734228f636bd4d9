"""`ActiveDistillationConfig`: what a run is, parsed from Python, the command line or YAML."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ..errors import ConfigurationError
from .label_config import LabelArguments


_DICT_FIELDS = (
    "annotation_kwargs",
    "answer_gate_kwargs",
    "chat_template_kwargs",
    "gate_kwargs",
    "lr_scheduler_kwargs",
    "model_init_kwargs",
    "selection_kwargs",
    "task_kwargs",
)
#: Selection and annotation by default, for tasks by name.
_USUAL = {"classification": ("entropy", "label")}
_USUAL_ELSE = ("egss", "cot")
REVISING_ANNOTATIONS = ("clear", "one_call")


@dataclass
class ActiveDistillationConfig(LabelArguments, TrainingArguments):
    r"""
    Configuration class for the [`ActiveDistillationTrainer`].

    This class includes only the parameters that are specific to active distillation. For a full list of training
    arguments, please refer to the [`~transformers.TrainingArguments`] documentation. Note that default values in this
    class may differ from those in [`~transformers.TrainingArguments`]. What is about students that answer with labels
    stands in [`~trainer.label_config.LabelArguments`].

    Using [`~transformers.HfArgumentParser`] or [`~trl.TrlParser`] this class becomes command-line arguments.

    Parameters:
        > Parameters that control the rounds

        num_rounds (`int`, *optional*, defaults to `5`):
            Rounds of select, ask, train.
        samples_per_round (`int`, *optional*, defaults to `64`):
            Rows chosen for the teacher in each round.
        round_start (`str`, *optional*, defaults to `"continue"`):
            `"continue"` trains on from the last round's weights with one optimiser and one learning-rate schedule over
            the whole run. `"restart"` puts back the first weights at every round, with a fresh optimiser and a
            schedule of its own for each round.
        overwrite_rounds (`bool`, *optional*, defaults to `False`):
            Whether a new run may replace the rounds that stand in `output_dir`. The journal is kept in any case:
            answers paid for are used again.

        > Parameters that control the selection

        selection (`str`, *optional*):
            Name of a registered strategy; `"egss"` by default, and `"entropy"` where the student answers with a label.
        selection_kwargs (`dict[str, Any]`, *optional*):
            Options of the strategy.
        candidates_per_round (`int`, *optional*):
            Rows drawn at random from the pool that the student explains and the strategy scores in a round. `None`
            draws ten times `samples_per_round`; `-1` takes the whole pool.
        random_share (`float`, *optional*, defaults to `0.1`):
            Share of each round's rows that is drawn at random instead of by score. It guards against
            confident-and-wrong blind spots, and it is the unbiased probe of how much was transferred and of how good
            the teacher's labels are.

        > Parameters that control the student's explanations

        task (`str`, *optional*, defaults to `"reasoning"`):
            Name of a registered task.
        task_kwargs (`dict[str, Any]`, *optional*):
            Options of the task.
        max_new_tokens (`int`, *optional*, defaults to `256`):
            Longest explanation that the student writes, in tokens, in scoring and in evaluation.
        per_device_scoring_batch_size (`int`, *optional*, defaults to `16`):
            Rows that the student explains at once. Chosen rows do not depend on the number of processes.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Passed to the student's chat template, for example `{"enable_thinking": false}`.
        chat_template_path (`str`, *optional*):
            A Jinja file, or a folder or Hub id of a tokenizer, whose chat template the student shall use.

        > Parameters that control the teacher and its annotations

        annotation (`str`, *optional*):
            Name of a registered annotation method: `"cot"` (the teacher explains from scratch; the default, as it buys
            most for the same tokens), `"clear"` (ELAD's stepwise revision, one step a turn), `"one_call"` (all steps
            in one structured call), `"label"` (a distribution over labels; the default where the student answers with
            a label).
        annotation_kwargs (`dict[str, Any]`, *optional*):
            Options of the method.
        teacher_max_new_tokens (`int`, *optional*, defaults to `512`):
            Longest reply of the teacher, in tokens, hidden reasoning included.
        teacher_temperature (`float`, *optional*, defaults to `0.0`):
            The teacher's sampling temperature, 0 is greedy.
        keep_thinking (`bool`, *optional*, defaults to `False`):
            Whether the teacher's reasoning (`<think>` tags, `reasoning_content`) is part of the training target.
        verify_with_reference (`bool`, *optional*, defaults to `False`):
            Whether a teacher answer that contradicts the row's reference fails the row.
        max_attempts_per_row (`int`, *optional*, defaults to `2`):
            Times a row may fail before it leaves the pool.
        teacher_concurrency (`int`, *optional*, defaults to `8`):
            Calls in flight at once.
        teacher_timeout (`float`, *optional*, defaults to `120.0`):
            Seconds for one call.
        teacher_max_retries (`int`, *optional*, defaults to `6`):
            Times a call is repeated after an error that may pass (429, 5xx, broken connections).
        teacher_token (`str`, *optional*):
            Bearer token of the teacher; `HF_TOKEN` is read where it is not given. It is taken out of the configuration
            by the trainer and is never saved.
        teacher_client (`str`, *optional*, defaults to `"direct"`):
            What talks to a teacher given by URL: `"direct"`, the library's own requests, `"hub"`
            (`huggingface_hub`), or `"text_generation"`, TGI's own client (the extra `tgi`).
        journal_path (`str`, *optional*):
            SQLite file with every answer of the teacher. Defaults to `journal.sqlite` in `output_dir`; give one path
            to several runs and the second pays only for what is new.

        > Parameters that control the budget

        max_teacher_calls (`int`, *optional*):
            Most calls of the whole run.
        max_teacher_tokens (`int`, *optional*):
            Most prompt and completion tokens of the whole run.
        max_teacher_cost (`float`, *optional*):
            Most money of the whole run; needs the two prices.
        teacher_input_price (`float`, *optional*):
            Price of a million prompt tokens.
        teacher_output_price (`float`, *optional*):
            Price of a million completion tokens.

        > Parameters that control what is kept of every round

        push_rounds (`bool`, *optional*, defaults to `False`):
            Whether every finished round becomes a version on the Hub, in place of `push_to_hub`, which is switched
            off: the student at `hub_model_id`, the pool at `{hub_model_id}-pool` and the annotations at
            `{hub_model_id}-annotations`, each with a tag `round-000`, `round-001`, ... They are private unless
            `hub_private_repo` is false.
        lineage_dir (`str`, *optional*):
            A folder that gets the rounds in place of the Hub.

        > Parameters that control when to stop

        plateau_patience (`int`, *optional*):
            Rounds without a better evaluation accuracy (or `metric_for_best_model`) after which the run stops.
        plateau_threshold (`float`, *optional*, defaults to `0.0`):
            Gain that counts as better.
        transfer_threshold (`float`, *optional*):
            The run stops when the teacher accepts at least this share of the student's steps on the rows drawn at
            random. Needs `random_share` over 0 and an annotation that revises (`"clear"`, `"one_call"`).
        transfer_min_steps (`int`, *optional*, defaults to `30`):
            So many of these steps are gathered, over the latest rounds, before `transfer_threshold` is looked at: all
            steps of two or three rows are often right by chance.

        > Parameters that control the evaluation

        eval_with_teacher (`bool`, *optional*, defaults to `False`):
            Whether evaluation rows without a reference are answered once by the teacher, paid from the budget; the
            metric is then agreement with the teacher, not accuracy.

        > Parameters that control what the cards say

        pool_dataset_name (`str`, *optional*):
            Name on the Hub of the data set that the pool came from. The recipes set it to theirs.
        model_license (`str`, *optional*):
            Licence of the student and of the data sets that are pushed with it: an identifier of the Hub, such as
            `"apache-2.0"`, or a name. The cards say that it is unknown where it is not given.
        teacher_terms (`str`, *optional*):
            On what terms the teacher's outputs may be used. The cards say that they are unknown where it is not given.

        > Parameters shared with [`~trl.SFTConfig`]

        model_init_kwargs (`dict[str, Any]`, *optional*):
            Keyword arguments for `from_pretrained`, used when the `model` argument of the trainer is a string.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether models and tokenizers from the Hub may bring their own code.
        max_length (`int` or `None`, *optional*, defaults to `1024`):
            Longest training sequence in tokens; longer ones lose their end. `None` never cuts.
        completion_only_loss (`bool`, *optional*, defaults to `True`):
            Whether the loss is computed on the teacher's text only. `False` adds the prompt.
        pad_to_multiple_of (`int`, *optional*):
            Pad batches to a multiple of this.

    > [!NOTE]
    > These parameters have default values different from [`~transformers.TrainingArguments`]:
    > - `num_train_epochs`: passes over all annotated rows in *each round*, defaults to `3.0`.
    > - `learning_rate`: Defaults to `2e-5` instead of `5e-5`.
    > - `logging_steps`: Defaults to `10` instead of `500`.
    > - `save_strategy`, `eval_strategy`: Default to `"epoch"`, which means *every round* here.
    > - `eval_on_start`: Defaults to `True`: the learning curve starts before the first teacher call.
    > - `hub_strategy`: Defaults to `"end"`, and nothing else is taken: a push uploads the student and its card only.
    > - `bf16`: Defaults to whatever the accelerator supports; off on a CPU.
    > - `remove_unused_columns`: Defaults to `False`, and nothing else is taken: training rows are made here.
    """

    num_train_epochs: float = field(default=3.0, metadata={"help": "Passes over all annotated rows in each round."})
    learning_rate: float = field(default=2e-5, metadata={"help": "The initial learning rate for AdamW."})
    logging_steps: float = field(
        default=10,
        metadata={"help": "Log every X update steps. A float in [0,1) is a ratio of the total training steps."},
    )
    eval_strategy: str = field(
        default="epoch", metadata={"help": "When to evaluate: 'no', 'steps', or 'epoch' for every round."}
    )
    save_strategy: str = field(
        default="epoch", metadata={"help": "When to save a checkpoint: 'no', 'steps', or 'epoch' for every round."}
    )
    eval_on_start: bool = field(
        default=True, metadata={"help": "Whether to evaluate before the first round, so that the curve has a start."}
    )
    hub_strategy: str = field(default="end", metadata={"help": "When to push with push_to_hub: 'end' only."})
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Whether to use bfloat16. If not set, what the accelerator supports."}
    )
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Additional parameters for the learning-rate scheduler."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Not to be changed: what the model does not take of a row, the loss does."}
    )
    # Two help strings of some transformers versions hold a bare percent sign, on which argparse's --help fails.
    use_liger_kernel: bool = field(default=False, metadata={"help": "Whether to patch the model with Liger kernels."})
    torch_empty_cache_steps: int | None = field(
        default=None, metadata={"help": "Number of steps to wait before emptying the accelerator's cache."}
    )

    num_rounds: int = field(default=5, metadata={"help": "Rounds of select, ask, train."})
    samples_per_round: int = field(default=64, metadata={"help": "Rows chosen for the teacher in each round."})
    round_start: str = field(
        default="continue",
        metadata={
            "help": "'continue' trains on from the last round, 'restart' puts back the first weights at every round.",
            "choices": ["continue", "restart"],
        },
    )
    overwrite_rounds: bool = field(
        default=False,
        metadata={"help": "Whether a new run may replace the rounds in output_dir. The journal is kept."},
    )

    selection: str = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Name of a registered selection strategy; default egss, entropy for students with labels."},
    )
    selection_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Options of the selection strategy."}
    )
    candidates_per_round: int | None = field(
        default=None,
        metadata={"help": "Pool rows explained and scored in a round; default 10 x samples_per_round, -1 for all."},
    )
    random_share: float = field(default=0.1, metadata={"help": "Share of each round's rows drawn at random."})

    task: str = field(default="reasoning", metadata={"help": "Name of a registered task."})
    task_kwargs: dict[str, Any] | str | None = field(default=None, metadata={"help": "Options of the task."})
    max_new_tokens: int = field(default=256, metadata={"help": "Longest explanation of the student, in tokens."})
    per_device_scoring_batch_size: int = field(
        default=16, metadata={"help": "Rows that the student explains at once."}
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Passed to the student's chat template."}
    )
    chat_template_path: str | None = field(
        default=None, metadata={"help": "Jinja file, or folder or Hub id of a tokenizer, with the chat template."}
    )

    annotation: str = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Name of a registered annotation method; default cot, label for students with labels."},
    )
    annotation_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Options of the annotation method."}
    )
    teacher_max_new_tokens: int = field(default=512, metadata={"help": "Longest reply of the teacher, in tokens."})
    teacher_temperature: float = field(default=0.0, metadata={"help": "The teacher's temperature, 0 is greedy."})
    keep_thinking: bool = field(
        default=False, metadata={"help": "Whether the teacher's reasoning is part of the training target."}
    )
    verify_with_reference: bool = field(
        default=False, metadata={"help": "Whether a teacher answer that contradicts the reference fails the row."}
    )
    max_attempts_per_row: int = field(default=2, metadata={"help": "Times a row may fail before it leaves the pool."})
    teacher_concurrency: int = field(default=8, metadata={"help": "Teacher calls in flight at once."})
    teacher_timeout: float = field(default=120.0, metadata={"help": "Seconds for one teacher call."})
    teacher_max_retries: int = field(default=6, metadata={"help": "Repeats of a call after an error that may pass."})
    teacher_token: str | None = field(
        default=None, metadata={"help": "Bearer token of the teacher, HF_TOKEN where not given. Never saved."}
    )
    teacher_client: str = field(
        default="direct",
        metadata={
            "help": "What talks to a teacher given by URL; 'text_generation' needs the extra `tgi`.",
            "choices": ["direct", "hub", "text_generation"],
        },
    )
    journal_path: str | None = field(
        default=None, metadata={"help": "SQLite file with every answer; default journal.sqlite in output_dir."}
    )

    max_teacher_calls: int | None = field(default=None, metadata={"help": "Most teacher calls of the run."})
    max_teacher_tokens: int | None = field(
        default=None, metadata={"help": "Most prompt and completion tokens of the run."}
    )
    max_teacher_cost: float | None = field(default=None, metadata={"help": "Most money of the run."})
    teacher_input_price: float | None = field(default=None, metadata={"help": "Price of a million prompt tokens."})
    teacher_output_price: float | None = field(
        default=None, metadata={"help": "Price of a million completion tokens."}
    )

    push_rounds: bool = field(
        default=False, metadata={"help": "Whether every finished round becomes a version on the Hub."}
    )
    lineage_dir: str | None = field(
        default=None, metadata={"help": "A folder that gets the rounds in place of the Hub."}
    )

    plateau_patience: int | None = field(
        default=None, metadata={"help": "Rounds without a better accuracy after which the run stops."}
    )
    plateau_threshold: float = field(default=0.0, metadata={"help": "Gain in accuracy that counts as better."})
    transfer_threshold: float | None = field(
        default=None,
        metadata={"help": "Stop when the teacher accepts this share of the student's steps on random rows."},
    )
    transfer_min_steps: int = field(
        default=30, metadata={"help": "Steps on random rows, of the latest rounds, that `transfer_threshold` needs."}
    )

    eval_with_teacher: bool = field(
        default=False, metadata={"help": "Whether evaluation rows without a reference are answered by the teacher."}
    )

    pool_dataset_name: str | None = field(
        default=None, metadata={"help": "Name on the Hub of the data set that the pool came from, for the cards."}
    )
    model_license: str | None = field(default=None, metadata={"help": "Licence that the cards name."})
    teacher_terms: str | None = field(
        default=None, metadata={"help": "Terms of use of the teacher's outputs that the cards name."}
    )

    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for `from_pretrained` when the model is a string."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Whether models and tokenizers may bring their own code."}
    )
    max_length: int | None = field(default=1024, metadata={"help": "Longest training sequence in tokens."})
    completion_only_loss: bool = field(
        default=True, metadata={"help": "Whether the loss is computed on the teacher's text only."}
    )
    pad_to_multiple_of: int | None = field(default=None, metadata={"help": "Pad batches to a multiple of this."})

    def __post_init__(self):
        for name in _DICT_FIELDS:
            setattr(self, name, _parsed_dict(name, getattr(self, name)))
        usual = _USUAL.get(self.task, _USUAL_ELSE)
        #: Fields that were left open: a task object that the trainer is given may change what is usual.
        self.left_open = [name for name in ("selection", "annotation") if getattr(self, name) is None]
        self.selection, self.annotation = self.selection or usual[0], self.annotation or usual[1]
        if self.bf16 is None:
            self.bf16 = (
                not self.fp16 and not self.use_cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
            )
        # Said outright, or two processes that torchrun starts without an accelerator do not find each other.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.use_cpu:
            self.dataloader_pin_memory = False  # there is nothing to pin it for
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self._follows_a_metric()):
            self.metric_for_best_model = "accuracy"  # Trainer would take the loss, which no evaluation here measures
        if self.push_rounds:
            self.push_to_hub = False  # which would push to the same name, without rounds
        if isinstance(self.class_weights, str) and self.class_weights != "balanced":
            self.class_weights = _parsed_dict("class_weights", self.class_weights)
        super().__post_init__()
        self._check_ranges()
        self._check_combinations()
        self.check_label_arguments()

    def _check_ranges(self) -> None:
        at_least_one = (
            "num_rounds",
            "samples_per_round",
            "max_new_tokens",
            "per_device_scoring_batch_size",
            "teacher_max_new_tokens",
            "max_attempts_per_row",
            "teacher_concurrency",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.num_train_epochs <= 0:
            raise ConfigurationError("`num_train_epochs` is the number of passes in each round and must be over 0.")
        if self.plateau_patience is not None and self.plateau_patience < 1:
            raise ConfigurationError(
                "`plateau_patience` is a number of rounds, at least 1; leave it out to never stop."
            )
        if not 0.0 <= self.random_share <= 1.0:
            raise ConfigurationError(f"`random_share` is a share between 0 and 1, got {self.random_share}.")
        if self.round_start not in ("continue", "restart"):
            raise ConfigurationError(f"`round_start` must be 'continue' or 'restart', got '{self.round_start}'.")
        if self.candidates_per_round not in (None, -1) and self.candidates_per_round < self.samples_per_round:
            raise ConfigurationError(
                f"`candidates_per_round` ({self.candidates_per_round}) is below `samples_per_round` "
                f"({self.samples_per_round}): there would be nothing to choose from. Raise it, or pass -1 to score "
                "the whole pool."
            )
        for name in ("max_teacher_calls", "max_teacher_tokens", "max_teacher_cost"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ConfigurationError(f"`{name}` must be over 0; leave it out for no cap.")

    def _check_combinations(self) -> None:
        if self.max_teacher_cost is not None and None in (self.teacher_input_price, self.teacher_output_price):
            raise ConfigurationError(
                "`max_teacher_cost` needs prices: set `teacher_input_price` and `teacher_output_price`, both for a "
                "million tokens."
            )
        if self.transfer_min_steps < 1:
            raise ConfigurationError(f"`transfer_min_steps` ({self.transfer_min_steps}) must be at least 1.")
        if self.transfer_threshold is not None:
            if self.random_share == 0.0:
                raise ConfigurationError(
                    "`transfer_threshold` is measured on the rows drawn at random: set `random_share`, for example to "
                    "0.1, or remove `transfer_threshold`."
                )
            if self.annotation in ("cot", "label"):
                raise ConfigurationError(
                    f"`transfer_threshold` counts accepted student steps, and {self.annotation!r} judges none: use "
                    f"{' or '.join(repr(name) for name in REVISING_ANNOTATIONS)}, or remove `transfer_threshold`."
                )
        if self.metric_for_best_model in ("loss", "eval_loss"):
            raise ConfigurationError(
                "`metric_for_best_model='loss'` is not measured here, evaluations compare answers: leave it out for "
                "'accuracy', or name 'answered', 'macro_f1' (of labels), or a metric of your own `compute_metrics`."
            )
        if self.push_to_hub and self.hub_strategy != "end":
            strategy = HubStrategy(self.hub_strategy).value
            raise ConfigurationError(
                f"`hub_strategy='{strategy}'` would upload all of `output_dir`, journal and pickled files included: "
                "use 'end', which uploads the student and its card when the run is over."
            )
        if (self.push_rounds or self.lineage_dir) and not getattr(self, "save_safetensors", True):
            raise ConfigurationError("`push_rounds` pushes no pickled files: leave `save_safetensors` at True.")
        if self.dataloader_persistent_workers:
            raise ConfigurationError(
                "`dataloader_persistent_workers` would keep serving the first round's rows: set it to False."
            )
        if self.remove_unused_columns:
            raise ConfigurationError(
                "`remove_unused_columns` would take from the training rows, which the trainer makes itself, what the "
                "loss needs: leave it out."
            )
        if self.auto_find_batch_size:
            raise ConfigurationError(
                "`auto_find_batch_size` would change the number of steps inside a round: set "
                "`per_device_train_batch_size`, and `gradient_accumulation_steps` for a larger effective batch."
            )
        if self.round_start == "restart" and self._follows_a_metric():
            raise ConfigurationError(
                "`round_start='restart'` gives every round a schedule of its own, which this `lr_scheduler_type` "
                "cannot follow: use 'linear', 'cosine' or 'constant'."
            )

    def _follows_a_metric(self) -> bool:
        """Whether the learning rate is a matter of what evaluations measure, and no function of the step."""
        name = getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type)
        return name in ("reduce_lr_on_plateau", "greedy")

    def options(self, name: str) -> dict[str, Any]:
        """One of the fields that hold options, as a dict."""
        return dict(getattr(self, name) or {})

    @property
    def order_seed(self) -> int:
        """Seed of the order of training rows: `data_seed`, or `seed` where it is not set."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def output_path(self) -> Path:
        """`output_dir` as a path."""
        return Path(str(self.output_dir))

    @property
    def resolved_candidates_per_round(self) -> int | None:
        """Candidates a round as a number, `None` for the whole pool."""
        if self.candidates_per_round is None:
            return 10 * self.samples_per_round
        return None if self.candidates_per_round == -1 else self.candidates_per_round


def _parsed_dict(name: str, value: Any) -> dict[str, Any] | None:
    """Dicts arrive as JSON text from the command line."""
    if value is None or isinstance(value, dict):
        return value
    try:
        parsed = json.loads(value)
    except (TypeError, json.JSONDecodeError) as error:
        raise ConfigurationError(f"`{name}` must be a JSON object such as '{{\"key\": 1}}', got {value!r}.") from error
    if not isinstance(parsed, dict):
        raise ConfigurationError(f"`{name}` must be a JSON object, got {value!r}.")
    return parsed
