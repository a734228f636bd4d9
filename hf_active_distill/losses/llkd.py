"""
Which samples take part in a training step, and with what weight: teacher confidence and student uncertainty.

*Learning with Less: Knowledge Distillation from Large Language Models via Unlabeled Data* (LLKD, arXiv 2411.08028)
trains on a sample where the teacher is confident and the student unsure, by two thresholds that move with training and
differ by label. Its formulas were not available to us: what stands here is our reading, after the self-adaptive
thresholds of FreeMatch (arXiv 2205.07246), and each choice is an option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigurationError, DataError
from .thresholds import Thresholds


MODES = ("both", "teacher_only", "student_only", "off")
CLASS_STATISTICS = ("conditional_mean", "expectation")
CLASS_FACTORS = ("max_norm", "mean_norm", "own", "none")
STARTS = ("bias_corrected", "uniform")
COMBINATIONS = ("sum", "product", "mix", "one")

# Sums are whole numbers of this unit, so their order does not matter: any split of a batch gives the same thresholds.
_UNIT = 2.0**-32


class LLKDGate:
    """
    The gate and the weights of LLKD. For a row *i* with teacher confidence *c*, label *y* (the teacher's most probable
    class) and student uncertainty *u* (its entropy over log *K*, in evaluation mode):

        g_T <- m g_T + (1-m) mean(c)              g_S likewise with u
        l_T(k) <- m l_T(k) + (1-m) mean{c_i : y_i = k}        l_S(k) likewise
        tau_T(k) = g_T l_T(k) / max_j l_T(j)      tau_S(k) likewise
        keep_i = [c_i >= tau_T(y_i)] and [u_i >= tau_S(y_i)]
        w_i = c_i + u_i

    l(k) stays where a batch has no row of class k. Thresholds are updated before a batch is masked, from all processes
    together: `statistics` gives sums that may be added (`all_reduce`), and `apply` takes them. All of it runs on the
    CPU in float64.

    Args:
        labels (`Sequence[str]`): Names of the classes, in the order of their indices.
        mode (`str`, *optional*, defaults to `"both"`):
            `"both"`, or for comparison `"teacher_only"`, `"student_only"` (one of the two conditions), `"off"` (keeps
            every row).
        class_statistic (`str`, *optional*, defaults to `"conditional_mean"`):
            `"conditional_mean"` as above, or FreeMatch's `"expectation"`: l_T(k) follows the batch mean of the
            teacher's probability of k, l_S(k) that of the student's. It needs both distributions.
        class_factor (`str`, *optional*, defaults to `"max_norm"`):
            What a class makes of the global threshold: `"max_norm"` as above; `"mean_norm"` divides by the mean over
            the classes instead; `"none"` has one threshold for all; `"own"` leaves the global one out, tau(k) = l(k):
            each class is measured against itself alone, so a class on which the teacher is never sure keeps its
            better half all the same.
        momentum (`float`, *optional*, defaults to `0.99`):
            *m*. Half of what it holds is older than log 0.5 / log m steps: 69 for 0.99, 693 for 0.999.
        start (`str`, *optional*, defaults to `"bias_corrected"`):
            `"bias_corrected"`: the first batch sets the averages. `"uniform"`: they start at 1 / *K*, as FreeMatch's.
        combine (`str`, *optional*, defaults to `"sum"`):
            The weight: `"sum"` c + u, `"product"` c u, `"mix"` alpha c + (1 - alpha) u, `"one"`.
        alpha (`float`, *optional*, defaults to `0.5`): Share of confidence in `"mix"`.
        min_class_share (`float`, *optional*, defaults to `0.0`):
            Quota against class collapse: of every class at least this share of its rows in the batch is kept (rounded
            up), those with the largest c + u first.

    Attributes:
        drawn (`list[int]`), kept (`list[int]`): Rows so far by class, as `count` was told.

    Raises:
        [`~errors.ConfigurationError`]: For an option that does not exist or a number out of range.

    Example:

    ```python
    >>> gate = LLKDGate(["ham", "spam"])
    >>> c, u, y = torch.tensor([0.9, 0.6, 0.8]), torch.tensor([0.2, 0.9, 0.8]), torch.tensor([0, 0, 1])
    >>> gate.update(c, u, y)
    >>> gate.keep(c, u, y).tolist()
    [False, False, True]
    ```
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        mode: str = "both",
        class_statistic: str = "conditional_mean",
        class_factor: str = "max_norm",
        momentum: float = 0.99,
        start: str = "bias_corrected",
        combine: str = "sum",
        alpha: float = 0.5,
        min_class_share: float = 0.0,
    ):
        _one_of("mode", mode, MODES)
        _one_of("class_statistic", class_statistic, CLASS_STATISTICS)
        _one_of("class_factor", class_factor, CLASS_FACTORS)
        _one_of("start", start, STARTS)
        _one_of("combine", combine, COMBINATIONS)
        if not 0 <= momentum < 1:
            raise ConfigurationError(f"momentum={momentum} must be at least 0 and below 1; 0.9 to 0.999 is usual.")
        for name, share in (("alpha", alpha), ("min_class_share", min_class_share)):
            if not 0 <= share <= 1:
                raise ConfigurationError(f"{name}={share} must be a share between 0 and 1.")
        if class_statistic == "expectation" and class_factor == "own":
            raise ConfigurationError(
                "class_factor='own' compares with the class's mean: use class_statistic='conditional_mean'."
            )
        if isinstance(labels, str) or len(labels) < 2:
            raise ConfigurationError(f"labels={labels!r} must be a list of at least two names.")
        self.labels = list(labels)
        self.mode = mode
        self.class_statistic = class_statistic
        self.class_factor = class_factor
        self.momentum = momentum
        self.start = start
        self.combine = combine
        self.alpha = alpha
        self.min_class_share = min_class_share
        self.teacher = Thresholds(len(self.labels), start)
        self.student = Thresholds(len(self.labels), start)
        self.drawn = [0] * len(self.labels)
        self.kept = [0] * len(self.labels)

    # Statistics

    def statistics(
        self,
        confidence: Tensor,
        uncertainty: Tensor,
        labels: Tensor,
        *,
        teacher_probabilities: Tensor | None = None,
        student_probabilities: Tensor | None = None,
    ) -> Tensor:
        """
        Sums over a batch that add up over processes, to the same whichever way the batch is split.

        Args:
            confidence (`Tensor` of shape `(N,)`): Teacher confidence, from 0 to 1.
            uncertainty (`Tensor` of shape `(N,)`): Student uncertainty, from 0 to 1.
            labels (`Tensor` of shape `(N,)`): Class indices of the teacher's labels.
            teacher_probabilities (`Tensor` of shape `(N, K)`, *optional*):
                The teacher's distributions, for `class_statistic="expectation"`.
            student_probabilities (`Tensor` of shape `(N, K)`, *optional*): The student's, likewise.

        Returns:
            `Tensor` of shape `(S,)` and type int64, on the CPU; zeros for an empty batch.
        """
        size = len(self.labels)
        c, u, y = self._checked(confidence, uncertainty, labels)
        member = torch.nn.functional.one_hot(y, size)
        parts = [torch.tensor([len(c)]), c.sum()[None], u.sum()[None], member.sum(0)]
        if self.class_statistic == "conditional_mean":
            parts += [(member * c[:, None]).sum(0), (member * u[:, None]).sum(0)]
        else:
            for name, given in (("teacher", teacher_probabilities), ("student", student_probabilities)):
                if given is None or tuple(given.shape) != (len(c), size):
                    raise ConfigurationError(
                        f"class_statistic='expectation' needs `{name}_probabilities` of shape ({len(c)}, {size})."
                    )
                parts.append(_fixed(f"{name}_probabilities", given).sum(0))
        return torch.cat(parts)

    def apply(self, statistics: Tensor) -> None:
        """Moves the thresholds by the (summed) statistics of a batch; an empty one changes nothing."""
        values = statistics.tolist()
        size = len(self.labels)
        number, sums = values[0], [value * _UNIT for value in values[1:3]]
        counts, teacher, student = (values[3 + i * size : 3 + (i + 1) * size] for i in range(3))
        if number == 0:
            return
        for side, total, by_class in ((self.teacher, sums[0], teacher), (self.student, sums[1], student)):
            side.overall.update(total / number, self.momentum)
            for average, count, value in zip(side.by_class, counts, by_class, strict=True):
                if self.class_statistic == "expectation":
                    average.update(value * _UNIT / number, self.momentum)
                elif count:
                    average.update(value * _UNIT / count, self.momentum)

    def update(self, confidence: Tensor, uncertainty: Tensor, labels: Tensor, **probabilities: Tensor) -> None:
        """`statistics` and `apply` in one, for a batch that is whole: arguments as in `statistics`."""
        self.apply(self.statistics(confidence, uncertainty, labels, **probabilities))

    # Decisions

    def thresholds(self) -> tuple[list[float], list[float]]:
        """tau_T and tau_S by class."""
        return self.teacher.values(self.class_factor), self.student.values(self.class_factor)

    def keep(self, confidence: Tensor, uncertainty: Tensor, labels: Tensor) -> Tensor:
        """
        Which rows take part. Each row is judged by itself, but for `min_class_share`, which needs the rows of all
        processes together.

        Args:
            confidence (`Tensor` of shape `(N,)`), uncertainty (`Tensor` of shape `(N,)`), labels (`Tensor` of shape
                `(N,)`): As in `statistics`.

        Returns:
            `Tensor` of shape `(N,)` and type bool, on the device of `confidence`.
        """
        c, u, y = self._checked(confidence, uncertainty, labels)
        tau_teacher, tau_student = (torch.tensor(tau, dtype=torch.float64)[y] for tau in self.thresholds())
        kept = torch.ones(len(y), dtype=torch.bool)
        if self.mode in ("both", "teacher_only"):
            kept &= c.double() * _UNIT >= tau_teacher
        if self.mode in ("both", "student_only"):
            kept &= u.double() * _UNIT >= tau_student
        if self.min_class_share and self.mode != "off":
            self._fill_quota(kept, c + u, y)
        return kept.to(confidence.device)

    def _fill_quota(self, kept: Tensor, merit: Tensor, labels: Tensor) -> None:
        for label in range(len(self.labels)):
            rows = (labels == label).nonzero()[:, 0]
            missing = math.ceil(self.min_class_share * len(rows)) - int(kept[rows].sum())
            if missing > 0:
                refused = rows[~kept[rows]]
                best = torch.argsort(merit[refused], descending=True, stable=True)
                kept[refused[best[:missing]]] = True

    def weights(self, confidence: Tensor, uncertainty: Tensor) -> Tensor:
        """The weight of each row in the loss, of shape `(N,)`, without a gradient."""
        c, u = confidence.detach(), uncertainty.detach()
        if self.combine == "one":
            return torch.ones_like(c)
        if self.combine == "product":
            return c * u
        return c + u if self.combine == "sum" else self.alpha * c + (1 - self.alpha) * u

    def count(self, keep: Tensor, labels: Tensor) -> None:
        """Adds a batch to `drawn` and `kept`: the rows of all processes."""
        for label, kept in zip(labels.tolist(), keep.tolist(), strict=True):
            self.drawn[label] += 1
            self.kept[label] += bool(kept)

    # State

    def state_dict(self) -> dict[str, Any]:
        """All that training changes, as JSON values. Loading it gives back the same bits."""
        return {
            "labels": list(self.labels),
            "teacher": self.teacher.state_dict(),
            "student": self.student.state_dict(),
            "drawn": list(self.drawn),
            "kept": list(self.kept),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave; a [`~errors.CheckpointError`] for a gate over other labels."""
        if list(state["labels"]) != self.labels:
            raise CheckpointError(
                f"The saved gate has the labels {list(state['labels'])}, this one has {self.labels}: resume with the "
                "label set that the run began with, or start a new run."
            )
        self.teacher.load_state_dict(state["teacher"])
        self.student.load_state_dict(state["student"])
        self.drawn, self.kept = list(state["drawn"]), list(state["kept"])

    def figures(self) -> dict[str, float]:
        """
        For logging: thresholds by label, the share kept so far, of all rows and by label, and kept rows by label.
        """
        figures = self.kept_shares()
        for side, taus in zip(("teacher", "student"), self.thresholds(), strict=True):
            figures.update({f"gate_{side}_threshold/{k}": v for k, v in zip(self.labels, taus, strict=True)})
        figures.update({f"gate_kept/{label}": float(kept) for label, kept in zip(self.labels, self.kept, strict=True)})
        return figures

    def kept_shares(self) -> dict[str, float]:
        """The share of the rows counted so far that was kept, `gate_kept_share`, and by label that was drawn."""
        counted = zip(self.labels, self.kept, self.drawn, strict=True)
        by_label = {f"gate_kept_share/{label}": kept / drawn for label, kept, drawn in counted if drawn}
        return {"gate_kept_share": sum(self.kept) / max(1, sum(self.drawn)), **by_label}

    def starved(self, **options: Any) -> dict[str, float]:
        """[`starved_classes`] of the rows counted so far."""
        drawn = dict(zip(self.labels, self.drawn, strict=True))
        return starved_classes(drawn, dict(zip(self.labels, self.kept, strict=True)), **options)

    def _checked(self, confidence: Tensor, uncertainty: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c, u = _fixed("confidence", confidence), _fixed("uncertainty", uncertainty)
        y = labels.detach().cpu().long()
        if not c.shape == u.shape == y.shape or c.dim() != 1:
            shapes = [tuple(tensor.shape) for tensor in (c, u, y)]
            raise DataError(f"confidence, uncertainty and labels must be vectors of one length, not {shapes}.")
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(self.labels):
            raise DataError(f"A label lies outside of the {len(self.labels)} classes of the gate.")
        return c, u, y


def normalised_entropy(logits: Tensor, *, multi_label: bool = False) -> Tensor:
    """
    The uncertainty *u* of the gate: the entropy of the student's prediction over that of the uniform one, from 0 to 1,
    without a gradient. Give it logits made in evaluation mode.

    Args:
        logits (`Tensor` of shape `(N, K)`): Of the classification head.
        multi_label (`bool`, *optional*, defaults to `False`):
            Whether each label stands for itself: then it is the mean of the labels' binary entropies.

    Returns:
        `Tensor` of shape `(N,)`, in float32 at least.
    """
    values = logits.detach()
    values = values if values.dtype == torch.float64 else values.float()
    if multi_label:
        values = torch.stack([torch.nn.functional.logsigmoid(values), torch.nn.functional.logsigmoid(-values)], -1)
    logp = values if multi_label else torch.log_softmax(values, -1)
    # A class that is out of the question (minus infinity) adds nothing.
    entropy = -(logp.exp() * logp.clamp(min=torch.finfo(logp.dtype).min)).sum(-1) / math.log(logp.shape[-1])
    return (entropy.mean(-1) if multi_label else entropy).clamp(0.0, 1.0)


def starved_classes(
    drawn: Mapping[str, int], kept: Mapping[str, int], *, below: float = 0.25, min_drawn: int = 20
) -> dict[str, float]:
    """
    Classes that a gate all but shuts out: their share among the kept rows is less than `below` times their share among
    the drawn ones. Gating on raw confidence can leave a single class; `class_factor="own"` or `min_class_share` of
    [`LLKDGate`] help.

    Args:
        drawn (`Mapping[str, int]`): Rows by class before the gate.
        kept (`Mapping[str, int]`): Rows by class behind it.
        below (`float`, *optional*, defaults to `0.25`): Ratio of the shares under which a class is starved.
        min_drawn (`int`, *optional*, defaults to `20`): Classes with fewer rows are not judged.

    Returns:
        `dict[str, float]`: The ratio of each starved class, from 0 to 1; empty while nothing is kept.
    """
    total_drawn, total_kept = sum(drawn.values()), sum(kept.values())
    ratios = {
        label: (kept.get(label, 0) / total_kept) / (count / total_drawn)
        for label, count in drawn.items()
        if count >= max(1, min_drawn) and total_kept
    }
    return {label: ratio for label, ratio in ratios.items() if ratio < below}


def _fixed(name: str, values: Tensor) -> Tensor:
    """Values from 0 to 1 as whole numbers of `_UNIT`."""
    exact = values.detach().cpu().double()
    if exact.numel() and not (bool(torch.isfinite(exact).all()) and -1e-4 <= exact.min() <= exact.max() <= 1 + 1e-4):
        raise DataError(
            f"{name} must lie between 0 and 1, but has {exact.min().item():g} to {exact.max().item():g}: NaN comes of "
            "a student whose training diverged (lower the learning rate)."
        )
    return (exact / _UNIT).round().long()


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name}={value!r} must be one of {', '.join(known)}.")
