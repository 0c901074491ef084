/* The board: sorting, filters, cards. All texts of entries are the template's. */
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const form = $("#form"), card = $("#card"), fields = form.elements;
  const boxes = $$("input[name=state]", form);
  const TRACKS = ["pre", "words", "adapt", "query", "images"], SELECTS = ["board", ...TRACKS];
  const DEFAULT = { sort: "macro_ap", dir: "desc" };
  const sorting = { ...DEFAULT };
  const columns = $("#boards").dataset.columns.split(",");
  const cards = new Map($$("template[data-key]").map((one) => [one.dataset.key, one.content]));
  const sections = $$("section.board"), heads = $$(".board thead th[data-key]");
  const collator = new Intl.Collator("en");
  const lower = (text) => text.toLocaleLowerCase();
  let opened = "", frame = 0;

  /* Rows, read once: sort keys by column, and the text that the search looks in. */
  const keys = (tr) => Object.fromEntries([...tr.children].map(({ dataset: { v = "" } }, i) => {
    const text = columns[i] === "name" || columns[i] === "made";
    return [columns[i], text ? lower(v) : v === "" ? null : Number(v)];
  }));
  const bodies = $$("section.board tbody").map((body) => ({
    body,
    section: body.closest("section"),
    rule: $$("tr.break", body),
    rows: $$("tr[data-key]", body).map((tr, place) => (
      { tr, place, keys: keys(tr), set: tr.dataset, text: lower($(".who", tr).textContent) })),
  }));

  const compare = (a, b) => {
    const x = a.keys[sorting.sort], y = b.keys[sorting.sort];
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    const order = typeof x === "string" ? collator.compare(x, y) : x - y;
    return (sorting.dir === "desc" ? -order : order) || a.place - b.place;
  };
  const sort = () => {
    for (const { body, rule, rows } of bodies) {
      body.replaceChildren(...rule, ...[...rows].sort(compare).map((row) => row.tr));
    }
    for (const th of heads) {
      if (th.dataset.key === sorting.sort) th.setAttribute("aria-sort", `${sorting.dir}ending`);
      else th.removeAttribute("aria-sort");
    }
    fields.sort.value = sorting.sort;
  };

  const ticked = () => boxes.filter((box) => box.checked).map((box) => box.value);
  const filter = () => {
    const query = lower(fields.q.value.trim()), states = ticked(), board = fields.board.value;
    const wanted = TRACKS.map((name) => [name, fields[name].value]).filter(([, value]) => value);
    let shown = 0, total = 0;
    const some = new Set();
    for (const { body, section, rows } of bodies) {
      let count = 0;
      for (const { tr, set, text } of rows) {
        const fits = (!board || section.id === board) && states.includes(set.state) &&
          text.includes(query) && wanted.every(([name, value]) => set[name] === value);
        if (tr.hidden === fits) tr.hidden = !fits;
        count += fits;
      }
      body.hidden = !count;
      if (count) some.add(section);
      shown += count;
      total += rows.length;
    }
    for (const section of sections) section.hidden = !some.has(section);
    const text = shown === total ? `${total} entries` : `${shown} of ${total} entries`;
    if ($("#count").textContent !== text) $("#count").textContent = text;
    $("#none").hidden = shown > 0;
    $("#reset").hidden = shown === total && !parameters().has("sort");
  };

  /* The view as the part of the address behind #, so that it can be linked. */
  const parameters = () => {
    const states = ticked(), changed = sorting.sort !== DEFAULT.sort || sorting.dir !== DEFAULT.dir;
    return new URLSearchParams([
      ["q", fields.q.value.trim()],
      ...SELECTS.map((name) => [name, fields[name].value]),
      ...(states.length < boxes.length ? [["state", states.join(",") || "none"]] : []),
      ...(changed ? Object.entries(sorting) : []),
      ["entry", opened],
    ].filter(([, value]) => value));
  };
  const remember = () => {
    const text = parameters().toString();
    try { history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search); } catch { /* the view still works, it just has no address */ }
  };
  const recall = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    const known = (name) => [...fields[name].options].some(({ value }) => value === given.get(name));
    fields.q.value = given.get("q") || "";
    for (const name of SELECTS) fields[name].value = known(name) ? given.get(name) : "";
    for (const box of boxes) box.checked = !given.has("state") || given.get("state").split(",").includes(box.value);
    sorting.sort = known("sort") ? given.get("sort") : DEFAULT.sort;
    sorting.dir = given.get("dir") === "asc" ? "asc" : "desc";
    sort();
    filter();
    if (cards.has(given.get("entry"))) open(given.get("entry"));
    else if (card.open) card.close();
  };
  const sortBy = (key) => {
    const turned = sorting.dir === "asc" ? "desc" : "asc";
    Object.assign(sorting, { sort: key, dir: sorting.sort === key ? turned : key === "name" ? "asc" : "desc" });
    sort();
    filter();
    remember();
  };

  /* Cards. */
  const open = (key) => {
    if (card.open && opened === key) return;
    opened = key;
    $("#card-body").replaceChildren(cards.get(key).cloneNode(true));
    if (!card.open) card.showModal();
    card.scrollTop = 0;
    $("#card-name").focus({ preventScroll: true });
    remember();
  };
  const copy = async (button) => {
    const source = button.previousElementSibling;
    let done = true;
    try { await navigator.clipboard.writeText(source.textContent); } catch {
      getSelection().selectAllChildren(source);
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Select it and copy";
    setTimeout(() => { button.textContent = "Copy"; }, 1800);
  };
  card.addEventListener("close", () => { opened = ""; remember(); });
  card.addEventListener("click", ({ target }) => {
    if (target === card || target.matches(".close")) card.close();
    else if (target.matches(".copy")) copy(target);
  });

  /* Theme: the system's unless chosen; kept where the browser lets a page keep something. */
  const themes = ["auto", "light", "dark"];
  let theme = 0;
  const wear = () => {
    if (theme) document.documentElement.dataset.theme = themes[theme];
    else delete document.documentElement.dataset.theme;
    $("#theme").textContent = `Theme: ${themes[theme]}`;
  };
  try { theme = Math.max(0, themes.indexOf(localStorage.getItem("mlfsic-theme"))); } catch { /* lasts as long as the page */ }
  wear();
  $("#theme").addEventListener("click", () => {
    theme = (theme + 1) % themes.length;
    wear();
    try { localStorage.setItem("mlfsic-theme", themes[theme]); } catch { /* as above */ }
  });

  /* Wiring. */
  $("#boards").addEventListener("click", ({ target }) => {
    const button = target.closest("button"), row = button && button.closest("tr[data-key]");
    if (row) open(row.dataset.key);
    else if (button) sortBy(button.closest("th").dataset.key);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    if (target.name === "sort") { sortBy(target.value); return; }
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => { filter(); remember(); });
  });
  $("#reset").addEventListener("click", () => {
    form.reset();
    Object.assign(sorting, DEFAULT);
    sort();
    filter();
    remember();
    $("summary").focus();
  });
  addEventListener("hashchange", () => { if (!document.getElementById(location.hash.slice(1))) recall(); });
  for (const button of $$("button[disabled]")) button.disabled = false;
  $("#theme").hidden = $("#filters").hidden = false;
  if (matchMedia("(max-width: 700px)").matches) $("#filters").open = $("#reading").open = false;
  recall();
})();
