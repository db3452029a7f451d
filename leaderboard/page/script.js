"use strict";
// This script shows the JSON of #data and fetches nothing. page/html.py writes the parts of the JSON:
//   texts     every run, dataset and judge once; numbers in other parts refer to them
//   subjects  [model, condition as shown, condition, revision, intervention, generation, page,
//             [[test set, number of its rows that the safety prompt was trained on; null if not known]]]
//   rates     {metric, dataset, judge, rows: [[subject, n, runs, cells]]} with a cell for each language:
//             null, hits out of n, [hits, n], or [value, low, high, n] if the interval is not Wilson's
//   warnings  [subject, datasets, the warning of its rates on these datasets]
//   models    [subject, dataset, judge, ASR, ASR with ablation, ASR with MCD, false refusal, degenerate,
//             undecided, loophole, balanced, gap, worst language, rates of random directions,
//             [[judge, harmful ASR, a text about undecided answers]],
//             [for each task: null, or [value, text of the value, text of the difference]]]
//   tasks     the titles of the columns of capability
(() => {
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  const [MODEL, SHOWN, CONDITION, REVISION, INTERVENTION, GENERATION, PAGE, ANCHORS] = [0, 1, 2, 3, 4, 5, 6, 7];
  const codes = data.languages;
  const steps = [...document.styleSheets[0].cssRules].filter((r) => /^\.h\d+$/.test(r.selectorText)).length;
  const percent = (share) => (100 * share).toFixed(1);
  const metricTitle = (name) => (data.metrics[name] || [name])[0];
  const languageTitle = (code) => (code === data.mean ? "mean of the languages" : data.names[code] ?? code);

  function wilson(hits, n) {
    const z2 = 1.959963984540054 ** 2;
    const spread = Math.sqrt(z2 * ((hits * (n - hits)) / n + z2 / 4));
    const end = (sign) => (hits + z2 / 2 + sign * spread) / (n + z2);
    return [hits === 0 ? 0 : end(-1), hits === n ? 1 : end(1)];
  }

  function rate(cell, rowN) {
    if (cell === null) return null;
    if (cell.length === 4) return { value: cell[0], low: cell[1], high: cell[2], n: cell[3], wilson: false };
    const [hits, n] = typeof cell === "number" ? [cell, rowN] : cell;
    const [low, high] = wilson(hits, n);
    return { value: hits / n, low, high, n, wilson: true };
  }

  // Missing values come last, whichever way a column is sorted.
  const missing = (compare) => (a, b) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : compare(a, b));
  DataTable.ext.type.order["rate-asc"] = missing((a, b) => a - b);
  DataTable.ext.type.order["rate-desc"] = missing((a, b) => b - a);

  const escaped = DataTable.render.text();
  const html = (text) => Object.assign(document.createElement("span"), { textContent: text }).innerHTML;
  const layout = { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: ["pageLength", "paging"] };
  function options(rowCount, what) {
    const paged = rowCount > 50;
    return {
      // To search in names, DataTables would parse them as HTML. The filters of this page search instead.
      columnDefs: [{ targets: "_all", searchable: false }],
      autoWidth: false, deferRender: true, orderMulti: false, paging: paged, pageLength: 25,
      lengthMenu: [25, 50, 100, 200],
      layout: paged ? layout : { ...layout, bottomEnd: null },
      language: {
        info: `_START_ to _END_ of _TOTAL_ ${what}`, infoEmpty: `No ${what}`,
        infoFiltered: "(of _MAX_)", zeroRecords: `No ${what} match the filters.`,
        emptyTable: `No ${what}.`, lengthMenu: "_MENU_ rows per page",
        paginate: { first: "First", last: "Last", next: "Next", previous: "Back" },
      },
    };
  }
  // A line may break after a slash or an underscore in a name.
  function rowHead(cell, name, link) {
    cell.setAttribute("scope", "row");
    const inside = link ? Object.assign(document.createElement("a"), { href: link }) : cell;
    inside.replaceChildren(...name.split(/(?<=[/_])/).flatMap((part) => [part, document.createElement("wbr")]));
    if (link) cell.replaceChildren(inside);
  }
  // The remark beside the rates of a safety prompt on prompts that it was trained on.
  function trained(subject, dataset) {
    const overlap = subject[ANCHORS].find(([name]) => name === dataset);
    if (!overlap) return "";
    return overlap[1] === null ? "perhaps trained on these prompts" : `trained on ${overlap[1]} of these prompts`;
  }
  const warnings = data.subjects.map(() => []);
  for (const [subject, sets, text] of data.warnings) {
    warnings[subject].push([sets.map((set) => data.texts[set]), data.texts[text]]);
  }
  const warned = (number, dataset) => warnings[number].filter(([sets]) => sets.includes(dataset)).map(([, text]) => text);
  // The remarks below a row's condition.
  function beside(number, dataset) {
    const count = warned(number, dataset).length;
    const see = count === 0 ? "" : count === 1 ? "1 warning above" : `${count} warnings above`;
    return [trained(data.subjects[number], dataset), see].filter(Boolean).join("; ");
  }
  function conditionCell(cell, text, seen) {
    cell.textContent = text;
    if (seen) cell.append(Object.assign(document.createElement("small"), { className: "seen", textContent: seen }));
  }
  // The table scrolls in a separate box, which the keyboard can reach.
  function finish(id, table) {
    table.columns().every(function () {
      const head = this.header();
      head.setAttribute("scope", "col");
      const language = data.names[head.textContent.trim()];
      if (language) head.title = language;
    });
    const box = at(id).closest(".dt-layout-table");
    box.classList.add("scroll");
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-labelledby", `${id}-caption`);
  }

  // ---- one tooltip for all cells, for pointer and keyboard
  const tip = at("tip");
  let tipOf = null;
  function showTip(cell, text) {
    tipOf = cell;
    tip.textContent = text;
    tip.hidden = false;
    const box = cell.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = `${left}px`;
    tip.style.top = `${below ? box.bottom + 6 : Math.max(4, box.top - tip.offsetHeight - 6)}px`;
  }
  const hideTip = () => { tip.hidden = true; };
  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  // The browser may have scrolled to show the cell that has the focus.
  addEventListener("scroll", () => {
    if (tip.hidden) return;
    if (document.activeElement === tipOf) showTip(tipOf, tip.textContent); else hideTip();
  }, true);

  function tipped(table, selector, textOf) {
    const show = (event) => {
      const cell = event.target.closest(selector);
      const text = cell && textOf(cell);
      if (text) showTip(cell, text); else hideTip();
    };
    table.addEventListener("pointerover", show);
    table.addEventListener("focusin", show);
    table.addEventListener("pointerleave", hideTip);
    table.addEventListener("focusout", hideTip);
  }

  // The Tab key stops once in a table. The arrow keys move from cell to cell.
  function arrows(table) {
    const cells = () => [...table.querySelectorAll("tbody td.rate")];
    const stop = (cell) => {
      table.querySelectorAll("tbody [tabindex]").forEach((other) => other.removeAttribute("tabindex"));
      if (cell) cell.tabIndex = 0;
    };
    table.addEventListener("keydown", (event) => {
      const cell = event.target.closest("tbody td, tbody th");
      if (!cell) return;
      const row = cell.parentElement;
      const near = {
        ArrowLeft: () => cell.previousElementSibling,
        ArrowRight: () => cell.nextElementSibling,
        ArrowUp: () => row.previousElementSibling?.children[cell.cellIndex],
        ArrowDown: () => row.nextElementSibling?.children[cell.cellIndex],
        Home: () => row.firstElementChild,
        End: () => row.lastElementChild,
      }[event.key];
      const next = near?.();
      if (!next) return;
      event.preventDefault();
      stop(next);
      // Without this the browser may leave half of a cell hidden behind an edge.
      next.focus({ preventScroll: true });
      next.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    return () => stop(cells()[0]);
  }

  // ---- by language
  function ratesTable() {
    const controls = { metric: at("metric"), dataset: at("dataset"), judge: at("judge") };
    const search = at("search");
    const most = Math.max(...data.rates.map((one) => one.rows.length));
    const column = (code, index) => ({
      title: html(code), className: "rate", type: "rate", orderSequence: ["desc", "asc"],
      data: (row, kind) => {
        const record = row.rates[index];
        if (kind !== "display") return record === null ? null : record.value;
        if (record === null) return "–";
        return `<b>${percent(record.value)}</b><small>${percent(record.low)}–${percent(record.high)}</small><small>n ${record.n}</small>`;
      },
      createdCell: (cell, _, row) => {
        const record = row.rates[index];
        cell.dataset.index = index;
        cell.classList.add(record === null ? "none" : `h${Math.min(steps - 1, Math.floor(record.value * steps))}`);
      },
    });
    const table = new DataTable("#rates", {
      ...options(most, "rows"),
      order: [],
      columns: [
        { title: "Model", data: (row) => row.subject[MODEL], render: escaped, cellType: "th", createdCell: (cell, _, row) => rowHead(cell, row.subject[MODEL]), type: "string" },
        { title: "Condition", data: (row) => row.subject[SHOWN], render: escaped, className: "condition", createdCell: (cell, _, row) => conditionCell(cell, row.subject[SHOWN], row.seen), type: "string" },
        ...codes.map(column),
      ],
    });
    finish("rates", table);
    const element = at("rates");
    const resetStop = arrows(element);
    tipped(element, "td.rate", (cell) => {
      const row = table.row(cell.parentElement).data();
      const record = row && row.rates[cell.dataset.index];
      if (!record) return "";
      const { subject } = row;
      const lines = [
        `${subject[MODEL]}, ${subject[SHOWN]}`,
        `${metricTitle(chosen.metric)}, ${languageTitle(codes[cell.dataset.index])}: ${(100 * record.value).toFixed(2)}%`,
        `95% interval ${(100 * record.low).toFixed(2)} to ${(100 * record.high).toFixed(2)}%${record.wilson ? " (Wilson)" : ""}, n = ${record.n}`,
        `${row.runs.length > 1 ? "Runs of this row" : "Run"}: ${row.runs.map((run) => data.texts[run]).join(", ")}`,
      ];
      if (row.trained) lines.push(`Safety prompt: ${row.trained}`);
      lines.push(...row.warnings.map((text) => `Warning: ${text}`));
      if (subject[REVISION]) lines.push(`Revision: ${subject[REVISION]}`);
      if (subject[INTERVENTION]) lines.push(`Intervention: ${subject[INTERVENTION]}`);
      if (subject[GENERATION]) lines.push(`Generation settings: ${subject[GENERATION]}`);
      return lines.join("\n");
    });

    let chosen;
    const label = { metric: metricTitle, dataset: (name) => name, judge: (name) => name };
    function fill(name, values) {
      const select = controls[name];
      const before = select.value;
      select.replaceChildren(...values.map((value) => new Option(label[name](value), value)));
      select.value = values.includes(before) ? before : values[0];
    }
    const unique = (values) => [...new Set(values)];
    const boxes = (id) => [...at(id).querySelectorAll("input")];
    const ticked = (id) => new Set(boxes(id).filter((box) => box.checked).map((box) => box.value));

    function choose() {
      const { metric, dataset, judge } = controls;
      const ofMetric = data.rates.filter((one) => one.metric === metric.value);
      fill("dataset", unique(ofMetric.map((one) => one.dataset)));
      const ofDataset = ofMetric.filter((one) => one.dataset === dataset.value);
      fill("judge", unique(ofDataset.map((one) => one.judge)));
      chosen = ofDataset.find((one) => one.judge === judge.value);
      at("metric-help").textContent =
        `${metricTitle(chosen.metric)}: ${chosen.metric in data.metrics ? `the share of ${data.metrics[chosen.metric][1]}` : chosen.metric}.`;
      at("rates-caption").textContent =
        `${metricTitle(chosen.metric)} in percent, dataset ${chosen.dataset}, judge ${chosen.judge}`;
      table.clear();
      table.rows.add(chosen.rows.map(([subject, n, runs, cells]) => ({
        subject: data.subjects[subject], seen: beside(subject, chosen.dataset),
        trained: trained(data.subjects[subject], chosen.dataset), warnings: warned(subject, chosen.dataset), runs, rates: cells.map((cell) => rate(cell, n)),
      })));
      showLanguages();
      table.draw();
    }

    function showLanguages() {
      const wanted = ticked("languages");
      const known = codes.map((_, index) => chosen.rows.some((row) => row[3][index] !== null));
      codes.forEach((code, index) => {
        const visible = known[index] && wanted.has(code);
        const ofLanguage = table.column(index + 2);
        if (ofLanguage.visible() !== visible) ofLanguage.visible(visible, false);
      });
      const there = codes.filter((code, index) => known[index] && code !== data.mean);
      at("language-count").textContent = `(${there.filter((code) => wanted.has(code)).length} of ${there.length})`;
    }

    function tick(id, values, name) {
      for (const value of values) {
        const box = Object.assign(document.createElement("input"), { type: "checkbox", value, checked: true });
        const line = document.createElement("label");
        line.append(box, name(value));
        at(id).append(line);
      }
    }
    fill("metric", unique(data.rates.map((one) => one.metric)));
    tick("conditions", data.conditions, (name) => name);
    tick("languages", codes, (code) => (code === data.mean ? "mean" : `${languageTitle(code)} (${code})`));

    let conditions = ticked("conditions");
    let query = "";
    table.search.fixed("reader", (_, row) =>
      conditions.has(row.subject[CONDITION]) && row.subject[MODEL].toLowerCase().includes(query));
    Object.values(controls).forEach((select) => select.addEventListener("change", choose));
    at("conditions").addEventListener("change", () => { conditions = ticked("conditions"); table.draw(); });
    search.addEventListener("input", () => { query = search.value.trim().toLowerCase(); table.draw(); });
    at("languages").addEventListener("change", () => { showLanguages(); table.draw(false); });
    for (const [id, on] of [["all-languages", true], ["no-languages", false]]) {
      at(id).addEventListener("click", () => {
        boxes("languages").forEach((box) => { box.checked = on; });
        showLanguages();
        table.draw(false);
      });
    }
    at("controls").addEventListener("submit", (event) => event.preventDefault());
    table.on("draw", () => { hideTip(); resetStop(); });
    choose();
  }

  // ---- by model
  function modelsTable() {
    const rows = data.models.map(([subject, dataset, judge, asr, ablation, mcd, frr, degenerate, undecided, loophole, balanced, gap, worst, random, harmful, capability]) => ({
      capability: capability.some((one) => one !== null) ? capability : null,
      subject: data.subjects[subject], seen: beside(subject, data.texts[dataset]), dataset: data.texts[dataset], judge: data.texts[judge],
      asr: rate(asr), ablation: rate(ablation), mcd: rate(mcd), frr: rate(frr), loophole: rate(loophole),
      degenerate: rate(degenerate), undecided: rate(undecided),
      balanced, gap, worst, random,
      harmful: harmful?.map(([name, cell, open]) => ({ judge: name, open, ...rate(cell) })) ?? null, anchors: data.subjects[subject][ANCHORS].length ? data.subjects[subject][ANCHORS] : null,
    }));
    const known = (name) => rows.some((row) => row[name] !== null);
    document.querySelectorAll("#columns [data-column]").forEach((term) => {
      term.hidden = !term.dataset.column.split(" ").some(known);
    });
    const inWords = (record) => `${percent(record.value)}<small>${percent(record.low)}–${percent(record.high)}, n ${record.n}`;
    // If there are several judges, the first one decides the order.
    const harmful = {
      name: "harmful", title: "Harmful ASR", className: "number", type: "rate", orderSequence: ["desc", "asc"],
      data: (row, kind) => {
        if (kind !== "display") return row.harmful === null ? null : row.harmful[0].value;
        return row.harmful?.map((record) => `${inWords(record)}${record.open}, ${html(record.judge)}</small>`).join("") ?? "–";
      },
    };
    const measured = (name, title) => ({
      name, title, className: "number", type: "rate", orderSequence: ["desc", "asc"],
      data: (row, kind) => {
        const record = row[name];
        if (kind !== "display") return record === null ? null : record.value;
        return record === null ? "–" : `${inWords(record)}</small>`;
      },
    });
    const plain = (name, title) => ({
      name, title, className: "number", type: "rate", orderSequence: ["desc", "asc"],
      data: (row, kind) => (kind !== "display" ? row[name] : row[name] === null ? "–" : percent(row[name])),
    });
    const words = (title, value, className = "words") => ({ title, data: value, render: escaped, className, type: "string" });
    const model = {
      ...words("Model", (row) => row.subject[MODEL], ""),
      cellType: "th",
      createdCell: (cell, _, row) => rowHead(cell, row.subject[MODEL], row.subject[PAGE]),
    };
    const anchors = (row) => (row.anchors ?? []).map(([name, count]) => `${name}: ${count ?? "not known"}`).join(", ") || "–";
    const capability = data.tasks.map((title, place) => ({
      name: "capability", title, className: "number words", type: "rate", orderSequence: ["desc", "asc"],
      data: (row, kind) => {
        const one = row.capability?.[place] ?? null;
        if (kind !== "display") return one === null ? null : one[0];
        return one === null ? "–" : `${html(one[1])}${one[2] ? `<small>${html(one[2])}</small>` : ""}`;
      },
    }));
    const several = (values) => new Set(values).size > 1;
    const table = new DataTable("#models", {
      ...options(rows.length, "rows"),
      data: rows,
      order: [],
      columns: [
        model,
        {
          ...words("Condition", (row) => row.subject[SHOWN], "condition"),
          createdCell: (cell, _, row) => conditionCell(cell, row.subject[SHOWN], row.seen),
        },
        ...(several(rows.map((row) => row.dataset)) ? [words("Dataset", (row) => row.dataset)] : []),
        ...(several(rows.map((row) => row.judge)) ? [words("Judge", (row) => row.judge)] : []),
        ...[
          measured("asr", "ASR"), harmful, measured("ablation", "ASR, ablation"), measured("mcd", "ASR, MCD"),
          measured("frr", "FRR"), plain("balanced", "Balanced score"), measured("degenerate", "Degenerate rate"),
          measured("undecided", "Undecided rate"), measured("loophole", "Loophole rate"),
          plain("gap", "ASR gap"), ...capability,
        ].filter(({ name }) => known(name)),
        ...(known("gap") ? [words("Worst language", (row) => (row.worst === null ? "–" : languageTitle(row.worst)), "condition")] : []),
        ...(known("random") ? [words("Random directions", (row) => row.random ?? "–")] : []),
        ...(known("anchors") ? [words("Anchors in test set", anchors)] : []),
      ],
    });
    finish("models", table);

    // A value that all rows share has no column and no filter. The caption shows it.
    const search = at("model-search");
    const filters = [["condition", (row) => row.subject[CONDITION]], ["dataset", (row) => row.dataset], ["judge", (row) => row.judge]]
      .map(([name, of]) => {
        const select = at(`model-${name}`);
        const values = [...new Set(rows.map(of))];
        select.append(new Option("any", ""), ...values.map((value) => new Option(value, value)));
        select.closest("p").hidden = values.length < 2;
        if (values.length === 1 && name !== "condition") at("models-caption").append(`, ${{ dataset: "dataset", judge: "judge" }[name]} ${values[0]}`);
        return (row) => !select.value || of(row) === select.value;
      });
    table.search.fixed("reader", (_, row) =>
      row.subject[MODEL].toLowerCase().includes(search.value.trim().toLowerCase()) && filters.every((fits) => fits(row)));
    at("model-controls").addEventListener("input", () => table.draw());
    at("model-controls").addEventListener("submit", (event) => event.preventDefault());
  }

  // ---- light and dark
  const root = document.documentElement;
  const theme = at("theme");
  const isDark = () => getComputedStyle(root).colorScheme === "dark" ||
    (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const markPressed = () => theme.setAttribute("aria-pressed", String(isDark()));
  // A page that is opened from a file may have no storage. The choice is then lost.
  try { root.dataset.theme = localStorage.getItem("polyrefuse-theme") || ""; } catch { /* no storage */ }
  if (!root.dataset.theme) delete root.dataset.theme;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("polyrefuse-theme", root.dataset.theme); } catch { /* no storage */ }
    markPressed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", markPressed);
  markPressed();

  DataTable.ext.errMode = "throw";
  for (const [id, rows, show] of [["rates", data.rates, ratesTable], ["models", data.models, modelsTable]]) {
    if (!rows.length) continue;
    at(id).closest("section").hidden = false;
    show();
  }
})();
