"""What a student with a classification head can be asked: labels, and the signals that strategies select by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..engine import dropout_logits, head_outputs, keyed_seed, right_padded, text_positions
from ..engine.modes import accepts
from ..errors import ConfigurationError
from ..records import Explanation, PoolRow
from ..selection.base import Candidate, SignalRequest
from ..tasks.classification import ClassificationTask


#: Signals and their options with defaults.
CLASSIFIER_SIGNALS: dict[str, dict[str, Any]] = {
    "logits": {},
    "probabilities": {},
    "mc_probabilities": {"samples": 10},
    "embedding": {},
}


class Classifier:
    """
    A model for sequence classification as a student of a task: encoders, and decoders with a head.

    What it returns depends on weights, rows, `seed` and round alone, and the random state and all train flags are left
    as found.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            As `AutoModelForSequenceClassification` loads it, on any device, not wrapped by accelerate. Its label names
            must be those of the task: see [`match_labels`].
        processing_class (`PreTrainedTokenizerBase`):
            Its tokenizer.
        task ([`~hf_active_distill.tasks.ClassificationTask`]):
            The labels, and the one or two texts of a row.
        batch_size (`int`, *optional*, defaults to `16`):
            Rows at a time.
        seed (`int`, *optional*, defaults to `0`):
            Seed of dropout in `"mc_probabilities"`.
        max_length (`int`, *optional*):
            Longest text in tokens, within what model and tokenizer can take. Longer ones lose their end.
    """

    def __init__(
        self,
        model: Any,
        processing_class: Any,
        task: ClassificationTask,
        *,
        batch_size: int = 16,
        seed: int = 0,
        max_length: int | None = None,
    ):
        self.model = model
        self.processing_class = processing_class
        self.task = task
        self.batch_size = batch_size
        self.seed = seed
        limits = [max_length, text_positions(model), processing_class.model_max_length]
        self.max_length = min(limit for limit in limits if limit is not None)
        #: Ids of the rows that `max_length` cut so far.
        self.truncated: set[str] = set()
        self._joins_pairs = len(task.text_columns) == 2 and not separates_pairs(processing_class)

    # Texts in

    def encode(self, rows: Sequence[PoolRow]) -> list[dict[str, list[int]]]:
        """Model inputs of rows, one dict each; rows that are cut are remembered in `truncated`."""
        if not rows:
            return []
        texts = [self._texts(row) for row in rows]
        columns = [list(column) for column in zip(*texts, strict=True)]
        # Cut one by one: a fast tokenizer tells overflow for a single text only.
        encoded = self.processing_class(*columns, verbose=False)
        found = []
        for index, row in enumerate(rows):
            inputs = {name: list(values[index]) for name, values in encoded.items() if self._takes(name)}
            if len(inputs["input_ids"]) > self.max_length:
                self.truncated.add(row.row_id)
                cut = self.processing_class(*texts[index], truncation=True, max_length=self.max_length)
                inputs = {name: list(values) for name, values in cut.items() if self._takes(name)}
            found.append(inputs)
        return found

    def _texts(self, row: PoolRow) -> tuple[str, ...]:
        texts = self.task.texts(row)
        return ("\n".join(texts),) if self._joins_pairs else texts

    def has_room(self, row: PoolRow) -> bool:
        """Always: a long text loses its end."""
        return True

    def order(self, rows: Sequence[PoolRow]) -> list[int]:
        """The order in which rows are best scored: texts of like length side by side, so that little is padding."""
        lengths = [sum(map(len, self.task.texts(row))) for row in rows]
        return sorted(range(len(rows)), key=lambda index: -lengths[index])

    # Labels and signals out

    def logits(self, inputs: Sequence[Mapping[str, list[int]]]) -> np.ndarray:
        """Logits of encoded rows, shape `(N, K)`, in evaluation mode, as one batch."""
        return head_outputs(self.model, self._padded(inputs)).logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities of the labels: softmax over the last axis, or sigmoid where several labels can hold."""
        if self.task.multi_label:
            return _sigmoid(logits)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)

    def candidates(
        self, rows: Sequence[PoolRow], requests: Sequence[SignalRequest], *, round: int = 0
    ) -> list[Candidate]:
        """
        Rows with their signals, and as `explanation` the label that the student gives; all that one pass can give is
        taken from one pass.

        Args:
            rows (`Sequence[PoolRow]`):
                Rows to score.
            requests (`Sequence[SignalRequest]`):
                `"logits"`, `"probabilities"` and `"embedding"` (what the last layer is given), each a 1-d array, and
                `"mc_probabilities"` (option `samples`, 10) of shape `(samples, K)`: passes with dropout on.
            round (`int`, *optional*, defaults to `0`):
                Round it is done in; each has its own noise.
        """
        for request in requests:
            _check(request)
        found: list[Candidate] = []
        for start in range(0, len(rows), self.batch_size):
            part = list(rows[start : start + self.batch_size])
            signals, answers = self._signals(part, requests, round)
            for index, row in enumerate(part):
                candidate = Candidate(row, Explanation(row.row_id, answers[index], [], answers[index]))
                candidate.signals.update({request: values[index] for request, values in signals.items()})
                found.append(candidate)
        return found

    def _signals(
        self, rows: list[PoolRow], requests: Sequence[SignalRequest], round: int
    ) -> tuple[dict[SignalRequest, np.ndarray], list[str]]:
        batch = self._padded(self.encode(rows))
        names = {request.name for request in requests}
        found: dict[SignalRequest, np.ndarray] = {}
        probabilities = None
        if names - {"mc_probabilities"}:
            outputs = head_outputs(self.model, batch, embeddings="embedding" in names)
            probabilities = self.probabilities(outputs.logits)
            once = {"logits": outputs.logits, "probabilities": probabilities}
            if outputs.embeddings is not None:
                once["embedding"] = outputs.embeddings
            found = {request: once[request.name] for request in requests if request.name in once}
        for request in requests:
            if request.name == "mc_probabilities":
                samples = dict(request.options).get("samples", CLASSIFIER_SIGNALS[request.name]["samples"])
                seeds = [keyed_seed(self.seed, round, rows[0].row_id, t, "dropout") for t in range(samples)]
                found[request] = self.probabilities(dropout_logits(self.model, batch, seeds)).swapaxes(0, 1)
                probabilities = found[request].mean(1) if probabilities is None else probabilities
        return found, [] if probabilities is None else [self._answer(values) for values in probabilities]

    def _answer(self, probabilities: np.ndarray) -> str:
        """The likeliest label, or all that hold with a probability of at least a half."""
        names = self.task.labels
        if self.task.multi_label:
            return self.task.join([name for name, p in zip(names, probabilities, strict=True) if p >= 0.5])
        return names[int(probabilities.argmax())]

    def _padded(self, inputs: Sequence[Mapping[str, list[int]]]) -> Any:
        return right_padded(inputs, self.processing_class.pad_token_id)

    def _takes(self, name: str) -> bool:
        return accepts(self.model, name)


def separates_pairs(processing_class: Any) -> bool:
    """
    Whether a tokenizer puts something between the two texts of a pair. Those of encoders do; most of decoders would
    write the second text straight behind the first, so that a line break has to part them.
    """
    pair, first = (len(processing_class(*texts).input_ids) for texts in (("a", "b"), ("a",)))
    return pair > first + len(processing_class("b", add_special_tokens=False).input_ids)


def match_labels(model: Any, task: ClassificationTask) -> list[int] | None:
    """
    How the labels that a model knows become those of the task, by name.

    Args:
        model (`PreTrainedModel`): With a classification head.
        task ([`~hf_active_distill.tasks.ClassificationTask`]): Whose labels count.

    Returns:
        `list[int]` or `None`: For each label of the task its index in the model; `None` where they agree already, or
        where the model's are not named (`LABEL_0`, ...) and as many.

    Raises:
        [`~errors.ConfigurationError`]: When the model has another number of labels, or other names.
    """
    config = model.config
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    wanted = task.labels
    unnamed = all(name == f"LABEL_{index}" for index, name in enumerate(names))
    if len(names) == len(wanted) and unnamed:
        return None
    found = [] if unnamed else [task.label_set.find(name) for name in names]
    if len(names) != len(wanted) or sorted(map(str, found)) != sorted(wanted):
        raise ConfigurationError(
            f"The student classifies into {len(names)} labels ({', '.join(names[:8])}), the task into {len(wanted)} "
            f"({', '.join(wanted[:8])}). Name the task's labels as the model does, or give the student as a string "
            "with `model_init_kwargs={'ignore_mismatched_sizes': True}` for a new head."
        )
    order = [found.index(label) for label in wanted]
    return None if order == list(range(len(wanted))) else order


def name_labels(config: Any, task: ClassificationTask) -> None:
    """Writes the task's labels into a model's configuration, so that pipelines and cards show their names."""
    config.id2label, config.label2id = task.id2label, task.label2id
    config.problem_type = problem_type(task)


def problem_type(task: ClassificationTask) -> str:
    """As model configurations call it."""
    return "multi_label_classification" if task.multi_label else "single_label_classification"


def _check(request: SignalRequest) -> None:
    if request.name not in CLASSIFIER_SIGNALS:
        raise ConfigurationError(
            f"A student with a classification head has no signal {request.name!r}: it writes no explanations. It "
            f"computes: {', '.join(CLASSIFIER_SIGNALS)}. Choose a strategy over these, such as 'entropy' or 'margin'."
        )
    known = CLASSIFIER_SIGNALS[request.name]
    unknown = sorted(set(dict(request.options)) - set(known))
    if unknown:
        raise ConfigurationError(
            f"Signal {request.name!r} has no option {unknown[0]!r}. It has: {', '.join(known) or 'none'}."
        )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))
