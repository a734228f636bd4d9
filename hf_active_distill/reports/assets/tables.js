// A table that sorts by any column and shows one page of its rows at a time.

const collator = new Intl.Collator("en", { numeric: true });

function compare(a, b, up) {
  if (a == null || b == null) return (a == null) - (b == null); // what is not there comes last, either way
  const order = typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b);
  return up ? order : -order;
}

class DataTable {
  // columns: { label, value(row) to sort by, cell(row) to show, number, wide, nowrap }
  constructor({ caption, columns, rows, pageSize = 25, sortable = true, empty = "Nothing to show." }) {
    Object.assign(this, { columns, pageSize, sortable, empty, page: 0, sorted: null, up: true });
    this.head = h("tr", {}, columns.map((column, index) => this.header(column, index)));
    this.body = h("tbody");
    this.status = h("p", { class: "status", role: "status" });
    this.previous = h("button", { type: "button", click: () => this.turn(-1) }, "Previous");
    this.next = h("button", { type: "button", click: () => this.turn(1) }, "Next");
    this.pager = h("div", { class: "pager" }, this.previous, this.next, this.status);
    const table = h("table", {}, h("caption", {}, caption), h("thead", {}, this.head), this.body);
    // Focusable, so that the keyboard can move what is wider than the window.
    this.frame = h("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" }, table);
    this.element = h("div", { class: "data-table" }, this.frame, this.pager);
    this.show(rows);
  }

  header(column, index) {
    const attributes = { scope: "col", class: column.number ? "number" : null };
    if (!this.sortable || !column.value) return h("th", attributes, column.label);
    const button = h("button", { type: "button", class: "sort", click: () => this.sort(index) }, column.label);
    return h("th", { ...attributes, "aria-sort": "none" }, button);
  }

  show(rows) {
    this.rows = rows;
    this.page = 0;
    this.order();
    this.draw();
  }

  sort(index) {
    // Figures are looked at from the largest down, words from the first up.
    this.up = this.sorted === index ? !this.up : !this.columns[index].number;
    this.sorted = index;
    [...this.head.children].forEach((cell, at) => {
      if (this.columns[at].value) cell.setAttribute("aria-sort", at !== index ? "none" : this.up ? "ascending" : "descending");
    });
    this.page = 0;
    this.order();
    this.draw();
  }

  order() {
    if (this.sorted == null) return;
    const { value } = this.columns[this.sorted];
    this.rows = [...this.rows].sort((a, b) => compare(value(a), value(b), this.up));
  }

  turn(by) {
    const last = Math.ceil(this.rows.length / this.pageSize) - 1;
    if (this.page + by < 0 || this.page + by > last) return;
    this.page += by;
    this.draw();
    this.frame.scrollIntoView({ block: "nearest" });
  }

  draw() {
    const from = this.page * this.pageSize;
    const shown = this.rows.slice(from, from + this.pageSize);
    this.body.replaceChildren(...shown.map((row) => this.row(row)));
    if (!shown.length) this.body.append(h("tr", {}, h("td", { colspan: this.columns.length }, this.empty)));
    this.pager.hidden = this.rows.length <= this.pageSize;
    this.status.textContent = this.rows.length
      ? `Rows ${count(from + 1)} to ${count(from + shown.length)} of ${count(this.rows.length)}`
      : "No rows";
    // Not `disabled`, which would take the focus away from a button that was just pressed.
    this.previous.setAttribute("aria-disabled", String(this.page === 0));
    this.next.setAttribute("aria-disabled", String(from + this.pageSize >= this.rows.length));
  }

  row(row) {
    const cells = this.columns.map((column, index) => {
      const content = (column.cell || column.value)(row);
      const attributes = { class: column.number ? "number" : column.wide ? "wide" : column.nowrap ? "nowrap" : null };
      return index === 0
        ? h("th", { ...attributes, scope: "row" }, content ?? NONE)
        : h("td", attributes, content ?? NONE);
    });
    return h("tr", {}, cells);
  }
}

// A few rows, all of them shown.
function smallTable(caption, columns, rows, options = {}) {
  return new DataTable({ caption, columns, rows, pageSize: 1000, sortable: rows.length > 2, ...options }).element;
}
