// 3. What did the teacher change? Side by side, word by word.

const DIFF_MS = 100; // longer texts than that are shown without marks

// [left, right]: both texts, what went and what came marked.
function sideBySide(before, after) {
  const left = h("span", { class: "said", dir: "auto" });
  const right = h("span", { class: "said", dir: "auto" });
  const parts = Diff.diffWordsWithSpace(before, after, { timeout: DIFF_MS });
  if (!parts) return [said(before), said(after)];
  for (const { value, added, removed } of parts) {
    if (added) right.append(fill(h("ins"), value));
    else if (removed) left.append(fill(h("del"), value));
    else {
      fill(left, value);
      fill(right, value);
    }
  }
  return [left, right];
}

const VERDICTS = new Map([
  [1, ["accepted", "✓ accepted"]],
  [0, ["rejected", "✗ rejected"]],
  [null, ["unread", "? not readable"]],
]);

function pair(title, left, verdict, right) {
  return h(
    "li",
    { class: "pair" },
    h("span", { class: "step" }, title),
    h("div", { class: "side" }, h("span", { class: "who" }, "Student"), left),
    h("div", { class: "verdict" }, verdict),
    h("div", { class: "side" }, h("span", { class: "who" }, "Teacher"), right),
  );
}

function stepPairs(row) {
  const [student, teacher] = [row.student || [], row.steps || []];
  const verdicts = new Map((row.verdicts || []).map((verdict) => [verdict[0], verdict]));
  const pairs = [];
  for (let index = 0; index < Math.max(student.length, teacher.length); index++) {
    const [, judged, wording] = verdicts.get(index) || [];
    const after = wording ?? teacher[index];
    const [left, right] =
      judged !== undefined && student[index] != null && after != null
        ? sideBySide(student[index], after)
        : [said(student[index]), said(after)];
    const [name, words] = VERDICTS.get(judged) || ["", student.length && row.verdicts ? "not asked" : ""];
    pairs.push(pair(`Step ${index + 1}`, left, words ? h("span", { class: `badge ${name}` }, words) : "", right));
  }
  return pairs;
}

function answerPair(row) {
  const [before, after] = [row.student_answer, teacherAnswer(row)];
  const same = before != null && before === after;
  const words = before == null || after == null ? "" : same ? "same" : "differs";
  const sign = words ? h("span", { class: `badge ${same ? "accepted" : "rejected"}` }, words) : "";
  return pair(isLabel(row) ? "Label" : "Answer", said(before, "answer"), sign, said(after, "answer"));
}

function labelBars(row) {
  if (!row.distribution) return null;
  const bars = row.distribution.map(([label, probability]) => {
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${100 * Math.min(1, Math.max(0, probability ?? 0))}%`;
    return h("li", {}, said(label), h("span", { class: "track" }, bar), h("span", { class: "number" }, share(probability)));
  });
  const sure = row.confidence == null ? "" : `, ${share(row.confidence)} sure of the label`;
  return h("div", { class: "distribution" }, h("p", {}, `The teacher's distribution${sure}`), h("ul", {}, bars));
}

function card(row, data) {
  const facts = [
    `round ${row.round}`,
    row.random ? "drawn at random" : row.rank ? `rank ${count(row.rank)}` : null,
    row.score == null ? null : `score ${figure(row.score)}`,
    plural(row.calls, "call"),
    `${count(row.tokens)} tokens`,
    row.cost == null ? null : `cost ${figure(row.cost)}`,
    row.cut ? "the student's text was cut at its length limit" : null,
  ].filter(Boolean);
  const replies = (row.replies || []).map(([index, text]) => h("li", {}, `Step ${index + 1}: `, said(text)));
  return h(
    "article",
    { class: "card", tabindex: "-1" },
    h("header", {}, h("h3", {}, "Row ", said(row.id, "id")), badge(row)),
    row.context == null ? null : more("Earlier turns", said(data.contexts[row.context], "block")),
    h("p", { class: "question" }, said(row.prompt)),
    h("div", { class: "pair heads", "aria-hidden": "true" }, ["", "Student", "", "Teacher"].map((word) => h("span", {}, word))),
    h("ol", { class: "pairs" }, stepPairs(row), answerPair(row)),
    labelBars(row),
    replies.length ? more("What the teacher wrote", h("ul", {}, replies)) : null,
    h("p", { class: "facts" }, facts.join(" · "), row.teacher == null ? null : [" · ", said(data.teachers[row.teacher])]),
  );
}

const PAGE_OF_CARDS = 6;

class Revisions {
  constructor(data) {
    Object.assign(this, { data, page: 0, outcome: "", round: "", words: [], only: null });
    this.list = h("div", { class: "cards" });
    this.status = h("p", { class: "status", role: "status" });
    this.previous = h("button", { type: "button", click: () => this.turn(-1) }, "Previous");
    this.next = h("button", { type: "button", click: () => this.turn(1) }, "Next");
    this.all = h("button", { type: "button", hidden: true, click: () => this.show(null) }, "Show all rows again");
    const counts = new Map();
    for (const row of data.rows) counts.set(outcome(row), (counts.get(outcome(row)) || 0) + 1);
    const kinds = Object.entries(OUTCOMES).filter(([name]) => counts.has(name));
    this.element = h(
      "div",
      {},
      radios("Outcome", "outcome", [["", `all (${count(data.rows.length)})`], ...kinds.map(([name, words]) => [name, `${words} (${count(counts.get(name))})`])], this.set("outcome")),
      h(
        "div",
        { class: "controls" },
        field("Search", searchBox((text) => this.set("words")(wordsOf(text)))),
        field("Round", choices(roundChoices(data), this.set("round"))),
        this.all,
      ),
      this.list,
      h("div", { class: "pager" }, this.previous, this.next, this.status),
    );
    this.draw();
  }

  set(name) {
    return (value) => {
      this[name] = value;
      this.only = null;
      this.page = 0;
      this.draw();
    };
  }

  show(row) {
    this.only = row;
    this.page = 0;
    this.draw();
    this.element.closest("section").scrollIntoView();
    this.list.querySelector(".card")?.focus({ preventScroll: true });
  }

  turn(by) {
    const last = Math.ceil(this.wanted().length / PAGE_OF_CARDS) - 1;
    if (this.page + by < 0 || this.page + by > last) return;
    this.page += by;
    this.draw();
    this.element.scrollIntoView();
  }

  wanted() {
    if (this.only) return [this.only];
    return this.data.rows.filter(
      (row) =>
        (this.outcome === "" || outcome(row) === this.outcome) &&
        (this.round === "" || row.round === Number(this.round)) &&
        matches(row, this.words),
    );
  }

  draw() {
    const rows = this.wanted();
    const from = this.page * PAGE_OF_CARDS;
    const shown = rows.slice(from, from + PAGE_OF_CARDS);
    this.list.replaceChildren(...shown.map((row) => card(row, this.data)));
    if (!shown.length) this.list.append(note("No row is like that."));
    this.status.textContent = rows.length ? `${count(from + 1)} to ${count(from + shown.length)} of ${plural(rows.length, "row")}` : "No rows";
    this.previous.setAttribute("aria-disabled", String(this.page === 0));
    this.next.setAttribute("aria-disabled", String(from + PAGE_OF_CARDS >= rows.length));
    this.all.hidden = this.only == null;
  }
}
