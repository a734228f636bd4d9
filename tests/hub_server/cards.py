"""What the Hub checks in a README: its metadata."""

from __future__ import annotations

import re
from typing import Any

import yaml


_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
_REPO_ID = re.compile(r"\A[\w.-]+(/[\w.-]+)?\Z")
_LICENSES = (
    "afl-3.0 apache-2.0 bsd-2-clause bsd-3-clause cc-by-4.0 cc-by-nc-4.0 cc-by-sa-4.0 cc0-1.0 gemma gpl-3.0 llama2 "
    "llama3 llama3.1 llama3.2 llama3.3 mit openrail other unknown"
).split()
_TEXTS = {"model": ("base_model", "datasets", "tags", "language", "metrics"), "dataset": ("tags", "language")}


def metadata(content: str) -> dict[str, Any] | None:
    """The front matter, `None` where there is none that can be read."""
    found = _FRONT_MATTER.match(content)
    try:
        fields = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    return fields if isinstance(fields, dict) else None


def check(content: str, kind: str) -> tuple[list[str], list[str]]:
    """Errors and warnings."""
    found = _FRONT_MATTER.match(content)
    if found is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        fields = yaml.safe_load(found[1]) or {}
    except yaml.YAMLError as error:
        return [f"YAML: {error}"], []
    if not isinstance(fields, dict):
        return ["the metadata is not a mapping"], []
    errors = []
    for name in _TEXTS.get(kind, ()):
        value = fields.get(name)
        texts = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(text, str) for text in texts):
            errors.append(f'"{name}" must be a string or an array of strings')
        elif value is not None and name in ("base_model", "datasets"):
            errors += [f'"{name}" with value "{text}" is not valid' for text in texts if not _REPO_ID.match(text)]
    if fields.get("license") not in (None, *_LICENSES):
        errors.append(f'"license" must be one of {_LICENSES}')
    errors += _check_configs(fields.get("configs"))
    errors += _check_results(fields.get("model-index"))
    return errors, []


def _check_configs(configs: Any) -> list[str]:
    if configs is None:
        return []
    if not isinstance(configs, list):
        return ['"configs" must be an array']
    return [
        f'"configs[{index}].config_name" must be a string'
        for index, config in enumerate(configs)
        if not isinstance(config, dict) or not isinstance(config.get("config_name"), str)
    ]


def _check_results(index: Any) -> list[str]:
    if index is None:
        return []
    if not isinstance(index, list) or not all(isinstance(model, dict) and model.get("name") for model in index):
        return ['"model-index" must be an array of models with a "name"']
    errors = []
    for model in index:
        for number, result in enumerate(model.get("results") or []):
            place = f'"model-index[0].results[{number}]'
            if not (result.get("task") or {}).get("type"):
                errors.append(f'{place}.task.type" is required')
            if not {"type", "name"} <= set(result.get("dataset") or {}):
                errors.append(f'{place}.dataset" needs "type" and "name"')
            if not all({"type", "value"} <= set(metric) for metric in result.get("metrics") or [{}]):
                errors.append(f'{place}.metrics" need "type" and "value"')
    return errors
