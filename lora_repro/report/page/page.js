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

// A long table has a field that leaves the rows with all of its words; #find=e2e fills the field.
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 25) continue;
  const label = document.createElement("label"), field = document.createElement("input"), count = document.createElement("span");
  Object.assign(field, { type: "search", placeholder: "Find rows", ariaLabel: "Find rows" });
  label.className = "find";
  label.append(field, " ", count);
  table.closest(".scroll").before(label);
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const find = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  field.addEventListener("input", find);
  field.value = decodeURIComponent(/^#find=(.*)/.exec(location.hash)?.[1] ?? "");
  find();
}

// A table that is wider than its place is set tighter, then has the paper's values below ours, and if that is not enough is shown
// row by row instead. A closed one has no width: it is asked when it opens. All are asked before one is changed: a width that is
// read after a change lays the page out again.
const fit = (part) => {
  const boxes = [...part.querySelectorAll(".scroll")];
  for (const box of boxes) box.classList.remove("tight", "paired", "cards");
  let left = boxes;
  for (const way of ["tight", "paired", "cards"]) {
    left = left.filter((box) => box.scrollWidth > box.clientWidth + 1);
    for (const box of left) box.classList.add(way);
    if (way === "cards") for (const box of left) box.classList.remove("paired");
  }
};
addEventListener("resize", () => fit(document));
document.addEventListener("toggle", (event) => fit(event.target), true);
fit(document);
// On paper nothing opens; a link to a claim opens it.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
const reveal = () => { const one = document.getElementById(location.hash.slice(1)); for (let at = one; at; at = at.parentElement) if (at.localName === "details") at.open = true; };
addEventListener("hashchange", reveal);
reveal();
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
