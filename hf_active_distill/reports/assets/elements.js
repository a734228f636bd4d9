// Elements from plain values. Text from the run only ever becomes text nodes: nothing here parses markup.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const NONE = "–";

const count = (value) => (value == null ? NONE : whole.format(value));
const share = (value) => (value == null ? NONE : percent.format(value));
const figure = (value) => (value == null ? NONE : Math.abs(value) >= 1000 ? whole.format(value) : short.format(value));
const fixed = (value) => (value == null ? NONE : value.toFixed(3));
const signed = (value) => (value == null ? NONE : `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(3)}`);
const plusMinus = (value, half) => (half == null ? fixed(value) : `${fixed(value)} ± ${fixed(half)}`);
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value == null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

// Characters that cannot be seen, or that turn the text around them: shown by their number instead.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

function fill(element, text) {
  const plain = String(text).replace(/\r\n?/g, "\n");
  let from = 0;
  for (const found of plain.matchAll(HIDDEN)) {
    const name = `U+${found[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    element.append(plain.slice(from, found.index), h("span", { class: "hidden-char", title: "unseen character" }, name));
    from = found.index + 1;
  }
  element.append(plain.slice(from));
  return element;
}

// What somebody else wrote: kept apart from the text around it, whatever its direction.
function said(text, className) {
  if (text == null || text === "") return h("span", { class: "none" }, NONE);
  return fill(h("span", { class: `said ${className || ""}`.trim(), dir: "auto" }), text);
}

function field(label, control) {
  const id = (control.id ||= `control-${(field.made = (field.made || 0) + 1)}`);
  return h("div", { class: "field" }, h("label", { for: id }, label), control);
}

function choices(options, onChange, value) {
  const select = h("select", { change: () => onChange(select.value) });
  for (const [key, label] of options) select.append(h("option", { value: key }, label));
  if (value != null) select.value = value;
  return select;
}

function searchBox(onChange) {
  let waiting;
  const input = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => onChange(input.value), 150);
  });
  return input;
}

function radios(legend, name, options, onChange) {
  const boxes = options.map(([value, label], index) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "radio", name, value, checked: index === 0, change: () => onChange(value) }),
      h("span", {}, label),
    ),
  );
  return h("fieldset", { class: "choices" }, h("legend", {}, legend), ...boxes);
}

function more(summary, ...children) {
  return h("details", {}, h("summary", {}, summary), ...children);
}

const note = (...children) => h("p", { class: "note" }, ...children);

// ---------------------------------------------------------------- rows

const OUTCOMES = {
  accepted: "accepted as it was",
  rejected: "rejected and rewritten",
  scratch: "written by the teacher",
  labelled: "labelled",
  failed: "failed",
};

const isLabel = (row) => row.kind === "label" || row.label != null;
const teacherAnswer = (row) => row.label ?? row.answer; // of several labels, the answer names all

function outcome(row) {
  if (row.status !== "ok") return "failed";
  const verdicts = row.verdicts || [];
  if (verdicts.some(([, judged]) => judged === 0)) return "rejected";
  if (verdicts.length) return "accepted";
  if (!isLabel(row)) return "scratch";
  if (row.student_answer == null) return "labelled";
  return row.student_answer === teacherAnswer(row) ? "accepted" : "rejected";
}

function matches(row, words) {
  if (!words.length) return true;
  row.searched ??= [row.id, row.prompt, row.answer, row.label, row.student_answer, row.reason, ...(row.steps || [])]
    .join("\n")
    .toLowerCase();
  return words.every((word) => row.searched.includes(word));
}

const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);

const roundChoices = (data) => [["", "all rounds"], ...data.rounds.map((r) => [String(r.round), `round ${r.round}`])];
