"""The report in headless Chromium: what it shows, how it is used, and that nothing in it runs or loads."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import Browser, chromium
from made_runs import labelling, make_run, page_data
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from hf_active_distill.reports import write_report


pytestmark = pytest.mark.browser
LONG = "x" * 1_000_000


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "out"
    make_run(folder, rounds=3, rows=40)
    make_run(folder / "compare-random", rounds=3, rows=40, selection="random", accuracies=[0.4, 0.4, 0.4, 0.45])
    return write_report(folder)


class Listener:
    """A server that nobody shall speak to."""

    def __init__(self):
        heard = self.heard = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                heard.append(self.path)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Listener:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


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
            pages.append(write_report(folder))
        yield listener, pool, pages


def own_elements(browser: Browser) -> set[str]:
    return set(browser.ask("return [...document.querySelectorAll('*')].map((e) => e.localName)"))


def overflow(browser: Browser) -> int:
    return browser.ask("return document.documentElement.scrollWidth - document.documentElement.clientWidth")


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
    assert overflow(browser) <= 0
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


def rows_of(browser: Browser, caption: str) -> list[list[str]]:
    return browser.ask(
        """
        const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent === arguments[0]);
        return [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent));
        """,
        caption,
    )


def table_frame(browser: Browser, caption: str):
    return browser.driver.find_element(By.CSS_SELECTOR, f'.scroll[aria-label="{caption}"]')


def test_the_figures_are_those_of_the_run(browser, page):
    browser.open(page)
    data = page_data(page)
    tiles = {
        tile.text.split("\n")[0]: tile.text.split("\n")[1]
        for tile in browser.driver.find_elements(By.CSS_SELECTOR, ".tile")
    }
    assert tiles["Teacher tokens"] == f"{sum(group['tokens'] for group in data['spent']):,}"
    assert tiles["Rows asked about"] == "120" and tiles["Accuracy"] == "0.550"
    rounds = rows_of(browser, "Rounds")
    assert [row[0] for row in rounds] == ["start", "0", "1", "2"]
    assert rounds[-1][-1] == "0.550 ± 0.030"
    label = browser.driver.find_element(By.CSS_SELECTOR, "#spent .chart").get_attribute("aria-label")
    assert "egss from 0.400 to 0.550" in label and "random from 0.400 to 0.450" in label
    assert len(browser.driver.find_elements(By.CSS_SELECTOR, "#unknown .chart canvas")) == 3
    drawn = browser.ask(
        """
        const canvas = document.querySelector("#spent canvas");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(new Uint32Array(pixels.buffer)).size;
        """
    )
    assert drawn > 10
    text = browser.driver.find_element(By.ID, "sure").text
    assert "Against random, seed 0: +0.100 ± 0.083" in text and "The interval leaves out zero." in text


def test_a_table_sorts_and_turns_its_pages_by_keyboard(browser, page):
    browser.open(page)
    frame = table_frame(browser, "Chosen rows")
    header = next(b for b in frame.find_elements(By.CSS_SELECTOR, "button.sort") if b.text == "Score")
    cell = header.find_element(By.XPATH, "..")
    assert cell.get_attribute("aria-sort") == "none"
    scores = sorted((row["score"] for row in page_data(page)["rows"]), reverse=True)
    header.send_keys(Keys.ENTER)
    assert cell.get_attribute("aria-sort") == "descending"
    assert [float(row[3]) for row in rows_of(browser, "Chosen rows")] == pytest.approx(scores[:12], rel=0.01)
    header.send_keys(Keys.SPACE)
    assert cell.get_attribute("aria-sort") == "ascending"
    pager = frame.find_element(By.XPATH, "following-sibling::div")
    previous, following = pager.find_elements(By.TAG_NAME, "button")
    assert previous.get_attribute("aria-disabled") == "true"
    for _ in range(20):  # further than there are pages
        following.send_keys(Keys.ENTER)
    assert pager.find_element(By.CSS_SELECTOR, "[role=status]").text == "Rows 109 to 120 of 120"
    assert [float(row[3]) for row in rows_of(browser, "Chosen rows")] == pytest.approx(scores[:12][::-1], rel=0.01)
    assert browser.driver.switch_to.active_element == following  # the focus is not lost at the end


def test_filters_leave_what_was_asked_for(browser, page):
    browser.open(page)
    data = page_data(page)
    failed = [row for row in data["rows"] if row["status"] == "failed"]
    section = browser.driver.find_element(By.ID, "changed")
    status = section.find_element(By.CSS_SELECTOR, "[role=status]")
    section.find_element(By.CSS_SELECTOR, 'input[value="failed"]').send_keys(Keys.SPACE)
    assert status.text.endswith(f"of {len(failed)} rows")
    assert {card.text for card in section.find_elements(By.CSS_SELECTOR, ".card header .badge")} == {
        "failed: no_answer"
    }
    section.find_element(By.CSS_SELECTOR, 'input[value=""]').send_keys(Keys.SPACE)
    Select(section.find_element(By.TAG_NAME, "select")).select_by_visible_text("round 1")
    assert status.text.endswith("of 40 rows")
    section.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("ROW-1-17")
    WebDriverWait(browser.driver, 10).until(lambda driver: status.text == "1 to 1 of 1 row")
    assert section.find_element(By.CSS_SELECTOR, ".card .id").text == "row-1-17"


def test_a_revision_is_shown_step_by_step(browser, page):
    browser.open(page)
    row = next(r for r in page_data(page)["rows"] if any(v[1] == 0 for v in r.get("verdicts", [])) and r["rank"] > 12)
    browser.ask("document.querySelector('#unknown .pager button:nth-of-type(2)').click()")
    button = browser.driver.find_element(By.CSS_SELECTOR, f'[aria-label="Look at row {row["id"]} of round 0"]')
    button.send_keys(Keys.ENTER)
    card = browser.driver.switch_to.active_element
    assert card.get_attribute("class") == "card" and card.find_element(By.CSS_SELECTOR, ".id").text == row["id"]
    at = next(index for index, judged, *_ in row["verdicts"] if judged == 0)
    rejected = card.find_elements(By.CSS_SELECTOR, ".pairs > li")[at]
    assert rejected.find_element(By.CSS_SELECTOR, ".badge").text == "✗ rejected"
    student, teacher = rejected.find_elements(By.CSS_SELECTOR, ".said")
    assert student.text == row["student"][at] and teacher.text == row["steps"][at]
    assert "instead" in rejected.find_element(By.TAG_NAME, "ins").text


def test_labels_of_teacher_and_student_stand_side_by_side(browser, tmp_path):
    page = write_report(make_run(tmp_path, rows=30, make=labelling))
    browser.open(page)
    data = page_data(page)
    card = browser.driver.find_element(By.CSS_SELECTOR, "#changed .card")
    row = data["rows"][0]
    student, teacher = card.find_elements(By.CSS_SELECTOR, ".pairs .answer")
    assert (student.text, teacher.text) == (row["student_answer"], row["label"])
    bars = [bar.text.split("\n") for bar in card.find_elements(By.CSS_SELECTOR, ".distribution li")]
    assert bars == [[label, f"{share:.0%}"] for label, share in row["distribution"]]
    pairs = rows_of(browser, "What is mistaken for what")
    counted = sum(int(pair[2]) for pair in pairs)
    assert counted == sum(row["label"] != row["student_answer"] for row in data["rows"])
    assert all(pair[0] != pair[1] for pair in pairs)


def test_a_run_in_progress_says_so(browser, tmp_path):
    browser.open(write_report(make_run(tmp_path, trained=1, rounds=3)))
    about = browser.driver.find_element(By.ID, "about").text
    assert about.startswith("running 1 of 3 rounds done")
    assert rows_of(browser, "Rounds")[-1][-1] == "in training"


def accessible_nodes(browser: Browser) -> list[tuple[str, str]]:
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]


def test_a_screen_reader_finds_its_way(browser, page):
    browser.open(page)
    nodes = accessible_nodes(browser)
    roles = [role for role, _ in nodes]
    assert all(roles.count(role) == 1 for role in ("banner", "navigation", "main", "contentinfo"))
    operable = (
        "button",
        "link",
        "combobox",
        "searchbox",
        "radio",
        "table",
        "region",
        "image",
        "DisclosureTriangle",
    )
    unnamed = [role for role, name in nodes if role in operable and not name.strip()]
    assert unnamed == []
    regions = {name for role, name in nodes if role == "region"}
    assert {"What did we spend, and what did we gain?", "How sure can we be?"} <= regions
    levels = browser.ask(
        "return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((e) => Number(e.localName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    assert browser.ask("return [...document.querySelectorAll('th')].every((e) => ['row', 'col'].includes(e.scope))")
    assert browser.ask("return document.querySelectorAll('[id]').length") == browser.ask(
        "return new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size"
    )


def test_the_first_stop_leads_past_the_head(browser, page):
    browser.open(page)
    browser.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    link = browser.driver.switch_to.active_element
    assert link.text == "Skip to the report" and link.rect["x"] >= 0
    link.send_keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"


CONTRAST = """
const channels = (text) => text.match(/[\\d.]+/g).map(Number);
const over = (top, under) => top.slice(0, 3).map((c, i) => c * (top[3] ?? 1) + under[i] * (1 - (top[3] ?? 1)));
const luminance = (colour) => {
  const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  const chain = [];
  for (let at = element; at; at = at.parentElement) chain.unshift(channels(getComputedStyle(at).backgroundColor));
  return chain.reduce((under, top) => over(top, under), [255, 255, 255]);
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const box = element.getBoundingClientRect();
  if (!own || !box.width || element.closest("script, style, noscript, .skip")) continue;
  const under = ground(element);
  const ink = over(channels(getComputedStyle(element).color), under);
  const [dark, light] = [luminance(ink), luminance(under)].sort((a, b) => a - b);
  const ratio = (light + 0.05) / (dark + 0.05);
  if (ratio < 4.5) poor.push(`${element.localName}.${element.className} ${ratio.toFixed(2)}`);
}
return [...new Set(poor)];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(browser, page, scheme):
    """The contrast of WCAG 2.2, level AA: 4.5 to 1."""
    browser.prefer(scheme)
    browser.open(page)
    ground = browser.ask("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 19, 24)"}[scheme]
    assert browser.ask(CONTRAST) == []


def test_the_button_overrides_the_systems_theme(browser, page):
    browser.prefer("light")
    browser.open(page)
    button = browser.driver.find_element(By.ID, "theme")
    seen = []
    for _ in range(3):
        button.send_keys(Keys.ENTER)
        seen.append((button.text, browser.ask("return getComputedStyle(document.body).backgroundColor")))
    light, dark = "rgb(255, 255, 255)", "rgb(15, 19, 24)"
    assert seen == [("Theme: light", light), ("Theme: dark", dark), ("Theme: system", light)]


@pytest.mark.parametrize("width", [320, 400, 800])
def test_it_fits_small_windows(browser, page, width):
    browser.size(width)
    browser.open(page)
    assert overflow(browser) <= 0
    charts = browser.driver.find_elements(By.CSS_SELECTOR, ".chart canvas")
    assert charts and all(chart.rect["width"] <= width for chart in charts)


def test_it_prints_light_and_without_controls(browser, page):
    browser.prefer("dark")
    browser.open(page)
    # In the middle of printing, as `beforeprint` leaves it.
    browser.ask(
        """
        window.printed = null;
        addEventListener("beforeprint", () => { printed = getComputedStyle(document.body).backgroundColor; });
        """
    )
    pdf = browser.driver.print_page()
    assert len(pdf) > 10_000
    assert browser.ask("return printed") == "rgb(255, 255, 255)"
    assert browser.ask("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 24)"
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        hidden = "nav, .controls, .choices, .pager button"
        assert browser.ask(f"return [...document.querySelectorAll('{hidden}')].every((e) => !e.offsetParent)")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
