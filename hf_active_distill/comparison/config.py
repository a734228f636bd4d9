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

from ..annotation import available_annotations
from ..errors import ConfigurationError
from . import checks
from .secrecy import seen, without_secrets


# The first character keeps `.` and `..` out. Bytes, since that is what a file system counts.
_NAME = re.compile(r"[\w+=,-][\w.+=,-]*")
_NAME_BYTES = 100


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
        self._check_fields()
        self._arms = self._expand()
        arms = [arm.name for arm in self._arms]
        self.reference = self.reference or self._default_reference()
        self.targets = self.targets or [self.reference]
        for name in [self.reference, *(target for target in self.targets if isinstance(target, str))]:
            if name not in arms:
                raise ConfigurationError(f"There is no arm {name!r}: the arms are {', '.join(arms)}.")
        self._check_annotations()

    def _check_fields(self) -> None:
        self.output_dir = checks.text(_path(self.output_dir), "output_dir", "out/mine")
        self.teacher = checks.text(self.teacher, "teacher", "http://localhost:8080")
        self.arms = checks.arms(self.arms)
        self.budgets = checks.budgets(self.budgets)
        self.seeds = list(checks.seeds(self.seeds))
        self.base = checks.base_settings(self.base)
        self.per_annotation = {
            name: checks.settings(settings, f"per_annotation: {name}")
            for name, settings in checks.mapping(self.per_annotation, "per_annotation").items()
        }
        if self.reference is not None:
            self.reference = checks.text(self.reference, "reference", "random+cot")
        self.metric = checks.text(self.metric, "metric", "accuracy").removeprefix("eval_")
        self.greater_is_better = checks.flag(self.greater_is_better, "greater_is_better")
        self.targets = checks.targets(self.targets)
        self.teacher_kwargs = checks.teacher_options(self.teacher_kwargs)
        self.teacher_concurrency = checks.count(self.teacher_concurrency, "teacher_concurrency")
        if self.max_paid_tokens is not None:
            self.max_paid_tokens = checks.count(self.max_paid_tokens, "max_paid_tokens")
        self.threads = checks.count(self.threads, "threads")
        self.keep_students = checks.flag(self.keep_students, "keep_students")

    def _check_annotations(self) -> None:
        """A name that no arm uses is a mistake, unless it is that of a method: files share such blocks."""
        used = {str(arm.settings["annotation"]) for arm in self._arms}
        if unknown := sorted(set(self.per_annotation) - used - set(available_annotations())):
            raise ConfigurationError(
                f"`per_annotation` names {', '.join(unknown)}, but no arm has that annotation: take it out, or write "
                f"it as the arms do: {', '.join(sorted(used))}."
            )

    def shown(self) -> str:
        """What was asked for as YAML, for others to see: secrets are left out, and so is what is as by default."""
        empty: dict[str, Any] = {"base": {}, "per_annotation": {}, "teacher_kwargs": {}}
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        defaults = {item.name: item.default for item in fields(self)} | empty
        kept = {name: value for name, value in given.items() if value != defaults[name]}
        plain = json.loads(json.dumps(without_secrets(kept), default=str))
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)

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
        template = checks.text(settings.pop("name", "{selection}+{annotation}"), "name", "{selection}-long")
        seeds = checks.seeds(settings.pop("seeds", self.seeds))
        settings = checks.settings(settings, template)
        missing = [key for key in ("selection", "annotation") if key not in {**self.base, **settings}]
        if missing:
            raise ConfigurationError(
                f"An arm has no {' and no '.join(missing)}: {seen(entry)}. Name it there or in `base`."
            )
        both = [checks.names(settings.get(key, self.base.get(key)), key) for key in ("selection", "annotation")]
        for selection, annotation in itertools.product(*both):
            name = template.replace("{selection}", selection).replace("{annotation}", annotation)
            if not _NAME.fullmatch(name) or len(name.encode()) > _NAME_BYTES:
                raise ConfigurationError(
                    f"The arm {name[:_NAME_BYTES]!r} names a folder: use at most {_NAME_BYTES} letters, digits and "
                    ". + = , - _ only, and no dot at the start. Give it a `name`."
                )
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
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read as YAML in UTF-8 ({error}).") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
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


def _path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
