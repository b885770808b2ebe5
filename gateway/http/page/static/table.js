// The table of classified pictures: counts by class, which filter it, and columns, which sort it.

import { element } from "./dom.js";

const PAGE = 100; // rows shown at first, and more each time
const FAILED = Symbol("failed"); // the filter of rows without a class

/**
 * @typedef {{name: string, image: string | null, error: string | null, found: {name: string, probability: number | null,
 * similarity: number}[]}} Row `found`: classes in falling order, empty while they are unknown
 */

const COLUMNS = [
  { key: "file", title: "File", of: ({ name }) => name },
  { key: "class", title: "Class", of: ({ found }) => found[0]?.name },
  { key: "probability", title: "Probability", of: ({ found }) => found[0]?.probability, number: true },
  { key: "similarity", title: "Similarity", of: ({ found }) => found[0]?.similarity, number: true },
];

const byText = new Intl.Collator(undefined, { numeric: true }).compare;
const comparable = (value) => value !== undefined && value !== null;

export class Table {
  /**
   * @param {{counts: HTMLElement, table: HTMLTableElement, more: HTMLButtonElement, onChange: () => void}} places
   * `onChange` is called when other rows are shown, or in another order
   */
  constructor({ counts, table, more, onChange }) {
    this.counts = counts;
    this.more = more;
    this.onChange = onChange;
    this.buttons = new Map(); // filter -> its button
    this.rows = [];
    this.classes = [];
    this.filter = null; // a class, FAILED, or null: all
    this.sort = null; // {column, falling}, or null: as the pictures came
    this.length = PAGE;
    this.head = COLUMNS.map((column) => this.#headOf(column));
    // The roles are those that the elements have, until a style lays them out otherwise.
    const picture = element("th", { role: "columnheader", scope: "col" }, element("span", { class: "visually-hidden" }, "Picture"));
    const line = element("tr", { role: "row" }, picture, ...this.head);
    this.body = element("tbody", { role: "rowgroup" });
    table.append(element("thead", { role: "rowgroup" }, line), this.body);
    more.addEventListener("click", () => ((this.length += PAGE), this.#render()));
  }

  /**
   * @param {Row[]} rows
   * @param {string[]} classes all that there are, in the order of the counts
   */
  show(rows, classes) {
    this.rows = rows;
    this.classes = classes;
    const failed = rows.some(({ error }) => error);
    if (this.filter === FAILED ? !failed : !classes.includes(this.filter)) this.filter = null;
    this.#render();
  }

  /** Rows that the filter lets through, in their order. */
  get shown() {
    const rows = this.filter === null ? [...this.rows] : this.rows.filter((row) => filterOf(row) === this.filter);
    if (this.sort === null) return rows;
    const { column, falling } = this.sort;
    const sign = falling ? -1 : 1;
    return rows.sort((a, b) => {
      const [x, y] = [column.of(a), column.of(b)];
      if (!comparable(x) || !comparable(y)) return comparable(y) - comparable(x); // last, whichever the order
      return sign * (column.number ? x - y : byText(x, y));
    });
  }

  get filtered() {
    return this.filter !== null;
  }

  #headOf(column) {
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      const again = this.sort?.column === column;
      this.sort = { column, falling: again ? !this.sort.falling : Boolean(column.number) };
      this.#render();
    });
    return element("th", { role: "columnheader", scope: "col", class: column.key }, button);
  }

  #render() {
    COLUMNS.forEach((column, i) => {
      if (this.sort?.column === column) this.head[i].setAttribute("aria-sort", this.sort.falling ? "descending" : "ascending");
      else this.head[i].removeAttribute("aria-sort");
    });
    this.#renderCounts();
    const shown = this.shown;
    this.body.replaceChildren(...shown.slice(0, this.length).map(line));
    this.more.hidden = shown.length <= this.length;
    this.onChange();
  }

  #renderCounts() {
    const count = new Map();
    for (const row of this.rows) count.set(filterOf(row), (count.get(filterOf(row)) ?? 0) + 1);
    const filters = [null, ...this.classes, ...(count.has(FAILED) ? [FAILED] : [])];
    const focused = document.activeElement;
    this.counts.replaceChildren(
      ...filters.map((filter) => {
        const of = filter === null ? this.rows.length : (count.get(filter) ?? 0);
        return this.#count(filter, of);
      }),
    );
    if (this.counts.contains(focused)) focused.focus(); // moving an element takes its focus
    for (const filter of this.buttons.keys()) if (!filters.includes(filter)) this.buttons.delete(filter);
  }

  #count(filter, count) {
    if (!this.buttons.has(filter)) {
      const name = filter === null ? "All" : filter === FAILED ? "Not classified" : filter;
      const button = element("button", { type: "button" }, element("span", {}, name), " ", element("b", {}));
      button.addEventListener("click", () => {
        this.filter = filter === this.filter ? null : filter;
        this.length = PAGE;
        this.#render();
      });
      this.buttons.set(filter, button);
    }
    const button = this.buttons.get(filter);
    button.setAttribute("aria-pressed", String(filter === this.filter));
    button.lastElementChild.textContent = count.toLocaleString("en");
    button.style.setProperty("--share", filter === null ? 0 : count / this.rows.length);
    return button;
  }
}

const filterOf = ({ error, found }) => (error ? FAILED : (found[0]?.name ?? undefined));

function line({ name, image, error, found }) {
  const [best, next] = found;
  const preview = image ? element("img", { src: image, alt: "", width: 48, height: 48, loading: "lazy" }) : element("span", { class: "blank" });
  const start = [cell("preview", {}, preview), cell("file", { title: name }, name)];
  if (error) return element("tr", { role: "row", class: "failed" }, ...start, cell("error", { colspan: 3 }, error));
  const meter = element("span", { class: "meter", "aria-hidden": "true" });
  meter.style.setProperty("--value", best?.probability ?? 0);
  // What comes second tells how sure the first is.
  const second = next?.probability >= 0.0005 ? [element("span", { class: "fine" }, `then ${next.name}, ${percent(next.probability)}`)] : [];
  return element(
    "tr",
    { role: "row" },
    ...start,
    cell("class", {}, element("span", {}, best?.name ?? ""), ...second),
    cell("probability", {}, meter, comparable(best?.probability) ? percent(best.probability) : ""),
    cell("similarity", {}, best ? best.similarity.toFixed(3).replace("-", "−") : ""),
  );
}

const cell = (kind, attributes, ...children) => element("td", { role: "cell", class: kind, ...attributes }, ...children);
const percent = (value) => `${(value * 100).toFixed(1)} %`;
