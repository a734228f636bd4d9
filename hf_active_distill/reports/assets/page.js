// Everything together, and the theme.

const THEMES = ["system", "light", "dark"];

function remembered() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null; // a page that may not keep anything
  }
}

function setTheme(name) {
  const theme = THEMES.includes(name) ? name : "system";
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = `Theme: ${theme}`;
  redrawCharts();
  return theme;
}

function arrangeThemes() {
  let theme = setTheme(remembered());
  document.getElementById("theme").addEventListener("click", () => {
    theme = setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // as above
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.theme = "light"; // paper is white
    redrawCharts();
  });
  addEventListener("afterprint", () => setTheme(theme));
}

function nameArms(data) {
  const names = data.arms.map((arm) => arm.name);
  for (const arm of data.arms)
    arm.title = names.filter((name) => name === arm.name).length > 1 ? `${arm.name}, seed ${arm.seed ?? "?"}` : arm.name;
}

function drawHead(data) {
  const done = data.rounds.filter((round) => round.trained).length;
  const planned = data.planned_rounds ? ` of ${data.planned_rounds}` : "";
  const state = data.stop_reason
    ? ["ended", `Ended after ${done}${planned} rounds: ${STOPS[data.stop_reason] || data.stop_reason}.`]
    : ["running", `${done}${planned} rounds done; it goes on, or was interrupted. Load the page again for news.`];
  const about = document.getElementById("about");
  about.append(h("span", { class: `state ${state[0]}` }, state[0]), fill(h("span"), ` ${state[1]} `));
  if (data.teachers.length) about.append("Teacher: ", ...data.teachers.flatMap((name, index) => [index ? ", " : "", said(name)]), ".");
  const settings = h("dl", { class: "settings" }, data.settings.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, said(value)))));
  about.after(more("Settings of the run", settings));
  const foot = `Written ${data.written} by hf-active-distill ${data.version} from the run's folder. Texts are shown up to ${count(data.text_limit)} characters.`;
  document.getElementById("foot").textContent = foot;
}

function drawReport() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const section = (name) => document.getElementById(name);
  arrangeThemes();
  nameArms(data);
  drawHead(data);
  const revisions = new Revisions(data);
  const show = (row) => revisions.show(row);
  drawSpending(section("spent"), data);
  drawSelection(section("unknown"), data, show);
  section("changed").append(revisions.element);
  drawDifferences(section("differ"), data, show);
  drawTrust(section("sure"), data);
  performance.mark("drawn");
  document.documentElement.dataset.ready = "true";
}

drawReport();
