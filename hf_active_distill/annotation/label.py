"""The teacher labels a text: a distribution over the label set instead of an explanation."""

from __future__ import annotations

import dataclasses
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from ..errors import ConfigurationError, TeacherRequestError
from ..records import Annotation, Prompt, Usage
from ..tasks.base import Task
from ..tasks.classification import ClassificationTask
from ..teachers.base import TeacherInfo, TeacherReply, TeacherRequest, TopToken
from ..teachers.labels import ANSWER, LETTERS, METHODS, Asker, LabelDistribution, label_distribution
from .base import AnnotationItem, AnnotationSettings, Ask
from .demonstrations import Demonstrations
from .dialogue import Dialogue, Draft
from .label_prompts import NO, YES, label_prompt
from .registry import BaseAnnotation, register_annotation


R = TypeVar("R")

OUTSIDE = "outside_labels"
ABSTAINED = "abstained"
WRONG = "wrong_answer"


@register_annotation("label")
class LabelAnnotation(BaseAnnotation):
    """
    How probable the teacher holds each label, by the best way its server has ([`~teachers.label_distribution`]): one
    call a row where the server shows as many top tokens as there are labels.

    The record's `distribution` is over the labels of the student and sums to 1; `confidence` is the probability of the
    label that was given, a doubt that went to `abstain` taken off. Where several labels can hold (`multi_label`), each
    is asked about by itself, yes or no: `distribution` has the probability of yes, and `confidence` is that of the
    label about which the teacher is least sure. A row fails with `"outside_labels"` where the teacher would rather say
    something else than a label, and with `"abstained"` where it chooses `abstain`.

    Args:
        task ([`~tasks.ClassificationTask`]): The label set.
        settings ([`AnnotationSettings`]): How the teacher shall answer.
        method (`str`, *optional*, defaults to `"auto"`):
            How the distribution is measured: `"grammar"`, `"top_tokens"`, `"scored"`, `"samples"`, or what suits the
            server. A teacher that thinks aloud is sampled. More labels than letters (62) are named in words, so they
            are sampled, or scored with `chat=False`.
        samples (`int`, *optional*, defaults to `5`): Replies to sample where probabilities cannot be had.
        sampling_temperature (`float`, *optional*, defaults to `1.0`): At which they are sampled.
        min_mass (`float`, *optional*, defaults to `0.1`):
            Least probability that the teacher's next word is a label at all. 0 takes any above 0, and saves a call a
            row where a grammar is used.
        rotations (`int`, *optional*, defaults to `1`):
            Orders of the options that are asked for and averaged, each a shift of the last: models prefer some letters
            (*Large Language Models Are Not Robust Multiple Choice Selectors*, arXiv 2309.03882). The cost is as many
            times that of one.
        threshold (`float`, *optional*, defaults to `0.5`): With `multi_label`, probability from which a label holds.
        calibration_temperature (`float`, *optional*, defaults to `1.0`):
            Probabilities are raised to the power 1 / T and normalised again; [`~evaluation.fit_temperature`] finds it.
        demonstrations ([`Demonstrations`] or `list[dict]`, *optional*):
            Labelled rows that the prompt shows. A list is shown as it is.
        chat (`bool`, *optional*, defaults to `True`):
            Whether the question is a turn of a chat. If `False`, it is plain text that the teacher goes on from, as
            models without a chat template need it.

    Raises:
        [`~errors.ConfigurationError`]: For another kind of task, a method that cannot work, numbers out of range.
    """

    name: ClassVar[str] = "label"
    task: ClassificationTask

    def __init__(
        self,
        task: Task,
        settings: AnnotationSettings,
        *,
        method: str = "auto",
        samples: int = 5,
        sampling_temperature: float = 1.0,
        min_mass: float = 0.1,
        rotations: int = 1,
        threshold: float = 0.5,
        calibration_temperature: float = 1.0,
        demonstrations: Demonstrations | Sequence[Mapping[str, Any]] | None = None,
        chat: bool = True,
    ):
        super().__init__(task, settings)
        if not isinstance(task, ClassificationTask):
            raise ConfigurationError(
                f"The annotation 'label' needs a label set, and {type(task).__name__} has none: use "
                "`task='classification'` with `task_kwargs={'labels': [...]}`."
            )
        if method not in METHODS:
            raise ConfigurationError(f"method={method!r} must be one of {', '.join(METHODS)}.")
        if chat and method == "scored":
            raise ConfigurationError("method='scored' needs plain text: set `chat=False`, or another method.")
        #: Whether labels are put as lettered options. Of more than there are letters, the teacher writes the name.
        self.letters = task.multi_label or len(task.options) <= len(LETTERS)
        if not self.letters and method in ("grammar", "top_tokens"):
            raise ConfigurationError(
                f"method={method!r} needs a letter for every label, and {len(task.options)} labels are more than the "
                f"{len(LETTERS)} letters there are: leave `method` out."
            )
        for name, share in (("min_mass", min_mass), ("threshold", threshold)):
            if not 0 <= share <= 1:
                raise ConfigurationError(f"{name}={share} must lie between 0 and 1.")
        if calibration_temperature <= 0 or rotations < 1 or samples < 1:
            raise ConfigurationError("calibration_temperature must be above 0, rotations and samples at least 1.")
        self.method = method
        self.samples = samples
        self.sampling_temperature = sampling_temperature
        self.min_mass = min_mass
        self.rotations = rotations
        self.threshold = threshold
        self.calibration_temperature = calibration_temperature
        self.chat = chat
        if demonstrations is not None and not isinstance(demonstrations, Demonstrations):
            demonstrations = Demonstrations(task, demonstrations, count=max(1, len(demonstrations)))
        self.demonstrations = demonstrations

    @property
    def relies_on_logprobs(self) -> bool:
        """Whether log-probabilities are what is asked for, so that a server without them is found out first."""
        return self.letters and self.method in ("auto", "grammar", "top_tokens")

    async def revise(self, draft: Draft, dialogue: Dialogue) -> Annotation:
        asker = _Asker(dialogue.ask, draft.item.attempt)
        info = getattr(dialogue.ask, "info", None) or TeacherInfo("unknown")
        try:
            found = await self._distributions(draft.item, asker, info)
        except TeacherRequestError as error:
            if self.method != "auto" or "grammar" not in str(error).lower():
                raise
            # A server without grammars refuses before the model, which costs nothing.
            found = await self._distributions(draft.item, asker, replace(info, supports_grammar=False))
        finally:
            dialogue.usage = asker.usage
        return self._many(draft, found) if self.task.multi_label else self._one(draft, found[0])

    async def _distributions(self, item: AnnotationItem, ask: Asker, info: TeacherInfo) -> list[LabelDistribution]:
        """One distribution over the options, or one of yes and no for every label."""
        shown = self.demonstrations.of(item.row) if self.demonstrations is not None else []
        if not self.task.multi_label:
            prompt = label_prompt(self.task, item.row, shown, words=not self.letters)
            return [await self._rotated(ask, info, prompt, self.task.options)]
        prompts = [label_prompt(self.task, item.row, shown, label) for label in self.task.labels]
        return [await self._rotated(ask, info, prompt, [YES, NO]) for prompt in prompts]

    async def _rotated(self, ask: Asker, info: TeacherInfo, text: str, options: list[str]) -> LabelDistribution:
        prompt: Prompt = [{"role": "user", "content": text}] if self.chat else text
        if not self.chat and not self.letters:
            prompt = f"{text}{ANSWER}"
        method = "samples" if self.method == "auto" and info.thinks else self.method
        found = []
        for shift in range(min(self.rotations, len(options))):
            found.append(
                await label_distribution(
                    ask,
                    info,
                    prompt,
                    options[shift:] + options[:shift],
                    method=method,
                    letters=self.letters,
                    mass=self.min_mass > 0,
                    samples=self.samples,
                    temperature=self.sampling_temperature,
                    params=self.settings.params,
                )
            )
        by_name = [dict(zip(one.labels, one.probabilities, strict=True)) for one in found]
        means = [sum(one[name] for one in by_name) / len(by_name) for name in options]
        masses = [one.mass for one in found if one.mass is not None]
        return LabelDistribution(options, self._calibrated(means), min(masses) if masses else None, found[0].method)

    def _calibrated(self, probabilities: Sequence[float]) -> list[float]:
        if self.calibration_temperature == 1.0:
            return list(probabilities)
        powers = [p ** (1 / self.calibration_temperature) for p in probabilities]
        return [power / sum(powers) for power in powers]

    def _one(self, draft: Draft, found: LabelDistribution) -> Annotation:
        probabilities = dict(zip(found.labels, found.probabilities, strict=True))
        ours = [probabilities[name] for name in self.task.labels]
        best = self.task.labels[max(range(len(ours)), key=ours.__getitem__)]
        abstains = self.task.abstain is not None and probabilities[self.task.abstain] > probabilities[best]
        total = sum(ours)
        shares = [p / total for p in ours] if total > 0 else [1 / len(ours)] * len(ours)
        return self._finished(
            draft,
            ABSTAINED if abstains else None,
            answer=best,
            label=best,
            distribution=dict(zip(self.task.labels, shares, strict=True)),
            confidence=probabilities[best],
            mass=found.mass,
        )

    def _many(self, draft: Draft, found: Sequence[LabelDistribution]) -> Annotation:
        holds = {label: one.probabilities[0] for label, one in zip(self.task.labels, found, strict=True)}
        labels = [label for label, p in holds.items() if p >= self.threshold]
        masses = [one.mass for one in found if one.mass is not None]
        return self._finished(
            draft,
            None,
            answer=self.task.join(labels),
            labels=labels,
            distribution=holds,
            confidence=min(p if label in labels else 1 - p for label, p in holds.items()),
            mass=min(masses) if masses else None,
        )

    def _finished(self, draft: Draft, reason: str | None, *, answer: str, **fields: Any) -> Annotation:
        """The record. What a failed one measured stands in it, but no label that somebody could train on."""
        if fields["mass"] is not None and (fields["mass"] < self.min_mass or not fields["mass"]):
            reason = OUTSIDE
        if reason is None and self.settings.verify and self.task.verify(draft.item.row, answer) is False:
            reason = WRONG
        if reason is not None:
            fields.update(label=None, labels=None)
            # What a reference contradicts stays readable: an audit counts it.
            return replace(draft.record("failed", [], answer if reason == WRONG else None, reason), **fields)
        record = replace(draft.record("ok", [], answer), **fields)
        record.completion = self.task.render_completion([], answer)
        return record

    def plan(self, item: AnnotationItem) -> list[list[TeacherRequest]]:
        """
        Fewest: a server that shows all labels among its top tokens. Most: one with TGI's default of five, asked set by
        set, or one that shows none after all and is sampled, whichever asks more.
        """
        able = TeacherInfo(
            "planned", door="tgi", supports_logprobs=True, supports_grammar=True, supports_prefill_logprobs=True
        )
        fewest = self._planned(item, replace(able, supports_grammar=False), LETTERS)
        visible = ["A", ""] if self.method == "auto" else ["A"]
        return [fewest, max((self._planned(item, able, letters) for letters in visible), key=len)]

    def _planned(self, item: AnnotationItem, info: TeacherInfo, visible: str) -> list[TeacherRequest]:
        """The requests that a teacher gets which has `visible` letters among its top tokens."""
        asker = _Asker(_Planned(visible), item.attempt)
        _finish(self._distributions(item, asker, info))
        return asker.requests


class _Asker:
    """`ask` with turns and tries counted: a later try of the row must not be answered by what an earlier one was."""

    def __init__(self, ask: Ask, attempt: int):
        self._ask = ask
        self._attempt = attempt
        self.requests: list[TeacherRequest] = []
        self.usage = Usage()

    async def __call__(self, request: TeacherRequest) -> TeacherReply:
        request = dataclasses.replace(request, attempt=self._attempt)
        self.requests.append(request)
        reply = await self._ask(request, turn=len(self.requests) - 1)
        self.usage = self.usage + reply.usage
        return reply


class _Planned:
    """Answers at once what leads to the next request."""

    def __init__(self, visible: str):
        self._top = [[TopToken(letter, -1.0) for letter in visible]] if visible else None

    async def __call__(self, request: TeacherRequest, *, turn: int = 0) -> TeacherReply:
        return TeacherReply("A", top_tokens=self._top, prefill=[TopToken("A", -1.0)])


def _finish(coroutine: Coroutine[Any, Any, R]) -> R:
    """Runs a coroutine that never waits, inside or outside of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("a plan waited for something")
