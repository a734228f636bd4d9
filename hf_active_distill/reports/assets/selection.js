// 2. What did the student not know?

const MOST_HISTOGRAMS = 12;

function histograms(scores) {
  const every = Math.ceil(scores.rounds.length / MOST_HISTOGRAMS);
  const shown = scores.rounds.filter((_, index) => (scores.rounds.length - 1 - index) % every === 0);
  const figures = shown.map((round) =>
    h(
      "figure",
      { class: "small" },
      h("figcaption", {}, h("strong", {}, `Round ${round.round}`), h("span", {}, `median ${figure(round.median)}, chosen ${figure(round.chosen_median)}`)),
      histogram(round, scores.edges),
    ),
  );
  const legend = h(
    "ul",
    { class: "legend" },
    h("li", {}, h("span", { class: "swatch all" }), "all candidates"),
    h("li", {}, h("span", { class: "swatch chosen" }), "chosen by score"),
  );
  const skipped = scores.rounds.length - shown.length;
  return [
    h("h3", {}, "Scores by round"),
    h("div", { class: "controls" }, legend),
    h("div", { class: "grid" }, figures),
    skipped ? note(`${shown.length} of ${scores.rounds.length} rounds, evenly spread.`) : null,
  ];
}

function chosenTable(data, rows, show) {
  return new DataTable({
    caption: "Chosen rows",
    rows,
    pageSize: 12,
    columns: [
      { label: "Question", wide: true, value: (r) => r.prompt, cell: (r) => said(r.prompt, "clamp") },
      { label: "Round", number: true, value: (r) => r.round, cell: (r) => String(r.round) },
      { label: "Rank", number: true, value: (r) => (r.rank == null ? null : -r.rank), cell: (r) => count(r.rank) },
      { label: "Score", number: true, value: (r) => r.score, cell: (r) => figure(r.score) },
      { label: "Why", nowrap: true, value: (r) => (r.random ? "random" : r.why), cell: (r) => said(r.random ? "drawn at random" : r.why) },
      { label: "Outcome", value: outcome, cell: (r) => badge(r) },
      { label: "Tokens", number: true, value: (r) => r.tokens, cell: (r) => count(r.tokens) },
      { label: "Look", cell: (r) => lookButton(r, show) },
    ],
  });
}

function lookButton(row, show) {
  return h("button", { type: "button", class: "quiet", "aria-label": `Look at row ${row.id} of round ${row.round}`, click: () => show(row) }, "look");
}

function badge(row) {
  const name = outcome(row);
  const words = row.status === "ok" ? OUTCOMES[name].split(" ")[0] : "failed";
  return h("span", { class: `badge ${name}` }, words, row.reason ? [": ", said(row.reason)] : null);
}

function drawSelection(section, data, show) {
  if (data.scores) section.append(...histograms(data.scores).filter(Boolean));
  else section.append(note("The strategy gave no scores."));
  const chosen = { round: "", outcome: "", words: [] };
  const wanted = () =>
    data.rows.filter(
      (row) =>
        (chosen.round === "" || row.round === Number(chosen.round)) &&
        (chosen.outcome === "" || outcome(row) === chosen.outcome) &&
        matches(row, chosen.words),
    );
  const table = chosenTable(data, data.rows, show);
  const set = (name) => (value) => {
    chosen[name] = value;
    table.show(wanted());
  };
  const present = new Set(data.rows.map(outcome));
  const outcomes = [["", "all outcomes"], ...Object.entries(OUTCOMES).filter(([name]) => present.has(name))];
  section.append(
    h("h3", {}, "What was chosen, and why"),
    h(
      "div",
      { class: "controls" },
      field("Search", searchBox((text) => set("words")(wordsOf(text)))),
      field("Round", choices(roundChoices(data), set("round"))),
      field("Outcome", choices(outcomes, set("outcome"))),
    ),
    table.element,
  );
  if (data.left_out) section.append(note(`To keep this page small, the oldest ${count(data.left_out)} rows are left out. All are in the run's folder.`));
}
