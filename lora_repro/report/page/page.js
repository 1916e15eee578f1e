// A press on a column's head sorts its table: up, down, then the printed order again. What has no value stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const printed = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const rank = (cell) => (cell.dataset.n !== undefined ? 0 : cell.classList.contains("none") ? 2 : 1);
  const compare = (a, b) =>
    a.dataset.n !== undefined ? a.dataset.n - b.dataset.n : a.textContent.localeCompare(b.textContent, "en", { numeric: true });
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const sorted = [...printed].sort((x, y) => {
        const [a, b] = [x.cells[column], y.cells[column]];
        return rank(a) - rank(b) || sign * compare(a, b);
      });
      body.append(...(next === "none" ? printed : sorted));
    });
  });
}

// A table that is wider than its place is shown row by row instead. A closed one has no width: it is asked when it opens.
// All are asked before one is changed: a width that is read after a change lays the whole page out again.
const fit = (part) => {
  const boxes = [...part.querySelectorAll(".scroll")];
  for (const box of boxes) box.classList.remove("cards");
  const wide = boxes.map((box) => box.scrollWidth > box.clientWidth + 1);
  boxes.forEach((box, i) => box.classList.toggle("cards", wide[i]));
};
addEventListener("resize", () => fit(document));
document.addEventListener("toggle", (event) => fit(event.target), true);
fit(document);
// On paper nothing opens; a link to a claim opens it.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
const reveal = () => { const one = document.getElementById(location.hash.slice(1)); for (let at = one; at; at = at.parentElement) if (at.localName === "details") at.open = true; };
addEventListener("hashchange", reveal);
reveal();
