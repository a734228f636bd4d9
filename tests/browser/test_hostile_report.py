"""Whatever a pool or a teacher wrote, nothing of it runs, loads or breaks the report."""

from __future__ import annotations

import pytest
from chromium import Browser
from made_runs import add_review, labelling, make_run
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from silent_server import Listener

from hf_active_distill.reports import write_report


pytestmark = pytest.mark.browser
LONG = "x" * 1_000_000


def attacks(url: str) -> list[str]:
    """What a pool or a teacher might write to do harm."""
    return [
        "<script>ran.push('script')</script>",
        f"<script src='{url}/script.js'></script>",
        f"<img src='{url}/image.png' onerror=\"ran.push('image')\">",
        f"<svg onload=\"ran.push('svg')\"><use href='{url}/use.svg#a'/></svg>",
        f"<iframe src='{url}/frame' srcdoc=\"<script>parent.ran.push('frame')</script>\"></iframe>",
        f"<link rel=stylesheet href='{url}/style.css'><style>@import '{url}/import.css'; * {{display:none}}</style>",
        f"<meta http-equiv=refresh content='0; url={url}/refresh'>",
        f"<base href='{url}/'><form action='{url}/form'><input autofocus onfocus=\"ran.push('focus')\"></form>",
        "</script><script>ran.push('end of data')</script><!--",
        "<!--<script>",
        "]]></style></script></textarea></title><body onload=\"ran.push('body')\">",
        f"![image]({url}/markdown.png) [link](javascript:ran.push('link')) `code` **bold**",
        "{{ 7 * 7 }} ${7 * 7} {% for x in y %} #{7*7}",
        "\"'`;ran.push('quote');//",
        "&lt;script&gt;ran.push('entity')&lt;/script&gt; &#x3C;b&#x3E;",
        "__proto__",
        "constructor",
        "\u202egnp.exe\u202c right to left \u2067inside\u2069 \u200f\u0627\u0644\u0639\u0631\u0628\u064a\u0629 123",
        "\u0000NUL \u001b[31mred \u0007 bell \ufeff\u2028\u2029",
        "\ud800 alone, \udfff alone, \U0001f600 together",
        "Z\u0351\u036b\u0343\u036a" * 40,
        LONG,
        "<b>" * 2000,
        "\n" * 500 + "far below",
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run in which every text is one of the attacks in turn: ids, labels and settings as well."""
    with Listener() as listener:
        pool = attacks(listener.url)
        pages = []
        for name, make in (("steps", None), ("labels", labelling)):
            counter = iter(range(10**9))

            def text(plain: str, counter=counter) -> str:
                # The place first: ids stay different when they are cut.
                place = next(counter)
                return f"{place} {pool[place % len(pool)]}"

            folder = tmp_path_factory.mktemp("hostile") / f"<b onmouseover=ran.push(1)>{name}"
            make_run(folder, rounds=2, rows=3 * len(pool), text=text, **({"make": make} if make else {}))
            if make is labelling:
                add_review(folder, text)
            pages.append(write_report(folder))
        yield listener, pool, pages


def own_elements(browser: Browser) -> set[str]:
    return set(browser.ask("return [...document.querySelectorAll('*')].map((e) => e.localName)"))


PAGE_ELEMENTS = set(
    "html head meta title style body script a header div p button h1 h2 h3 bdi span details summary dl dt dd nav "
    "ol ul li main noscript section strong figure figcaption label select option canvas table caption thead tbody tr "
    "th td input fieldset legend article ins del footer".split()
)


@pytest.mark.parametrize("kind", [0, 1], ids=["steps", "labels"])
def test_nothing_of_a_hostile_pool_runs_or_loads(browser, hostile, kind):
    listener, pool, pages = hostile
    page = pages[kind]
    browser.open(page)
    cards = browser.ask(
        """
        const texts = new Set();
        const next = () => [...document.querySelectorAll("#changed .pager button")].at(-1);
        for (;;) {
          document.querySelectorAll("details").forEach((element) => { element.open = true; });
          document.querySelectorAll(".said").forEach((element) => texts.add(element.textContent.slice(0, 300)));
          if (next().getAttribute("aria-disabled") === "true") break;
          next().click();
        }
        return [...texts];
        """
    )
    for button in browser.driver.find_elements(By.CSS_SELECTOR, "button.sort"):
        button.send_keys(Keys.ENTER)
    assert browser.ask("return ran") == [] and browser.ask("return failures") == []
    assert browser.ask("return refused") == []
    assert own_elements(browser) <= PAGE_ELEMENTS
    assert browser.ask("return document.scripts.length") == 2
    assert browser.driver.find_element(By.TAG_NAME, "h1").text.startswith("<b onmouseover=ran.push(1)>")
    for attack in (pool[0], pool[8], pool[12], pool[14]):
        assert any(attack in text for text in cards), attack
    assert listener.heard == []
    loaded = [url for url in browser.requests() if not url.startswith(("data:", "blob:"))]
    assert loaded == [page.resolve().as_uri()]
    assert [line for line in browser.console() if "SEVERE" in line] == []


@pytest.mark.parametrize("kind", [0, 1], ids=["steps", "labels"])
@pytest.mark.parametrize("width", [400, 1200])
def test_a_hostile_pool_does_not_break_the_layout(browser, hostile, kind, width):
    _, _, pages = hostile
    browser.size(width)
    browser.open(pages[kind])
    assert browser.overflow() <= 0
    wide = browser.ask(
        """
        const wide = [];
        for (const element of document.querySelectorAll("section, .card, .tile, .scroll, .pair, h1, header, footer")) {
          const box = element.getBoundingClientRect();
          if (box.right > innerWidth + 1 || box.left < -1) wide.push(element.className || element.localName);
        }
        return wide;
        """
    )
    assert wide == []


def test_unseen_characters_are_shown_and_directions_kept_apart(browser, hostile):
    _, pool, pages = hostile
    browser.open(pages[0])
    shown = browser.ask(
        """
        const box = document.createElement("div");
        document.body.append(box);
        box.append(...arguments[0].map((text) => said(text)));
        const styles = [...box.children].map((e) => [getComputedStyle(e).unicodeBidi, e.getAttribute("dir")]);
        const hidden = [...box.querySelectorAll(".hidden-char")].map((e) => e.textContent);
        const raw = /[\\u202a-\\u202e\\u2066-\\u2069\\u0000]/.test(box.textContent);
        box.remove();
        return [styles, hidden, raw];
        """,
        [pool[17], pool[18], "a\r\nb"],
    )
    styles, hidden, raw = shown
    assert all(style == ["isolate", "auto"] for style in styles)
    assert hidden[:4] == ["U+202E", "U+202C", "U+2067", "U+2069"] and {"U+0000", "U+001B", "U+FEFF"} <= set(hidden)
    assert not raw


def test_the_policy_refuses_what_is_slipped_in(browser, page):
    """The guard itself: were the page to make markup of a text after all, it would still not run or load."""
    with Listener() as listener:
        browser.open(page)
        browser.ask(
            """
            const image = document.createElement("img");
            image.src = `${arguments[0]}/image`;
            const sheet = document.createElement("link");
            sheet.rel = "stylesheet";
            sheet.href = `${arguments[0]}/sheet`;
            const frame = document.createElement("iframe");
            frame.src = `${arguments[0]}/frame`;
            document.body.append(image, sheet, frame);
            fetch(`${arguments[0]}/fetch`).catch(() => {});
            """,
            listener.url,
        )
        assert "TrustedHTML" in browser.ask(
            "try { document.body.innerHTML += '<img src=x>'; return ''; } catch (error) { return error.message; }"
        )
        WebDriverWait(browser.driver, 10).until(lambda driver: driver.execute_script("return refused.length") >= 4)
        kinds = {line.split()[0] for line in browser.ask("return refused")}
        assert {"img-src", "style-src-elem", "frame-src", "connect-src"} <= kinds
        assert listener.heard == []
