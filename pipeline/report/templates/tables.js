// Tables of thousands of rows: searched, sorted by a column, twenty rows at a time.
for (const holder of document.querySelectorAll(".paged")) {
  const source = JSON.parse(document.getElementById(holder.dataset.source).textContent);
  const perPage = 20;
  let rows = source.rows, page = 0, sorted = null, downwards = false;
  const make = (name, parent, text) => {
    const one = document.createElement(name);
    if (text !== undefined) one.textContent = text;
    parent.append(one);
    return one;
  };
  const bar = make("div", holder);
  bar.className = "bar";
  const search = make("input", bar);
  search.type = "search";
  search.placeholder = "search";
  search.setAttribute("aria-label", "search in the table");
  const back = make("button", bar, "‹"), place = make("span", bar), on = make("button", bar, "›");
  back.setAttribute("aria-label", "page before");
  on.setAttribute("aria-label", "next page");
  const frame = make("div", holder);
  frame.className = "scroll";
  const table = make("table", frame), head = make("tr", make("thead", table)), body = make("tbody", table);
  source.columns.forEach((column, index) => {
    const button = make("button", make("th", head), column);
    button.addEventListener("click", () => {
      downwards = sorted === index ? !downwards : typeof source.rows[0]?.[index] === "number";
      sorted = index;
      show(0);
    });
  });
  const compare = (one, other) => {
    const [a, b] = [one[sorted], other[sorted]];
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return downwards ? -order : order;
  };
  const shown = (value, index) => value === null ? "" : source.decimals[index] ? value.toFixed(4) : value;
  const show = number => {
    const words = search.value.toLowerCase();
    rows = words ? source.rows.filter(row => row.some(cell => String(cell).toLowerCase().includes(words))) : [...source.rows];
    if (sorted !== null) rows.sort(compare);
    const pages = Math.max(Math.ceil(rows.length / perPage), 1);
    page = Math.min(Math.max(number, 0), pages - 1);
    place.textContent = `${page + 1} of ${pages} (${rows.length} rows)`;
    body.replaceChildren();
    for (const row of rows.slice(page * perPage, (page + 1) * perPage)) {
      const line = make("tr", body);
      row.forEach((cell, index) => make("td", line, shown(cell, index)));
    }
  };
  search.addEventListener("input", () => show(0));
  back.addEventListener("click", () => show(page - 1));
  on.addEventListener("click", () => show(page + 1));
  show(0);
}
