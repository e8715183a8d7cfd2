// Sorts a table by a click on a heading: ascending, descending, then as it was. Without a script the tables stay as they are.
const SECONDS = { d: 86400, h: 3600, min: 60, s: 1 };

function number(text) {
  const times = [...text.matchAll(/(\d+) (d|h|min|s)\b/g)];
  if (times.length) return times.reduce((sum, [, value, unit]) => sum + value * SECONDS[unit], 0);
  return parseFloat(text.replace(/^\D*?(?=[+-]?\d)/, "").replaceAll(",", ""));
}

function compared(first, second) {
  const [a, b] = [number(first), number(second)];
  return Number.isNaN(a) || Number.isNaN(b) ? first.localeCompare(second) : a - b;
}

for (const table of document.querySelectorAll("table.cards")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length < 3) continue;
  heads.forEach((head, column) => {
    if (head.tagName !== "TH") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = { ascending: "descending", descending: "none" }[head.ariaSort] ?? "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      const text = (row) => row.cells[column].textContent.trim();
      const known = rows.filter((row) => !["", "\u2013"].includes(text(row)));
      known.sort((one, other) => compared(text(one), text(other)) * (order === "descending" ? -1 : 1));
      body.append(...(order === "none" ? rows : [...known, ...rows.filter((row) => !known.includes(row))]));
    });
  });
}

// Returns the focus to the button that opened a panel, also where one panel has opened another, for which browsers do not.
const openers = new Map();
document.addEventListener("beforetoggle", (event) => {
  if (event.newState === "open") openers.set(event.target, document.activeElement);
}, true);
document.addEventListener("toggle", (event) => {
  const active = document.activeElement, lost = active === document.body || event.target.contains(active);
  if (event.newState === "closed" && lost) openers.get(event.target)?.focus();
}, true);
