"""The report in headless Chromium: what it shows, and how it is used."""

from __future__ import annotations

import pytest
from chromium import Browser
from made_runs import add_review, labelling, make_run, page_data
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from hf_active_distill.reports import write_report


pytestmark = pytest.mark.browser


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


def test_labels_after_training_are_shown_where_they_were_looked_at(browser, tmp_path):
    add_review(make_run(tmp_path, rows=10, make=labelling))
    browser.open(write_report(tmp_path))
    section = browser.driver.find_element(By.ID, "differ")
    said = "After training student and teacher agree on 83% of the rows it learnt from, Cohen's kappa 0.74."
    held = "After training student and reference agree on 90% of the evaluation rows, Cohen's kappa 0.85."
    assert said in section.text and held in section.text
    pairs = rows_of(browser, "After training: what is mistaken for what, of 29 rows it learnt from")
    assert pairs == [["business", "sports", "4"], ["sports", "business", "1"]]
    assert rows_of(browser, "After training: what is mistaken for what, of 10 evaluation rows") == [
        ["business", "science", "1"]
    ]
    [other] = rows_of(browser, "After training: evaluation rows on which both are sure, and differ")
    assert other[-1] == "held-1"
    kept = rows_of(browser, "Share of answers kept, by label")
    assert [line[:2] for line in kept] == [["sports", "100%"], ["business", "25%"], ["science", "–"]]
    [row] = rows_of(browser, "After training: rows it learnt from on which both are sure, and differ")
    assert row == ["Shares of the club rose.", "business", "90%", "sports", "80%", "row-0-3"]


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
    assert browser.overflow() <= 0
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
