/* The board: sorting, filters, cards. Text reaches the page through textContent only. */
(() => {
  "use strict";
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse($("#data").textContent);
  const form = $("#form"), card = $("#card");
  const SELECTS = ["board", "pre", "words", "adapt", "images"];
  const DEFAULT = { sort: "macro_ap", dir: "desc" };
  const sorting = { ...DEFAULT };
  let opened = "";
  let frame = 0;

  /* An element with attributes, and children that are elements or text. */
  const el = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const shape = (name, attributes) => {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };
  const fixed = (value) => value.toFixed(2);
  const words = (text) => text.toLocaleLowerCase();

  /* Rows, read once: sort keys by column, and the text that the search looks in. */
  const boards = $$("section.board").map((section) => {
    const bodies = $$("tbody", section).map((body) => ({
      body,
      rule: $("tr.break", body),
      rows: $$("tr[data-key]", body).map((tr, place) => {
        const keys = {};
        [...tr.children].forEach((cell, i) => {
          const value = cell.dataset.v;
          const key = data.columns[i];
          if (key === "name" || key === "made") keys[key] = words(value);
          else if (key) keys[key] = value === "" ? null : Number(value);
        });
        return { tr, keys, place, text: words($(".who", tr).textContent), set: tr.dataset };
      }),
    }));
    return { section, bodies, heads: $$("thead th[data-key]", section) };
  });
  const collator = new Intl.Collator("en");

  const compare = (a, b) => {
    const x = a.keys[sorting.sort], y = b.keys[sorting.sort];
    const missing = (x === null) - (y === null);
    if (missing) return missing;
    let order = typeof x === "string" ? collator.compare(x, y) : x - y;
    if (sorting.dir === "desc") order = -order;
    return order || a.place - b.place;
  };

  const sort = () => {
    for (const board of boards) {
      for (const { body, rule, rows } of board.bodies) {
        const ordered = [...rows].sort(compare).map((row) => row.tr);
        body.replaceChildren(...(rule ? [rule] : []), ...ordered);
      }
      for (const th of board.heads) {
        if (th.dataset.key === sorting.sort) th.setAttribute("aria-sort", sorting.dir === "asc" ? "ascending" : "descending");
        else th.removeAttribute("aria-sort");
      }
    }
    form.elements.sort.value = sorting.sort;
  };

  const ticked = () => $$("input[name=state]", form).filter((box) => box.checked).map((box) => box.value);
  const allStates = $$("input[name=state]", form).map((box) => box.value);

  const filter = () => {
    const wanted = {};
    for (const name of SELECTS) wanted[name] = form.elements[name].value;
    const query = words(form.elements.q.value.trim());
    const states = new Set(ticked());
    let shown = 0, total = 0;
    for (const { section, bodies } of boards) {
      const here = !wanted.board || section.dataset.board === wanted.board;
      let some = 0;
      for (const { body, rows } of bodies) {
        let count = 0;
        for (const { tr, set, text } of rows) {
          const fits = here && states.has(set.state) && text.includes(query) &&
            ["pre", "words", "adapt", "images"].every((name) => !wanted[name] || set[name] === wanted[name]);
          if (tr.hidden === fits) tr.hidden = !fits;
          count += fits;
        }
        body.hidden = count === 0;
        some += count;
        total += rows.length;
      }
      section.hidden = some === 0;
      shown += some;
    }
    const text = shown === total ? `${total} entries` : `${shown} of ${total} entries`;
    if ($("#count").textContent !== text) $("#count").textContent = text;
    $("#none").hidden = shown > 0;
    $("#reset").hidden = shown === total && !parameters().has("sort");
  };

  /* The view as the part of the address behind #, so that it can be linked. */
  const parameters = () => {
    const result = new URLSearchParams();
    const query = form.elements.q.value.trim();
    if (query) result.set("q", query);
    for (const name of SELECTS) if (form.elements[name].value) result.set(name, form.elements[name].value);
    const states = ticked();
    if (states.length < allStates.length) result.set("state", states.join(","));
    if (sorting.sort !== DEFAULT.sort || sorting.dir !== DEFAULT.dir) {
      result.set("sort", sorting.sort);
      result.set("dir", sorting.dir);
    }
    if (opened) result.set("entry", opened);
    return result;
  };
  const remember = () => {
    const text = parameters().toString();
    try { history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search); } catch { /* the view still works, it just has no address */ }
  };
  const recall = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    form.elements.q.value = given.get("q") || "";
    for (const name of SELECTS) {
      const select = form.elements[name], value = given.get(name) || "";
      select.value = [...select.options].some((option) => option.value === value) ? value : "";
    }
    const states = given.has("state") ? given.get("state").split(",") : allStates;
    for (const box of $$("input[name=state]", form)) box.checked = states.includes(box.value);
    const columns = [...form.elements.sort.options].map((option) => option.value);
    sorting.sort = columns.includes(given.get("sort")) ? given.get("sort") : DEFAULT.sort;
    sorting.dir = given.get("dir") === "asc" ? "asc" : "desc";
    sort();
    filter();
    const entry = given.get("entry") || "";
    if (Object.hasOwn(data.entries, entry)) open(entry);
    else if (card.open) card.close();
  };

  const sortBy = (key) => {
    const rising = key === "name";
    if (sorting.sort === key) sorting.dir = sorting.dir === "asc" ? "desc" : "asc";
    else Object.assign(sorting, { sort: key, dir: rising ? "asc" : "desc" });
    sort();
    filter();
    remember();
  };

  /* Cards. */
  const copier = (text, what) => {
    const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${what}` }, "Copy");
    button.addEventListener("click", async () => {
      let done = false;
      try { await navigator.clipboard.writeText(text); done = true; } catch {
        const area = el("textarea", { readonly: "", "aria-hidden": "true" });
        area.value = text;
        card.append(area);
        area.select();
        done = document.execCommand("copy");
        area.remove();
        button.focus();
      }
      button.textContent = done ? "Copied" : "Select it and copy";
      setTimeout(() => { button.textContent = "Copy"; }, 1800);
    });
    return button;
  };
  const list = (pairs) => {
    const dl = el("dl");
    for (const [term, ...values] of pairs) dl.append(el("dt", {}, term), el("dd", {}, ...values));
    return dl;
  };
  const isolate = (text) => el("bdi", {}, text);
  const between = (bounds) => (bounds ? `${fixed(bounds[0])} to ${fixed(bounds[1])}` : "–");

  const values = (entry) => {
    const kinds = data.kinds.filter((kind) => entry.values.some((row) => row.intervals[kind]));
    /* A phone lays the table out as lines; the roles keep it a table for who hears it. */
    const head = el("tr", {}, el("th", { scope: "col" }, "Metric"), el("th", { scope: "col", class: "num" }, "%"));
    for (const kind of kinds) head.append(el("th", { scope: "col", class: "num" }, `95 % over ${kind}`));
    const body = el("tbody", { role: "rowgroup" });
    for (const row of entry.values) {
      const tr = el("tr", { role: "row" }, el("th", { scope: "row", role: "rowheader" }, row.name), el("td", { class: "num", role: "cell" }, fixed(row.value)));
      for (const kind of kinds) tr.append(el("td", { class: "num bounds", role: "cell", "data-kind": `95 % over ${kind}` }, el("span", {}, between(row.intervals[kind]))));
      body.append(tr);
    }
    return el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "All values" }, el("table", { class: "values", role: "table" }, el("thead", {}, head), body));
  };

  const perLabel = (entry) => {
    const items = el("ul", { class: "labels" });
    const x = (value) => Math.max(0, Math.min(100, value));
    for (const [label, ap, low, high] of [...entry.labels].sort((a, b) => b[1] - a[1])) {
      const svg = shape("svg", { viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" });
      svg.append(shape("rect", { class: "rail", x: 0, y: 1, width: 100, height: 14 }), shape("rect", { class: "span", x: 0, y: 1, width: x(ap), height: 14 }));
      if (low !== null) svg.append(shape("rect", { class: "mean", x: x(low), y: 7, width: x(high) - x(low), height: 2 }));
      if (entry.chance !== null) svg.append(shape("path", { class: "chance", d: `M${entry.chance} 0V16`, "vector-effect": "non-scaling-stroke" }));
      const value = el("span", { class: "num" }, el("b", {}, fixed(ap)));
      if (low !== null) value.append(el("small", {}, between([low, high])));
      items.append(el("li", {}, el("span", { class: "name" }, isolate(label)), svg, value));
    }
    return items;
  };

  const fill = (entry) => {
    const close = el("button", { type: "button", class: "close" }, "Close");
    close.addEventListener("click", () => card.close());
    const parts = [
      el("div", { class: "card-top" },
        el("h2", { id: "card-name", tabindex: "-1" }, isolate(entry.name)), close),
      el("p", {}, el("span", { class: `state s-${entry.state_class}` }, entry.state), " ", entry.meaning),
      el("h3", {}, "Load it"), el("p", {}, el("code", {}, entry.load), copier(entry.load, "the line that loads it")),
      el("h3", {}, "Values"), values(entry),
    ];
    if (entry.verdict) parts.push(el("p", { class: "muted" }, entry.verdict));
    if (entry.labels.length) {
      parts.push(el("h3", {}, "AP of each label"), el("p", { class: "muted" }, entry.label_note), perLabel(entry));
    }
    parts.push(el("h3", {}, "Method"), list(entry.method.map(([term, value]) => [term, isolate(value)])));
    if (entry.parameters.length) {
      parts.push(el("h3", {}, "Parameters"), list(entry.parameters.map(([term, value]) => [term, isolate(value)])));
    }
    parts.push(el("h3", {}, "Citation"), el("p", {}, isolate(entry.citation), copier(entry.citation, "citation")));
    parts.push(el("h3", {}, "What it rests on"), list(entry.proof.map(([term, value, copy]) =>
      [term, el(copy ? "span" : "bdi", copy ? { class: "hash" } : {}, value), ...(copy ? [copier(value, term)] : [])])));
    if (entry.links.length) {
      parts.push(el("h3", {}, "Links"));
      for (const [title, url] of entry.links) {
        parts.push(el("p", {}, el("a", { href: url, rel: "noopener noreferrer nofollow" }, isolate(title)), " ", el("span", { class: "muted" }, url)));
      }
    }
    if (entry.notes.length) {
      parts.push(el("h3", {}, "Notes"));
      for (const note of entry.notes) parts.push(el("p", {}, isolate(note)));
    }
    $("#card-body").replaceChildren(...parts);
  };
  const open = (key) => {
    if (card.open && opened === key) return;
    opened = key;
    fill(data.entries[key]);
    if (!card.open) card.showModal();
    card.scrollTop = 0;
    $("#card-name").focus({ preventScroll: true });
    remember();
  };
  card.addEventListener("close", () => { opened = ""; remember(); });
  card.addEventListener("click", (event) => { if (event.target === card) card.close(); });

  /* Theme: the system's unless chosen; kept where the browser lets a page keep something. */
  const themes = ["auto", "light", "dark"];
  const kept = () => { try { return localStorage.getItem("mlfsic-theme"); } catch { return null; } };
  const wear = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("#theme").textContent = `Theme: ${theme}`;
  };
  let theme = themes.includes(kept()) ? kept() : "auto";
  wear(theme);
  $("#theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    wear(theme);
    try { localStorage.setItem("mlfsic-theme", theme); } catch { /* lasts as long as the page */ }
  });

  /* Wiring. */
  $("#boards").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const row = button.closest("tr[data-key]");
    if (row) open(row.dataset.key);
    else sortBy(button.closest("th").dataset.key);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name === "sort") {
      sortBy(event.target.value);
      return;
    }
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
  addEventListener("hashchange", () => {
    if (!document.getElementById(location.hash.slice(1))) recall();
  });
  for (const button of $$("button[disabled]")) button.disabled = false;
  $("#theme").hidden = false;
  $("#filters").hidden = false;
  if (matchMedia("(max-width: 700px)").matches) $("#filters").open = $("#reading").open = false;
  recall();
})();
