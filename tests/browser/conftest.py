"""A browser, and the page of a run with an arm beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import Browser, chromium
from made_runs import make_run

from hf_active_distill.reports import write_report


@pytest.fixture(scope="session")
def opened():
    with chromium() as browser:
        browser.driver.get("about:blank")
        yield browser


@pytest.fixture
def browser(opened: Browser):
    opened.size(1200)
    opened.prefer("light")
    opened.requests()
    opened.console()
    return opened


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "out"
    make_run(folder, rounds=3, rows=40)
    make_run(folder / "compare-random", rounds=3, rows=40, selection="random", accuracies=[0.4, 0.4, 0.4, 0.45])
    return write_report(folder)
