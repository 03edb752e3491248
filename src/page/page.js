// The page of one run or several: figures, charts, what happened, settings. Live, it asks for what is new.
"use strict";
(() => {
  const { Chart, element, format, makeTable, kDashes, isNumber } = TempoCharts;
  const data = JSON.parse(document.getElementById("data").textContent);
  const runs = data.runs, main = document.getElementById("main"), isOne = runs.length === 1;
  const kRunColours = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6", "--series-7", "--series-8"];
  const kParts = [["waiting for workers", "wait_seconds", "--series-5"], ["deriving keys", "key_seconds", "--series-4"],
    ["blinding", "blind_seconds", "--series-1"], ["un-blinding", "unblind_seconds", "--series-3"],
    ["checking results", "verify_seconds", "--series-2"], ["layers and the rest", null, "--series-7"]];

  const column = (part, name) => part.columns[name]?.mean;
  const hasSteps = (run, name) => Boolean(column(run.history.steps, name));
  const isOffloaded = (run) => (run.history.steps.totals.bytes_to_workers || 0) > 0;
  const last = (list) => (list ? list.findLast(isNumber) : undefined);
  const known = (value, show) => (isNumber(value) ? show(value) : "\u2013");
  const total = (run, name) => {
    const both = [run.history.steps.totals[name], run.history.tests.totals[name]].filter(isNumber);
    return both.length ? both.reduce((a, b) => a + b) : undefined;
  };
  const lastStep = (run) => run.history.steps.step[run.history.steps.step.length - 1] || 0;
  const eventsOf = (run) => run.history.events.list;

  /** The mean over all steps, of buckets of equal width. */
  function mean(run, name) {
    const values = (column(run.history.steps, name) || []).filter(isNumber);
    return values.length ? values.reduce((a, b) => a + b) / values.length : undefined;
  }
  function peakMemory(run) {
    const steps = run.history.steps.columns.resident_bytes;
    const seen = Math.max(0, ...((steps?.greatest || steps?.mean || []).filter(isNumber)), run.summary?.peak_resident_bytes || 0);
    return seen || undefined;
  }

  const kFigures = [
    ["Steps", (run) => lastStep(run).toLocaleString("en") + (run.total_steps ? ` of ${run.total_steps.toLocaleString("en")}` : "")],
    ["Training loss, last", (run) => known(last(column(run.history.steps, "loss")), format.number)],
    ["Test accuracy, last", (run) => known(last(column(run.history.tests, "test_accuracy")), format.percent)],
    ["Time of a step, mean", (run) => known(mean(run, "seconds"), format.seconds)],
    ["Samples a second, mean", (run) => known(mean(run, "samples_per_second"), format.number)],
    ["CPU time of the master a step", (run) => known(mean(run, "tee_cpu_seconds"), format.seconds)],
    ["Sent to workers a step", (run) => known(mean(run, "bytes_to_workers"), format.bytes)],
    ["Received from workers a step", (run) => known(mean(run, "bytes_from_workers"), format.bytes)],
    ["Results checked", (run) => known(total(run, "integrity_checks") ?? run.summary?.integrity?.checks, format.count)],
    ["Results found wrong", (run) => known(total(run, "integrity_failures") ?? run.summary?.integrity?.failures, format.count)],
    ["Workers, at the end", (run) => known(last(column(run.history.steps, "workers")), format.count)],
    ["Memory, peak", (run) => known(peakMemory(run), format.bytes)],
  ];
  const isWrong = (name, text) => name === "Results found wrong" && /[1-9]/.test(text);

  function figures() {
    const rows = kFigures.map(([name, show]) => [name, runs.map(show)]);
    const marked = (name, text) => element(isOne ? "dd" : "span", { class: isWrong(name, text) ? "is-bad" : "" }, text);
    if (isOne) return element("dl", { class: "figures" }, ...rows.map(([name, [text]]) => element("div", {}, element("dt", {}, name), marked(name, text))));
    return makeTable(["", ...runs.map((run) => run.name)], rows.map(([name, texts]) => [name, ...texts.map((text) => marked(name, text))]), 1, "Figures");
  }

  /** Lines of one field: by colour where there is one run, else a colour and a dash for each run. */
  function lines(part, fields, points = false, wants = () => true) {
    const found = [];
    runs.forEach((run, i) => fields.forEach(([label, name], k) => {
      const values = run.history[part].columns[name];
      if (!values || !wants(run)) return;
      found.push({ label: isOne ? label : `${run.name}${fields.length > 1 ? ", " + label : ""}`, colour: isOne ? kRunColours[k] : kRunColours[i],
        dash: kDashes[isOne ? k : (i + 3 * k) % kDashes.length], x: run.history[part].step, y: values.mean, least: values.least, greatest: values.greatest, points });
    }));
    return found;
  }
  /** Parts of a step's time; what is no part of its own is the layers'. */
  function partLines(run) {
    const steps = run.history.steps, whole = column(steps, "seconds");
    const parts = kParts.filter(([, name]) => name).map(([label, name, colour]) => ({ label, colour, x: steps.step, y: column(steps, name) }));
    const rest = whole.map((seconds, k) => Math.max(0, seconds - parts.reduce((sum, part) => sum + (part.y?.[k] || 0), 0)));
    return [...parts.filter((part) => part.y), { label: kParts[5][0], colour: kParts[5][2], x: steps.step, y: rest }];
  }
  const kMarks = { worker_lost: ["--bad", [4, 3]], worker_quarantined: ["--bad", []], went_back: ["--series-5", [2, 2]], worker_joined: ["--good", [6, 3]] };
  const marks = () => runs.flatMap(eventsOf).filter((event) => kMarks[event.event])
    .map((event) => ({ step: event.step, colour: kMarks[event.event][0], dash: kMarks[event.event][1] }));

  const any = (name) => runs.some((run) => hasSteps(run, name));
  const anyOffloaded = (name) => any(name) && runs.some(isOffloaded);
  const kCharts = [
    { id: "loss", title: "Loss", format: format.number, needs: () => any("loss"),
      lines: () => [...lines("steps", [["training", "loss"]]), ...lines("tests", [["test", "test_loss"]], true).map((line) =>
        ({ ...line, label: isOne ? "test" : `${line.label}, test`, colour: isOne ? "--series-2" : line.colour, dash: kDashes[isOne ? 1 : 2] }))] },
    { id: "accuracy", title: "Test accuracy", format: format.percent, needs: () => runs.some((run) => run.history.tests.step.length),
      lines: () => lines("tests", [["test accuracy", "test_accuracy"]], true) },
    ...runs.map((run, i) => ({ id: `parts-${i}`, title: isOne ? "Time of a step, by part" : `Time of a step, by part: ${run.name}`, format: format.seconds,
      isFromZero: true, isStacked: true, needs: () => hasSteps(run, "key_seconds") && isOffloaded(run), lines: () => partLines(run) })),
    { id: "time", title: "Time of a step", format: format.seconds, isFromZero: true, lines: () => lines("steps", [["wall time", "seconds"], ["CPU time of the master", "tee_cpu_seconds"]]),
      needs: () => any("seconds") },
    { id: "bytes", title: "Bytes a step", format: format.bytes, isFromZero: true, needs: () => anyOffloaded("bytes_to_workers"),
      lines: () => lines("steps", [["to workers", "bytes_to_workers"], ["from workers", "bytes_from_workers"]], false, isOffloaded) },
    { id: "checks", title: "Results of workers a step", format: format.count, isFromZero: true, needs: () => anyOffloaded("integrity_checks"),
      lines: () => lines("steps", [["checked", "integrity_checks"], ["found wrong", "integrity_failures"]], false, isOffloaded) },
    { id: "workers", title: "Workers", hint: "Vertical lines: a worker joined, was lost, or was left out; the run went back.", format: format.count, isFromZero: true, marks,
      needs: () => anyOffloaded("workers"), lines: () => lines("steps", [["with a share of the work", "workers"], ["parts sent again", "reissued"]], false, isOffloaded) },
    { id: "memory", title: "Memory of the master", format: format.bytes, isFromZero: true, needs: () => any("resident_bytes"),
      lines: () => lines("steps", [["resident", "resident_bytes"]]) },
  ];
  const charts = new Map(), grid = element("div", { class: "charts" });
  function showCharts() {
    for (const spec of kCharts) {
      if (charts.has(spec.id) || !spec.needs()) continue;
      charts.set(spec.id, new Chart(spec));
      grid.replaceChildren(...kCharts.filter((one) => charts.has(one.id)).map((one) => charts.get(one.id).root));
    }
    TempoCharts.updateAll();
  }

  const kEvents = { run_began: "the run began", worker_joined: "worker joined", worker_lost: "worker lost", worker_quarantined: "worker left out for good: its result was wrong",
    part_reissued: "part of an operation sent to a second worker", went_back: "the run went back to a checkpoint", checkpoint_saved: "checkpoint saved",
    events_not_written: "further events are not written" };
  const kNotDetails = new Set(["step", "during", "event", "worker"]);
  let showsCheckpoints = false;
  function happened(run) {
    const list = eventsOf(run), checkpoints = list.filter((event) => event.event === "checkpoint_saved").length;
    const shown = list.filter((event) => showsCheckpoints || event.event !== "checkpoint_saved").slice(-200);
    const details = (event) => Object.entries(event).filter(([name]) => !kNotDetails.has(name)).map(([name, value]) => (name === "reason" ? value : `${name.replaceAll("_", " ")}: ${value}`)).join("; ");
    const rows = shown.map((event) => ({ className: event.event === "worker_quarantined" ? "differs" : "",
      cells: [(event.during ?? event.step).toLocaleString("en"), kEvents[event.event] || event.event, event.worker || "", details(event)] }));
    const more = run.history.events.dropped + list.length - (showsCheckpoints ? 0 : checkpoints) - shown.length;
    const said = [checkpoints ? `${checkpoints.toLocaleString("en")} checkpoints were saved.` : "", more > 0 ? `${more.toLocaleString("en")} earlier events are not listed.` : ""].filter(Boolean).join(" ");
    return element("div", { class: "events" }, isOne ? null : element("h3", {}, run.name),
      rows.length ? makeTable(["In step", "What", "Worker", "More"], rows, 9, "Events") : element("p", {}, "Nothing is on record."), said ? element("p", { class: "soft" }, said) : null);
  }
  const eventsBox = element("div", { class: "columns" });
  let shownEvents = "";
  function showEvents() {  // only what is new: a table that has the focus must not lose it
    const key = runs.map((run) => [eventsOf(run).length, run.history.events.dropped, run.history.generation]).join() + showsCheckpoints;
    if (key !== shownEvents) eventsBox.replaceChildren(...runs.map(happened));
    shownEvents = key;
  }
  const checkpointsButton = element("button", { type: "button", class: "control", "aria-pressed": "false", onclick: () => {
    showsCheckpoints = !showsCheckpoints;
    checkpointsButton.setAttribute("aria-pressed", String(showsCheckpoints));
    checkpointsButton.textContent = showsCheckpoints ? "Leave checkpoints out" : "List checkpoints, too";
    showEvents();
  } }, "List checkpoints, too");

  function statements(run) {
    const group = (kind, title) => {
      const found = run.statements.filter((one) => one.kind === kind);
      return found.length ? [element("div", {}, element(isOne ? "h3" : "h4", {}, title), element("ul", { class: "statements" }, ...found.map((one) => element("li", {}, one.text))))] : [];
    };
    if (!run.statements.length) return element("div", {}, isOne ? null : element("h3", {}, run.name), element("p", {}, "The settings of this run are not known here."));
    return element("div", { class: isOne ? "columns" : "" }, isOne ? null : element("h3", {}, run.name), ...group("warning", "Take care"), ...group("hidden", "Hidden from the workers"),
      ...group("shown", "Not hidden from the workers"));
  }
  function settings() {
    const names = [...new Set(runs.flatMap((run) => run.settings.map(([name]) => name)))];
    if (!names.length) return null;
    const values = runs.map((run) => new Map(run.settings));
    const rows = names.map((name) => {
      const texts = values.map((of) => of.get(name) ?? "\u2013");
      return { className: texts.some((text) => text !== texts[0]) ? "differs" : "", cells: [name, ...texts] };
    });
    rows.sort((a, b) => (b.className === "differs") - (a.className === "differs"));
    return element("details", {}, element("summary", {}, "All settings" + (isOne ? "" : "; those that differ come first")), makeTable(["Setting", ...runs.map((run) => (isOne ? "Value" : run.name))], rows, 9, "Settings"));
  }
  function notes() {
    const said = runs.flatMap((run) => {
      const own = [...run.notes];
      if (run.history.steps.step.length && !hasSteps(run, "key_seconds"))
        own.push("metrics.jsonl has no times by part, bytes, checks, workers, memory or events: an older version of Tempo wrote it.");
      else if (run.history.steps.step.length && !data.live && !isOffloaded(run)) own.push("Nothing was sent to workers: the master did all the work.");
      return own.map((text) => (isOne ? text : `${run.name}: ${text}`));
    });
    return said.map((text) => element("p", { class: "note" }, text));
  }

  const section = (title, ...children) => element("section", {}, element("h2", {}, title), ...children);
  const figuresBox = element("div"), state = element("p", { role: "status", id: "state" }), bar = element("progress", { "aria-label": "Steps done" });
  const zoomButton = element("button", { type: "button", class: "control", disabled: true, onclick: () => TempoCharts.setZoom(null) }, "Show all steps");
  document.addEventListener("tempo-zoom", () => (zoomButton.disabled = !TempoCharts.isZoomed()));
  TempoCharts.setBounds(() => [Math.min(...runs.map((run) => run.history.steps.step[0] ?? Infinity), Math.max(1, ...runs.map(lastStep))), Math.max(1, ...runs.map(lastStep))]);

  function show() {
    figuresBox.replaceChildren(figures());
    showCharts();
    showEvents();
  }
  const control = element("div", { class: "row" });
  main.append(...(data.live ? [element("div", { class: "row" }, state, bar, control)] : []), ...notes(), figuresBox,
    section("Curves", element("p", { class: "soft" }, "Point at a chart, or focus one and press the arrow keys, to read values in all of them. Drag to zoom in."), element("p", {}, zoomButton), grid),
    section("What happened", element("p", {}, checkpointsButton), eventsBox),
    section("What the settings hide", element("div", { class: isOne ? "" : "columns" }, ...runs.map(statements)), settings()),
    element("p", { class: "soft footer" }, "This page holds numbers about training, names of workers and settings: no data, no weights and no keys."));
  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", TempoCharts.recolour);

  // Live: what came after what is there already. The last bucket may still grow, so it is asked for again.
  function merge(old, update) {
    if (update.generation !== old.generation) return update;
    for (const part of ["steps", "tests"]) {
      const into = old[part], from = update[part];
      const append = (list, more) => [...list.slice(0, from.from), ...Array(Math.max(0, from.from - list.length)).fill(null), ...more];
      into.step = append(into.step, from.step);
      for (const [name, columns] of Object.entries(from.columns))
        for (const [kind, values] of Object.entries(columns)) (into.columns[name] ??= {})[kind] = append(into.columns[name][kind] || [], values);
      into.totals = from.totals;
    }
    old.events.list = old.events.list.slice(0, update.events.from).concat(update.events.list);
    old.events.dropped = update.events.dropped;
    old.epoch = update.epoch;
    return old;
  }
  let isPaused = false, failures = 0, updated = new Date();
  function tell() {
    const run = runs[0], step = lastStep(run);
    if (run.total_steps) [bar.max, bar.value] = [run.total_steps, step];
    bar.hidden = !run.total_steps;
    const where = `Step ${step.toLocaleString("en")}${run.total_steps ? ` of ${run.total_steps.toLocaleString("en")}` : ""}, epoch ${run.history.epoch + 1}.`;
    const at = updated.toLocaleTimeString("en-GB");
    state.textContent = failures > 1 ? `${where} No answer since ${at}: the run has ended, or cannot be reached.` : `${where} ${isPaused ? "Paused" : "Updated"} at ${at}.`;
  }
  async function poll() {
    if (!isPaused && !document.hidden) {
      const now = runs[0].history;
      try {
        const where = new URLSearchParams({ generation: now.generation, steps: Math.max(0, now.steps.step.length - 1), tests: Math.max(0, now.tests.step.length - 1), events: now.events.list.length });
        const answer = await fetch(`data.json?${where}`, { signal: AbortSignal.timeout(10000) });
        if (!answer.ok) throw new Error(String(answer.status));
        const before = [now.generation, now.events.list.length, lastStep(runs[0]), now.tests.step.length].join();
        runs[0].history = merge(now, await answer.json());
        [failures, updated] = [0, new Date()];
        const history = runs[0].history;
        if (before !== [history.generation, history.events.list.length, lastStep(runs[0]), history.tests.step.length].join()) show();
      } catch {
        ++failures;
      }
      tell();
    }
    setTimeout(poll, Math.min(15000, 1000 * 2 ** Math.max(0, failures - 1)));
  }
  if (data.live) {
    const pause = element("button", { type: "button", class: "control", onclick: () => {
      isPaused = !isPaused;
      pause.textContent = isPaused ? "Go on updating" : "Pause updating";
      tell();
    } }, "Pause updating");
    control.append(pause);
    tell();
    setTimeout(poll, 500);
  }
})();
