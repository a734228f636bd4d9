// 1. What did we spend, and what did we gain?

const STOPS = {
  rounds: "all rounds are done",
  budget: "the budget is spent",
  plateau: "the metric stopped rising",
  transfer: "the teacher accepts the student's steps",
  terminated: "it was stopped from outside",
  stopped: "it was stopped",
};

function tile(label, value, under) {
  return h("div", { class: "tile" }, h("dt", {}, label), h("dd", {}, h("strong", {}, value), under ? h("span", {}, under) : null));
}

function tiles(data) {
  const total = (name) => data.spent.reduce((sum, group) => sum + (group[name] || 0), 0);
  const rows = data.spent.filter((group) => group.what !== "not reached by the budget").reduce((sum, g) => sum + g.rows, 0);
  const used = data.spent[0];
  const judged = data.rounds.reduce((sum, r) => sum + (r.judged_steps || 0), 0);
  const accepted = data.rounds.reduce((sum, r) => sum + (r.accepted_steps || 0), 0);
  const cost = data.spent.some((group) => group.cost != null) ? total("cost") : null;
  const gained = data.gains[0];
  const out = [
    tile("Teacher tokens", count(total("tokens")), `in ${plural(total("calls"), "call")}; ${count(total("completion"))} written`),
  ];
  if (cost != null) out.push(tile("Cost", figure(cost), "in the currency of the prices given"));
  out.push(tile("Rows asked about", count(rows), `${count(used.rows)} used, ${count(rows - used.rows)} failed`));
  if (judged) out.push(tile("Student steps accepted", share(accepted / judged), `${count(accepted)} of ${count(judged)}`));
  if (gained) {
    out.push(tile(titled(metricName(data.metrics[0])), fixed(gained.last), gained.gain_half == null ? null : `${signed(gained.gain)} ± ${fixed(gained.gain_half)} since the start`));
  }
  return h("dl", { class: "tiles" }, out);
}

function curveFigure(data) {
  const units = [["tokens", "tokens"], ["calls", "calls"]];
  if (data.arms.some((arm) => arm.points.some((point) => point.cost))) units.push(["cost", "cost"]);
  const place = h("div");
  const readout = h("p", { class: "readout", "aria-hidden": "true" });
  const chosen = { metric: data.metrics[0], unit: "tokens" };
  const onPoint = (found) => {
    readout.textContent = found
      .map(({ arm, point }) => `${arm.title}: ${plusMinus(...point.values[chosen.metric])} at ${figure(point[chosen.unit])} ${chosen.unit}`)
      .join("; ");
  };
  const draw = () => {
    charts.clear();
    place.replaceChildren(learningCurve(data.arms, chosen.metric, chosen.unit, onPoint));
    readout.textContent = "";
  };
  const pick = (name) => (value) => {
    chosen[name] = value;
    draw();
  };
  const legend = h("ul", { class: "legend" }, data.arms.map((arm, index) => h("li", {}, h("span", { class: `swatch arm-${index % ARM_COLOURS.length} ${index % 2 ? "dashed" : ""}` }), said(arm.title))));
  draw();
  return h(
    "figure",
    {},
    h(
      "div",
      { class: "controls" },
      field("Metric", choices(data.metrics.map((name) => [name, metricName(name)]), pick("metric"))),
      field("Against", choices(units, pick("unit"))),
      legend,
    ),
    place,
    readout,
    h("figcaption", {}, "The band is one standard error. Point 0 is the student before any teacher call. The same figures stand in the table of rounds."),
  );
}

// Low to high on a logarithmic scale, since a forecast spans decades, with a mark at what was spent.
function rangeBar(row) {
  const known = [row.low, row.high, row.spent].filter((value) => value > 0);
  if (!known.length) return NONE;
  const [least, most] = [Math.log(Math.min(...known) * 0.8), Math.log(Math.max(...known) * 1.25)];
  const at = (value) => `${(100 * (Math.log(Math.max(value, Math.exp(least))) - least)) / (most - least)}%`;
  const range = h("span", { class: "range" });
  range.style.left = at(row.low);
  range.style.right = `calc(100% - ${at(row.high)})`;
  const bar = h("span", { class: "range-bar", "aria-hidden": "true" }, range);
  if (row.spent > 0) {
    const mark = h("span", { class: "mark" });
    mark.style.left = at(row.spent);
    bar.append(mark);
  }
  return bar;
}

function forecastTable(data) {
  if (!data.forecast.length) return note("No forecast stands in the run's folder, or its journal is elsewhere.");
  const judge = (row) =>
    row.spent == null ? NONE : row.spent < row.low ? "below" : row.spent > row.high ? "above" : "within";
  return smallTable(
    "Foreseen before the first call, and spent so far",
    [
      { label: "Figure", value: (row) => row.name },
      { label: "Foreseen", number: true, value: (row) => row.high, cell: (row) => `${figure(row.low)} to ${figure(row.high)}` },
      { label: "Spent", number: true, value: (row) => row.spent, cell: (row) => figure(row.spent) },
      { label: "Spent is", value: judge, cell: (row) => h("span", { class: "place" }, judge(row), rangeBar(row)) },
      { label: "Assumed", wide: true, value: (row) => row.assumption, cell: (row) => said(row.assumption) },
    ],
    data.forecast,
    { sortable: false },
  );
}

function outcomesTable(data) {
  const total = data.spent.reduce((sum, group) => sum + group.tokens, 0) || 1;
  const priced = data.spent.some((group) => group.cost != null);
  const columns = [
    { label: "Went into", value: (g) => g.what, cell: (g) => said(g.what === "used" ? "rows that are trained on" : g.what) },
    { label: "Rows", number: true, value: (g) => g.rows, cell: (g) => count(g.rows) },
    { label: "Calls", number: true, value: (g) => g.calls, cell: (g) => count(g.calls) },
    { label: "Prompt tokens", number: true, value: (g) => g.prompt, cell: (g) => count(g.prompt) },
    { label: "Completion tokens", number: true, value: (g) => g.completion, cell: (g) => count(g.completion) },
    { label: "Share", number: true, value: (g) => g.tokens, cell: (g) => share(g.tokens / total) },
    { label: "Tokens a row", number: true, value: (g) => g.tokens / g.rows, cell: (g) => (g.rows ? count(g.tokens / g.rows) : NONE) },
  ];
  if (priced) columns.push({ label: "Cost", number: true, value: (g) => g.cost, cell: (g) => figure(g.cost) });
  return smallTable("Where the tokens went", columns, data.spent);
}

// Of students that answer with labels: a class that a gate shuts out is never answered with again.
function keptTable(data) {
  const { what, rounds, labels } = data.kept_shares;
  const columns = [
    { label: "Label", value: (row) => row.label, cell: (row) => said(row.label) },
    ...rounds.map((round, i) => ({ label: `Round ${round}`, number: true, value: (row) => row.shares[i], cell: (row) => share(row.shares[i]) })),
  ];
  return smallTable(`Share of ${what} kept, by label`, columns, labels);
}

function roundsTable(data) {
  const metric = data.metrics[0];
  const points = new Map(data.arms[0].points.map((point) => [point.round, point]));
  const start = points.get(-1);
  const rows = start ? [{ round: -1, total_teacher_tokens: 0, trained: true, seconds: {} }, ...data.rounds] : data.rounds;
  const value = (row) => points.get(row.round)?.values[metric]?.[0];
  return smallTable(
    "Rounds",
    [
      { label: "Round", number: true, value: (r) => r.round, cell: (r) => (r.round < 0 ? "start" : String(r.round)) },
      { label: "Asked", number: true, value: (r) => r.selected, cell: (r) => count(r.selected) },
      { label: "Used", number: true, value: (r) => r.annotated, cell: (r) => count(r.annotated) },
      { label: "Failed", number: true, value: (r) => r.failed, cell: (r) => count(r.failed) },
      { label: "Steps accepted", number: true, value: (r) => r.accept_rate, cell: (r) => (r.judged_steps ? `${share(r.accept_rate)} of ${count(r.judged_steps)}` : NONE) },
      { label: "Calls", number: true, value: (r) => r.teacher_calls, cell: (r) => count(r.teacher_calls) },
      { label: "Tokens", number: true, value: (r) => r.teacher_tokens, cell: (r) => count(r.teacher_tokens) },
      { label: "Tokens so far", number: true, value: (r) => r.total_teacher_tokens, cell: (r) => count(r.total_teacher_tokens) },
      { label: "Scoring, asking (s)", number: true, value: (r) => r.seconds.asking, cell: (r) => (r.seconds.asking == null ? NONE : `${figure(r.seconds.scoring)}, ${figure(r.seconds.asking)}`) },
      ...(metric
        ? [{ label: metricName(metric), number: true, value, cell: (r) => (r.trained ? plusMinus(...(points.get(r.round)?.values[metric] || [])) : "in training") }]
        : []),
    ],
    rows,
  );
}

function drawSpending(section, data) {
  section.append(tiles(data));
  if (data.metrics.length) section.append(curveFigure(data));
  else section.append(note("The run was not evaluated: pass an eval_dataset to see what was gained."));
  section.append(outcomesTable(data), forecastTable(data), roundsTable(data));
  if (data.kept_shares) section.append(keptTable(data));
  if (data.spent.some((group) => group.estimated))
    section.append(note("The teacher's server left out some token counts; the bound that was reserved is booked for those."));
  section.append(
    note("Tokens by row include answers that were already in the journal; what was spent beside the forecast does not."),
  );
}
