"""The papers that a run follows, and how to cite them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Paper:
    """
    A paper.

    Args:
        name (`str`): Short name of the method.
        arxiv (`str`): Its number on arXiv.
        bibtex (`str`): Its entry.
    """

    name: str
    arxiv: str
    bibtex: str


ELAD = Paper(
    "ELAD",
    "2402.13098",
    """@inproceedings{zhang2024elad,
  title = {{ELAD}: Explanation-Guided Large Language Models Active Distillation},
  author = {Zhang, Yifei and Pan, Bo and Ling, Chen and Hu, Yuntong and Zhao, Liang},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2024},
  pages = {4463--4475},
  year = {2024},
}""",
)
LLKD = Paper(
    "LLKD",
    "2411.08028",
    """@inproceedings{li2025llkd,
  title = {Learning with Less: Knowledge Distillation from Large Language Models via Unlabeled Data},
  author = {Li, Juanhui and Nag, Sreyashi and Liu, Hui and Tang, Xianfeng and Sarwar, Sheikh and Cui, Limeng and
            Gu, Hansu and Wang, Suhang and He, Qi and Tang, Jiliang},
  booktitle = {Findings of the Association for Computational Linguistics: NAACL 2025},
  year = {2025},
}""",
)


def papers_of(settings: Mapping[str, Any]) -> list[Paper]:
    """The papers that a run with these settings follows; none where its parts are nobody's method as a whole."""
    papers = []
    if settings.get("selection") == "egss" or settings.get("annotation") in ("clear", "one_call"):
        papers.append(ELAD)
    if settings.get("gate") or settings.get("selection") == "llkd_gate":
        papers.append(LLKD)
    return papers
