// 4. Where do teacher and student still differ?  5. How sure can we be?

const comparable = (row) => row.status === "ok" && teacherAnswer(row) != null && (row.student != null || row.student_answer != null);
const differs = (row) => comparable(row) && row.student_answer !== teacherAnswer(row);

function agreementTable(data) {
  const rows = data.rounds.map(({ round }) => {
    const compared = data.rows.filter((row) => row.round === round && comparable(row));
    const silent = compared.filter((row) => row.student_answer == null).length;
    const apart = compared.filter(differs).length - silent;
    return { round, compared: compared.length, apart, silent, same: compared.length - apart - silent };
  });
  return smallTable(
    "Answers by round, as the student stood when the round began",
    [
      { label: "Round", number: true, value: (r) => r.round, cell: (r) => String(r.round) },
      { label: "Rows compared", number: true, value: (r) => r.compared, cell: (r) => count(r.compared) },
      { label: "Same answer", number: true, value: (r) => r.same / r.compared, cell: (r) => (r.compared ? `${count(r.same)} (${share(r.same / r.compared)})` : NONE) },
      { label: "Another answer", number: true, value: (r) => r.apart, cell: (r) => count(r.apart) },
      { label: "No answer of the student", number: true, value: (r) => r.silent, cell: (r) => count(r.silent) },
    ],
    rows,
  );
}

const MOST_ANSWERS = 20; // more than that are no classes

function confusionTable(data) {
  const rows = data.rows.filter((row) => comparable(row) && row.student_answer != null);
  const classes = new Set(rows.map(teacherAnswer));
  const labelled = rows.some(isLabel);
  if (!labelled && classes.size > MOST_ANSWERS) return null;
  const pairs = new Map();
  for (const row of rows.filter(differs)) {
    const key = JSON.stringify([teacherAnswer(row), row.student_answer]);
    const found = pairs.get(key) || { teacher: teacherAnswer(row), student: row.student_answer, rows: 0, sure: 0, known: 0 };
    found.rows += 1;
    if (row.confidence != null) {
      found.sure += row.confidence;
      found.known += 1;
    }
    pairs.set(key, found);
  }
  if (!pairs.size) return null;
  const ordered = [...pairs.values()].sort((a, b) => b.rows - a.rows);
  const columns = [
    { label: "Teacher says", value: (p) => p.teacher, cell: (p) => said(p.teacher) },
    { label: "Student said", value: (p) => p.student, cell: (p) => said(p.student) },
    { label: "Rows", number: true, value: (p) => p.rows, cell: (p) => count(p.rows) },
  ];
  if (ordered.some((p) => p.known))
    columns.push({ label: "Teacher sure, mean", number: true, value: (p) => (p.known ? p.sure / p.known : null), cell: (p) => (p.known ? share(p.sure / p.known) : NONE) });
  return new DataTable({ caption: "What is mistaken for what", columns, rows: ordered, pageSize: 10 }).element;
}

function differencesTable(data, show) {
  const last = Math.max(...data.rows.filter(comparable).map((row) => row.round));
  const of = (round) => data.rows.filter((row) => differs(row) && (round === "" || row.round === Number(round)));
  const sure = data.rows.some((row) => row.confidence != null);
  const columns = [
    { label: "Question", wide: true, value: (r) => r.prompt, cell: (r) => said(r.prompt, "clamp") },
    { label: "Student", value: (r) => r.student_answer, cell: (r) => said(r.student_answer) },
    { label: "Teacher", value: teacherAnswer, cell: (r) => said(teacherAnswer(r)) },
    ...(sure ? [{ label: "Teacher sure", number: true, value: (r) => r.confidence, cell: (r) => share(r.confidence) }] : []),
    { label: "Round", number: true, value: (r) => r.round, cell: (r) => String(r.round) },
    { label: "Look", cell: (r) => lookButton(r, show) },
  ];
  const table = new DataTable({ caption: "Rows on which they differ", columns, rows: of(last), pageSize: 10, empty: "They agree on every row." });
  return [h("div", { class: "controls" }, field("Round", choices(roundChoices(data), (round) => table.show(of(round)), String(last)))), table.element];
}

// After training, of students that answer with labels: the student as it is now.
function reviewTables(review, where) {
  const first = titled(review.first || "teacher");
  const mistaken = new DataTable({
    caption: `After training: what is mistaken for what, of ${count(review.rows)} ${where}`,
    rows: review.pairs,
    pageSize: 10,
    empty: "They agree on every row.",
    columns: [
      { label: `${first} says`, value: (p) => p.teacher, cell: (p) => said(p.teacher) },
      { label: "Student says", value: (p) => p.student, cell: (p) => said(p.student) },
      { label: "Rows", number: true, value: (p) => p.rows, cell: (p) => count(p.rows) },
    ],
  });
  const apart = new DataTable({
    caption: `After training: ${where} on which both are sure, and differ`,
    rows: review.rows_apart,
    pageSize: 10,
    empty: "There is none.",
    columns: [
      { label: "Text", wide: true, value: (r) => r.prompt, cell: (r) => said(r.prompt, "clamp") },
      { label: first, value: (r) => r.teacher, cell: (r) => said(r.teacher) },
      { label: "Sure", number: true, value: (r) => r.teacher_sure, cell: (r) => share(r.teacher_sure) },
      { label: "Student", value: (r) => r.student, cell: (r) => said(r.student) },
      { label: "Sure", number: true, value: (r) => r.student_sure, cell: (r) => share(r.student_sure) },
      { label: "Row", value: (r) => r.id, cell: (r) => said(r.id, "id") },
    ],
  });
  const kappa = review.kappa == null ? "" : `, Cohen's kappa ${review.kappa.toFixed(2)}`;
  return [h("p", {}, `After training student and ${review.first || "teacher"} agree on ${share(review.agreement)} of the ${where}${kappa}.`), mistaken.element, apart.element];
}

function drawDifferences(section, data, show) {
  if (data.eval_review) section.append(...reviewTables(data.eval_review, "evaluation rows"));
  if (data.review) section.append(...reviewTables(data.review, "rows it learnt from"));
  if (!data.rows.some(comparable)) {
    if (!data.review && !data.eval_review) section.append(note("The student's own answers were not recorded in this run: only the teacher's are."));
    return;
  }
  section.append(
    note("Each row shows the student at the beginning of its round; it was trained on the teacher's answer after that. The newest round is the nearest to the student as it is now."),
    agreementTable(data),
  );
  const confusion = confusionTable(data);
  if (confusion) section.append(confusion);
  section.append(...differencesTable(data, show));
}

// ---------------------------------------------------------------- how sure

const interval = (found) => (found ? `${share(found[0] / found[1])} (${share(found[2])} to ${share(found[3])}) of ${count(found[1])}` : NONE);
const armName = (row) => (row.seed == null ? row.arm : `${row.arm}, seed ${row.seed}`);

function gainsTable(data) {
  return smallTable(
    `${titled(metricName(data.metrics[0]))}, with 95% intervals`,
    [
      { label: "Run", value: armName, cell: (r) => said(armName(r)) },
      { label: "At the start", number: true, value: (r) => r.first, cell: (r) => fixed(r.first) },
      { label: "At the end", number: true, value: (r) => r.last, cell: (r) => plusMinus(r.last, r.half) },
      { label: "Gain", number: true, value: (r) => r.gain, cell: (r) => (r.gain_half == null ? signed(r.gain) : `${signed(r.gain)} ± ${fixed(r.gain_half)}`) },
      { label: "Tokens", number: true, value: (r) => r.tokens, cell: (r) => count(r.tokens) },
    ],
    data.gains,
  );
}

function against(data) {
  return data.differences.map((row) => {
    const clear = row.half == null ? "" : Math.abs(row.difference) > row.half ? " The interval leaves out zero." : " The interval holds zero: on these rows, it may be chance.";
    const spent = `${count(row.tokens[0])} against ${count(row.tokens[1])} teacher tokens`;
    return h("li", {}, "Against ", said(armName(row)), `: ${signed(row.difference)}${row.half == null ? "" : ` ± ${fixed(row.half)}`}, at ${spent}.${clear}`);
  });
}

function seedsTable(data) {
  const most = Math.max(...data.seeds.map((row) => row.seeds));
  if (most < 2) return note("One seed a selection is one sample: run others, and name their folders with --beside to see them here.");
  return smallTable(
    "Over seeds",
    [
      { label: "Arm", value: (r) => r.arm, cell: (r) => said(r.arm) },
      { label: "Seeds", number: true, value: (r) => r.seeds, cell: (r) => count(r.seeds) },
      { label: "Mean (95%, Student's t)", number: true, value: (r) => r.mean, cell: (r) => plusMinus(r.mean, r.half) },
      { label: "Lowest", number: true, value: (r) => r.low, cell: (r) => fixed(r.low) },
      { label: "Highest", number: true, value: (r) => r.high, cell: (r) => fixed(r.high) },
    ],
    data.seeds,
  );
}

function probeTable(data) {
  return smallTable(
    "Random rows beside chosen rows, with 95% intervals",
    [
      { label: "Round", number: true, value: (r) => r.round, cell: (r) => String(r.round) },
      { label: "Rows", value: (r) => r.group },
      { label: "Number", number: true, value: (r) => r.rows, cell: (r) => count(r.rows) },
      { label: "Every step accepted", number: true, value: (r) => r.accepted && r.accepted[0] / r.accepted[1], cell: (r) => interval(r.accepted) },
      { label: "Same answer as the teacher", number: true, value: (r) => r.agreed && r.agreed[0] / r.agreed[1], cell: (r) => interval(r.agreed) },
    ],
    data.probe,
  );
}

function auditTable(data) {
  const names = [...new Set(data.rounds.flatMap((round) => Object.keys(round).filter((name) => name.includes("audit"))))];
  if (!names.length) return null;
  const columns = names.map((name) => ({ label: metricName(name), number: true, value: (r) => r[name], cell: (r) => figure(r[name]) }));
  return smallTable("The teacher's own accuracy, from audited rows", [{ label: "Round", number: true, value: (r) => r.round, cell: (r) => String(r.round) }, ...columns], data.rounds);
}

function drawTrust(section, data) {
  if (data.gains.length) {
    section.append(gainsTable(data));
    if (data.differences.length) section.append(h("ul", {}, against(data)));
    section.append(
      note("Intervals come from the size of the evaluation set alone. Both figures of a difference come from the same rows, so that chance parts them less, as a rule, than these say."),
      seedsTable(data),
    );
  } else section.append(note("The run was not evaluated, so there is no gain to be sure of."));
  const audit = auditTable(data);
  if (audit) section.append(audit);
  if (data.probe.some((row) => row.group === "random")) {
    section.append(
      probeTable(data),
      note("Random rows stand for the whole pool. Where the student does worse on chosen rows than on random ones, the selection finds what it does not know."),
    );
  } else section.append(note("No rows were drawn at random (random_share is 0), so nothing stands for the whole pool."));
}
