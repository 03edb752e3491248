// The page of one run or several: figures, charts, what happened, settings. Live, it asks for what is new.
"use strict";
(() => {
  const { element, format, makeTable } = TempoParts;
  const { column, hasSteps, isOffloaded, last, known, total, lastStep, eventsOf, mean, peakMemory } = TempoRuns;
  const data = JSON.parse(document.getElementById("data").textContent);
  const runs = data.runs,
    main = document.getElementById("main"),
    isOne = runs.length === 1;
  const curves = TempoCurves(runs);

  const kFigures = [
    [
      "Steps",
      (run) =>
        lastStep(run).toLocaleString("en") + (run.total_steps ? ` of ${run.total_steps.toLocaleString("en")}` : ""),
    ],
    ["Training loss, last", (run) => known(last(column(run.history.steps, "loss")), format.number)],
    ["Test accuracy, last", (run) => known(last(column(run.history.tests, "test_accuracy")), format.percent)],
    ["Time of a step, mean", (run) => known(mean(run, "seconds"), format.seconds)],
    ["Samples a second, mean", (run) => known(mean(run, "samples_per_second"), format.number)],
    ["CPU time of the master a step", (run) => known(mean(run, "tee_cpu_seconds"), format.seconds)],
    ["Sent to workers a step", (run) => known(mean(run, "bytes_to_workers"), format.bytes)],
    ["Received from workers a step", (run) => known(mean(run, "bytes_from_workers"), format.bytes)],
    ["Results checked", (run) => known(total(run, "integrity_checks") ?? run.summary?.integrity?.checks, format.count)],
    [
      "Results found wrong",
      (run) => known(total(run, "integrity_failures") ?? run.summary?.integrity?.failures, format.count),
    ],
    ["Workers, last", (run) => known(last(column(run.history.steps, "workers")), format.count)],
    ["Memory, peak", (run) => known(peakMemory(run), format.bytes)],
  ];
  const isWrong = (name, text) => name === "Results found wrong" && /[1-9]/.test(text);

  function figures() {
    const rows = kFigures.map(([name, show]) => [name, runs.map(show)]);
    const marked = (name, text) => element(isOne ? "dd" : "span", { class: isWrong(name, text) ? "is-bad" : "" }, text);
    if (isOne)
      return element(
        "dl",
        { class: "figures" },
        ...rows.map(([name, [text]]) => element("div", {}, element("dt", {}, name), marked(name, text))),
      );
    return makeTable(
      ["", ...runs.map((run) => run.name)],
      rows.map(([name, texts]) => [name, ...texts.map((text) => marked(name, text))]),
      1,
      "Figures",
    );
  }

  const kEvents = {
    run_began: "the run began",
    worker_joined: "worker joined",
    worker_lost: "worker lost",
    worker_quarantined: "worker left out for good: its result was wrong",
    part_reissued: "part of an operation sent to a second worker",
    went_back: "the run went back to a checkpoint",
    checkpoint_saved: "checkpoint saved",
    events_not_written: "further events are not written",
  };
  const kNotDetails = new Set(["step", "during", "event", "worker"]);
  let showsCheckpoints = false;
  function happened(run) {
    const list = eventsOf(run),
      checkpoints = list.filter((event) => event.event === "checkpoint_saved").length;
    const shown = list.filter((event) => showsCheckpoints || event.event !== "checkpoint_saved").slice(-200);
    const details = (event) =>
      Object.entries(event)
        .filter(([name]) => !kNotDetails.has(name))
        .map(([name, value]) => (name === "reason" ? value : `${name.replaceAll("_", " ")}: ${value}`))
        .join("; ");
    const rows = shown.map((event) => ({
      className: event.event === "worker_quarantined" ? "differs" : "",
      cells: [
        (event.during ?? event.step).toLocaleString("en"),
        kEvents[event.event] || event.event,
        event.worker || "",
        details(event),
      ],
    }));
    const more = run.history.events.dropped + list.length - (showsCheckpoints ? 0 : checkpoints) - shown.length;
    const said = [
      checkpoints ? `${checkpoints.toLocaleString("en")} checkpoints were saved.` : "",
      more > 0 ? `${more.toLocaleString("en")} earlier events are not listed.` : "",
    ]
      .filter(Boolean)
      .join(" ");
    return element(
      "div",
      { class: "events" },
      isOne ? null : element("h3", {}, run.name),
      rows.length
        ? makeTable(["In step", "What", "Worker", "More"], rows, 9, "Events")
        : element("p", {}, "Nothing is on record."),
      said ? element("p", { class: "soft" }, said) : null,
    );
  }
  const eventsBox = element("div", { class: "columns" });
  let shownEvents = "";
  function showEvents() {
    // only what is new: a table that has the focus must not lose it
    const key =
      runs.map((run) => [eventsOf(run).length, run.history.events.dropped, run.history.generation]).join() +
      showsCheckpoints;
    if (key !== shownEvents) eventsBox.replaceChildren(...runs.map(happened));
    shownEvents = key;
  }
  const checkpointsButton = element(
    "button",
    {
      type: "button",
      class: "control",
      "aria-pressed": "false",
      onclick: () => {
        showsCheckpoints = !showsCheckpoints;
        checkpointsButton.setAttribute("aria-pressed", String(showsCheckpoints));
        checkpointsButton.textContent = showsCheckpoints ? "Leave checkpoints out" : "List checkpoints, too";
        showEvents();
      },
    },
    "List checkpoints, too",
  );

  function statements(run) {
    const group = (kind, title) => {
      const found = run.statements.filter((one) => one.kind === kind);
      return found.length
        ? [
            element(
              "div",
              {},
              element(isOne ? "h3" : "h4", {}, title),
              element("ul", { class: "statements" }, ...found.map((one) => element("li", {}, one.text))),
            ),
          ]
        : [];
    };
    if (!run.statements.length)
      return element(
        "div",
        {},
        isOne ? null : element("h3", {}, run.name),
        element("p", {}, "The settings of this run are not known here."),
      );
    return element(
      "div",
      { class: isOne ? "columns" : "" },
      isOne ? null : element("h3", {}, run.name),
      ...group("warning", "Take care"),
      ...group("hidden", "Hidden from the workers"),
      ...group("shown", "Not hidden from the workers"),
    );
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
    return element(
      "details",
      {},
      element("summary", {}, "All settings" + (isOne ? "" : "; those that differ come first")),
      makeTable(["Setting", ...runs.map((run) => (isOne ? "Value" : run.name))], rows, 9, "Settings"),
    );
  }
  function notes() {
    const said = runs.flatMap((run) => {
      const own = [...run.notes];
      if (run.history.steps.step.length && !hasSteps(run, "key_seconds"))
        own.push(
          "metrics.jsonl has no times by part, bytes, checks, workers, memory or events: an older version of Tempo wrote it.",
        );
      else if (run.history.steps.step.length && !data.live && !isOffloaded(run))
        own.push("Nothing was sent to workers: the master did all the work.");
      return own.map((text) => (isOne ? text : `${run.name}: ${text}`));
    });
    return said.map((text) => element("p", { class: "note" }, text));
  }

  const section = (title, ...children) => element("section", {}, element("h2", {}, title), ...children);
  const figuresBox = element("div");
  const zoomButton = element(
    "button",
    { type: "button", class: "control", disabled: true, onclick: () => TempoCharts.setZoom(null) },
    "Show all steps",
  );
  document.addEventListener("tempo-zoom", () => (zoomButton.disabled = !TempoCharts.isZoomed()));
  TempoCharts.setBounds(() => [
    Math.min(...runs.map((run) => run.history.steps.step[0] ?? Infinity), Math.max(1, ...runs.map(lastStep))),
    Math.max(1, ...runs.map(lastStep)),
  ]);

  function show() {
    figuresBox.replaceChildren(figures());
    curves.show();
    showEvents();
  }
  main.append(
    ...(data.live ? [TempoLive(runs[0], show)] : []),
    ...notes(),
    figuresBox,
    section(
      "Curves",
      element(
        "p",
        { class: "soft" },
        "Point at a chart, or focus one and press the arrow keys, to read values in all of them. Drag to zoom in.",
      ),
      element("p", {}, zoomButton),
      curves.grid,
    ),
    section("What happened", element("p", {}, checkpointsButton), eventsBox),
    section(
      "What the settings hide",
      element("div", { class: isOne ? "" : "columns" }, ...runs.map(statements)),
      settings(),
    ),
    element(
      "p",
      { class: "soft footer" },
      "This page holds numbers about training, names of workers and settings: no data, no weights and no keys.",
    ),
  );
  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", TempoCharts.recolour);
})();
