// Charts by uPlot, in the page's colours, drawn anew when those or the width change.

const ARM_COLOURS = ["--arm-0", "--arm-1", "--arm-2", "--arm-3", "--arm-4"];
const charts = new Set();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

class Chart {
  // options(): made at every drawing, since colours are read then.
  constructor(label, height, data, options) {
    Object.assign(this, { height, data, options });
    this.element = h("div", { class: "chart", role: "img", "aria-label": label });
    charts.add(this);
    // In the next frame: drawing changes sizes, which may not happen while they are being observed.
    new ResizeObserver(() => requestAnimationFrame(() => this.fit())).observe(this.element);
  }

  fit() {
    const width = Math.floor(this.element.clientWidth);
    if (!width) return;
    if (!this.plot) this.draw();
    else if (width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  draw() {
    this.plot?.destroy();
    const width = Math.floor(this.element.clientWidth);
    this.plot = new uPlot({ width, height: this.height, legend: { show: false }, ...this.options() }, this.data, this.element);
  }
}

function redrawCharts() {
  for (const chart of charts) if (chart.plot) chart.draw();
}

function axis(extra) {
  return {
    stroke: colour("--ink-soft"),
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    labelSize: 22,
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1, size: 4 },
    ...extra,
  };
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

// One line an arm over what was spent, each with a band of one standard error.
function learningCurve(arms, metric, unit, onPoint) {
  const drawn = arms
    .map((arm, index) => ({ arm, index, points: arm.points.filter((point) => point.values[metric]) }))
    .filter(({ points }) => points.length);
  const xs = [...new Set(drawn.flatMap(({ points }) => points.map((point) => point[unit])))].sort((a, b) => a - b);
  const data = [xs];
  for (const { points } of drawn) {
    const at = new Map(points.map((point) => [point[unit], point.values[metric]]));
    // Undefined where another arm has its point: no gap, as null would be.
    data.push(xs.map((x) => at.get(x)?.[0]));
    data.push(xs.map((x) => (at.has(x) ? at.get(x)[0] + (at.get(x)[1] || 0) : undefined)));
    data.push(xs.map((x) => (at.has(x) ? at.get(x)[0] - (at.get(x)[1] || 0) : undefined)));
  }
  const ends = drawn.map(({ arm, points }) => {
    const [first, last] = [points[0], points.at(-1)];
    return `${arm.title} from ${fixed(first.values[metric][0])} to ${fixed(last.values[metric][0])} after ${count(last[unit])} ${unit}`;
  });
  const label = `Learning curve, ${metricName(metric)} against teacher ${unit}: ${ends.join("; ")}.`;
  const options = () => ({
    scales: { x: { time: false, range: (u, low, high) => [0, high > 0 ? high * 1.04 : 1] } },
    axes: [
      axis({ size: 30, label: unit === "cost" ? "spent on the teacher" : `teacher ${unit} spent`, values: (u, ticks) => ticks.map((t) => compact.format(t)) }),
      axis({ label: metricName(metric), size: 48 }),
    ],
    cursor: { y: false, points: { size: 8 }, drag: { x: false, y: false } },
    series: [
      {},
      ...drawn.flatMap(({ index }) => {
        const stroke = colour(ARM_COLOURS[index % ARM_COLOURS.length]);
        const dash = index % 2 ? [6, 4] : undefined; // not by colour alone
        return [
          { stroke, width: 2, dash, points: { show: true, size: 7, stroke, fill: index % 2 ? colour("--paper") : stroke } },
          { stroke: "transparent", points: { show: false } },
          { stroke: "transparent", points: { show: false } },
        ];
      }),
    ],
    bands: drawn.map(({ index }, at) => ({
      series: [3 * at + 2, 3 * at + 3],
      fill: colour(`${ARM_COLOURS[index % ARM_COLOURS.length]}-soft`),
    })),
    hooks: {
      setCursor: [
        (u) => {
          const x = u.cursor.idx == null ? null : xs[u.cursor.idx];
          const at = drawn.flatMap(({ arm, points }) => points.filter((p) => p[unit] === x).map((p) => ({ arm, point: p })));
          if (at.length) onPoint(at);
        },
      ],
    },
  });
  return new Chart(label, 320, data, options).element;
}

// Rows by score: all candidates, and within them those that were chosen.
function histogram(round, edges) {
  const centres = edges.slice(1).map((edge, index) => (edge + edges[index]) / 2);
  const step = edges[1] - edges[0];
  const bars = uPlot.paths.bars({ size: [0.92, Infinity], gap: 0 });
  const total = (counts) => counts.reduce((sum, value) => sum + value, 0);
  const label =
    `Round ${round.round}: scores of ${count(total(round.all))} candidates, median ${figure(round.median)}; ` +
    `${count(total(round.chosen))} chosen by score, median ${figure(round.chosen_median)}.`;
  const options = () => ({
    scales: { x: { time: false, range: [edges[0], edges.at(-1) + (edges.at(-1) === edges[0] ? step || 1 : 0)] } },
    axes: [axis({ space: 60, size: 28 }), axis({ size: 40, space: 28 })],
    cursor: { show: false },
    series: [
      {},
      { paths: bars, fill: colour("--bar-soft"), stroke: colour("--bar-soft"), width: 0, points: { show: false } },
      { paths: bars, fill: colour("--bar"), stroke: colour("--bar"), width: 0, points: { show: false } },
    ],
  });
  return new Chart(label, 170, [centres, round.all, round.chosen], options).element;
}

const titled = (words) => words[0].toUpperCase() + words.slice(1);
const metricName = (name) => name.replace(/^eval_/, "").replaceAll("_", " ");
