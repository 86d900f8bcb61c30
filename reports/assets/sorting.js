// What tables that sort by a column share. Everything is readable without it.

const value = (row, column, kind) => {
  const cell = row.cells[column];
  if (kind === "text") return cell.textContent.trim().toLowerCase() || null;
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
};

// A missing value stands last in both directions; equal values keep the order of the page.
const compare = (a, b, sign) => {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
};

const sorted = (rows, column, kind, direction) => {
  const sign = direction === "descending" ? -1 : 1;
  return rows.toSorted((a, b) => compare(value(a, column, kind), value(b, column, kind), sign));
};

const mark = (heads, column, direction) =>
  heads.forEach((head, at) => head.setAttribute("aria-sort", at === column ? direction : "none"));

const asButton = (head) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  return button;
};
