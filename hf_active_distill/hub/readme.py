"""The front matter that tells `load_dataset` and the viewer which table lies where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import DatasetCard, DatasetCardData

from .layout import ANNOTATIONS, POOL, TABLES


if TYPE_CHECKING:
    from .contents import RoundContents


def write_readmes(partial: Path, contents: RoundContents) -> None:
    for part in (POOL, ANNOTATIONS):
        tables = [t for t, of in TABLES.items() if of == part and (t != "seed" or contents.seed_rows)]
        configs = [{"config_name": t, "data_files": f"{t}/*.parquet"} for t in tables]
        card = DatasetCardData(configs=configs)
        DatasetCard(f"---\n{card.to_yaml()}\n---\n").save(partial / part / "README.md")
