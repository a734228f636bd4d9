"""What is compared, read from one YAML file: arms, seeds, budgets, and what all runs have in common."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigurationError


#: Settings of a run that the comparison itself decides.
OWN_SETTINGS = ("journal_path", "max_teacher_tokens", "output_dir", "resume_from_checkpoint", "seed", "teacher")
_NO_TOKENS = "leave it out of the file, which the report shows, and set HF_TOKEN in the environment."
_NAME = re.compile(r"[\w.+=,-]+")


@dataclass(frozen=True)
class Arm:
    """
    One way to select and to annotate.

    Args:
        name (`str`): What it is called in tables; also its folder.
        settings (`dict[str, Any]`): Settings in which its runs differ from those of the other arms.
        seeds (`tuple[int, ...]`): Its seeds.
    """

    name: str
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """
    One arm with one seed.

    Args:
        arm (`str`): Name of the arm.
        seed (`int`): Seed of pool, evaluation rows, student and selection.
        settings (`dict[str, Any]`): All settings of the run, as a recipe's YAML would hold them.
        folder (`Path`): Where it lies.
    """

    arm: str
    seed: int
    settings: Mapping[str, Any]
    folder: Path

    @property
    def fingerprint(self) -> str:
        """The same for the same settings, wherever the run lies."""
        kept = {key: value for key, value in self.settings.items() if key != "output_dir"}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        return f"{self.arm} seed {self.seed}"


@dataclass
class ComparisonConfig:
    """
    A comparison, as its YAML file describes it.

    Args:
        output_dir (`str`): Folder of runs, journal and report.
        teacher (`str`): An address as [`~teachers.load_teacher`] takes it, `scripted:WORLD` for the built-in teacher
            of a world, or `module:name` for a Python function, a [`~teachers.Teacher`], or, with `teacher_kwargs`,
            something that makes one of these.
        arms (`list[dict]`): Each with `selection` and `annotation`, one name or a list of them (every pair becomes an
            arm), and whatever settings differ; optionally with a `name`, in which `{selection}` and `{annotation}`
            are filled in, and `seeds` of its own.
        budgets (`list[int]`): Teacher tokens, in rising order. Runs are given the last one and compared at each.
        seeds (`list[int]` or `int`, *optional*, defaults to `5`): Seeds of every run; a number `n` means 0 to n-1.
        base (`dict[str, Any]`): Settings that all runs share: those of `recipes/elad.py`.
        per_annotation (`dict[str, dict]`, *optional*): Settings by the name of an annotation, for example
            `samples_per_round`, since a dialogue costs more than one answer. An arm's own settings come before these,
            and these before `base`.
        reference (`str`, *optional*): The arm that the others are compared with; by default the first whose
            selection is `random`, else the first.
        metric (`str`, *optional*, defaults to `"accuracy"`): Metric of the evaluation that is compared.
        greater_is_better (`bool`, *optional*, defaults to `True`): Whether a greater metric is better.
        targets (`list[float | str]`, *optional*): Metrics whose price is asked for: numbers, or names of arms for what
            the arm has at the last budget. Defaults to the reference.
        teacher_kwargs (`dict[str, Any]`, *optional*): Options of the teacher.
        teacher_concurrency (`int`, *optional*, defaults to `8`): Calls in flight at most, over all runs.
        max_paid_tokens (`int`, *optional*): Most tokens that all runs together may pay for.
        threads (`int`, *optional*, defaults to `1`): CPU threads of a run.
        keep_students (`bool`, *optional*, defaults to `False`): Whether finished students are kept.
    """

    output_dir: str
    teacher: str
    arms: list[dict[str, Any]]
    budgets: list[int]
    seeds: list[int] | int = 5
    base: dict[str, Any] = field(default_factory=dict)
    per_annotation: dict[str, dict[str, Any]] = field(default_factory=dict)
    reference: str | None = None
    metric: str = "accuracy"
    greater_is_better: bool = True
    targets: list[float | str] = field(default_factory=list)
    teacher_kwargs: dict[str, Any] = field(default_factory=dict)
    teacher_concurrency: int = 8
    max_paid_tokens: int | None = None
    threads: int = 1
    keep_students: bool = False

    def __post_init__(self) -> None:
        if not self.arms:
            raise ConfigurationError("`arms` is empty: name at least one pair of `selection` and `annotation`.")
        if not self.budgets or self.budgets != sorted(set(self.budgets)) or self.budgets[0] < 1:
            raise ConfigurationError(f"`budgets` are numbers of teacher tokens in rising order, got {self.budgets}.")
        if "token" in self.teacher_kwargs:
            raise ConfigurationError(f"`teacher_kwargs` holds a token: {_NO_TOKENS}")
        self.metric = self.metric.removeprefix("eval_")
        _refuse_own(self.base, "base")
        for name, settings in self.per_annotation.items():
            _refuse_own(settings, f"per_annotation: {name}")
        self._arms = self._expand()
        names = [arm.name for arm in self._arms]
        self.reference = self.reference or self._default_reference()
        self.targets = self.targets or [self.reference]
        for name in [self.reference, *(target for target in self.targets if isinstance(target, str))]:
            if name not in names:
                raise ConfigurationError(f"There is no arm {name!r}: the arms are {', '.join(names)}.")

    @property
    def arm_list(self) -> list[Arm]:
        """The arms, lists of selections and annotations written out."""
        return self._arms

    @property
    def folder(self) -> Path:
        return Path(self.output_dir)

    def runs(self) -> list[Run]:
        """All runs: seed by seed, so that a comparison that is cut short is one of fewer seeds."""
        longest = max(len(arm.seeds) for arm in self._arms)
        return [
            self._run(arm, arm.seeds[place])
            for place in range(longest)
            for arm in self._arms
            if place < len(arm.seeds)
        ]

    def _run(self, arm: Arm, seed: int) -> Run:
        folder = self.folder / "runs" / arm.name / f"seed-{seed}"
        annotation = self.per_annotation.get(str(arm.settings.get("annotation")), {})
        settings = {
            **self.base,
            **annotation,
            **arm.settings,
            "seed": seed,
            "max_teacher_tokens": self.budgets[-1],
            "output_dir": str(folder),
        }
        return Run(arm.name, seed, settings, folder)

    def _expand(self) -> list[Arm]:
        arms = [arm for entry in self.arms for arm in self._of_entry(entry)]
        names = [arm.name for arm in arms]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConfigurationError(f"More than one arm is called {', '.join(doubled)}: give them a `name` each.")
        return arms

    def _of_entry(self, entry: Mapping[str, Any]) -> Iterator[Arm]:
        settings = dict(entry)
        template = str(settings.pop("name", "{selection}+{annotation}"))
        seeds = _seeds(settings.pop("seeds", self.seeds))
        _refuse_own(settings, template)
        missing = [key for key in ("selection", "annotation") if key not in {**self.base, **settings}]
        if missing:
            raise ConfigurationError(f"An arm has no {' and no '.join(missing)}: {entry}. Name it there or in `base`.")
        both = [_list(settings.get(key, self.base.get(key))) for key in ("selection", "annotation")]
        for selection, annotation in itertools.product(*both):
            name = template.replace("{selection}", selection).replace("{annotation}", annotation)
            if not _NAME.fullmatch(name):
                raise ConfigurationError(f"The arm {name!r} names a folder: use letters, digits and . + = , - _ only.")
            yield Arm(name, {**settings, "selection": selection, "annotation": annotation}, seeds)

    def _default_reference(self) -> str:
        random = [arm.name for arm in self._arms if arm.settings["selection"] == "random"]
        return random[0] if random else self._arms[0].name


def read_comparison(path: str | Path, **changes: Any) -> ComparisonConfig:
    """
    Reads a YAML file.

    Args:
        path (`str` or `Path`): The file.
        changes (`Any`): Fields to set otherwise than the file does; `None` leaves one as it is.

    Raises:
        [`~errors.ConfigurationError`]: When it cannot be read, or holds what a comparison cannot do.
    """
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read as YAML ({error}).") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold the fields of a comparison, such as `arms` and `budgets`.")
    content |= {key: value for key, value in changes.items() if value is not None}
    known = {item.name: item for item in fields(ComparisonConfig)}
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{path} has fields that a comparison does not know: {', '.join(unknown)}. Settings of the runs stand in "
            f"`base`, in `per_annotation` or in an arm; the comparison's own are {', '.join(sorted(known))}."
        )
    missing = [name for name in ("output_dir", "teacher", "arms", "budgets") if name not in content]
    if missing:
        raise ConfigurationError(f"{path} lacks {', '.join(missing)}.")
    return ComparisonConfig(**content)


def _refuse_own(settings: Mapping[str, Any], place: str) -> None:
    if "teacher_token" in settings:
        raise ConfigurationError(f"`{place}` holds a `teacher_token`: {_NO_TOKENS}")
    taken = sorted(set(settings) & set(OWN_SETTINGS))
    if taken:
        raise ConfigurationError(
            f"`{place}` sets {', '.join(taken)}, which the comparison decides itself: use the fields `budgets`, "
            "`seeds`, `teacher` and `output_dir`."
        )


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = tuple(range(value)) if isinstance(value, int) else tuple(value)
    if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(seed, int) for seed in seeds):
        raise ConfigurationError(f"`seeds` are different whole numbers, or how many of them, got {value!r}.")
    return seeds


def _list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
