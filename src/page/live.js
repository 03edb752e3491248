// Asks for what is new of a run that goes on, and says how far it is.
"use strict";
var TempoLive = (run, show) => {
  const { element } = TempoParts,
    { lastStep } = TempoRuns;
  const state = element("p", { role: "status", id: "state" }),
    bar = element("progress", { "aria-label": "Steps done" });

  /** What came after what is there already. The last bucket may still grow, so it is asked for again. */
  function merge(old, update) {
    if (update.generation !== old.generation) return update;
    for (const part of ["steps", "tests"]) {
      const into = old[part],
        from = update[part];
      const append = (list, more) => [
        ...list.slice(0, from.from),
        ...Array(Math.max(0, from.from - list.length)).fill(null),
        ...more,
      ];
      into.step = append(into.step, from.step);
      for (const [name, columns] of Object.entries(from.columns))
        for (const [kind, values] of Object.entries(columns))
          (into.columns[name] ??= {})[kind] = append(into.columns[name][kind] || [], values);
      into.totals = from.totals;
    }
    old.events.list = old.events.list.slice(0, update.events.from).concat(update.events.list);
    old.events.dropped = update.events.dropped;
    old.epoch = update.epoch;
    return old;
  }
  let isPaused = false,
    failures = 0,
    updated = new Date();
  function tell() {
    const step = lastStep(run);
    if (run.total_steps) [bar.max, bar.value] = [run.total_steps, step];
    bar.hidden = !run.total_steps;
    const where = `Step ${step.toLocaleString("en")}${run.total_steps ? ` of ${run.total_steps.toLocaleString("en")}` : ""}, epoch ${run.history.epoch + 1}.`;
    const at = updated.toLocaleTimeString("en-GB");
    state.textContent =
      failures > 1
        ? `${where} No answer since ${at}: the run has ended, or cannot be reached.`
        : `${where} ${isPaused ? "Paused" : "Updated"} at ${at}.`;
  }
  async function poll() {
    if (!isPaused && !document.hidden) {
      const now = run.history;
      try {
        const where = new URLSearchParams({
          generation: now.generation,
          steps: Math.max(0, now.steps.step.length - 1),
          tests: Math.max(0, now.tests.step.length - 1),
          events: now.events.list.length,
        });
        const answer = await fetch(`data.json?${where}`, { signal: AbortSignal.timeout(10000) });
        if (!answer.ok) throw new Error(String(answer.status));
        const before = [now.generation, now.events.list.length, lastStep(run), now.tests.step.length].join();
        run.history = merge(now, await answer.json());
        [failures, updated] = [0, new Date()];
        const history = run.history;
        if (
          before !== [history.generation, history.events.list.length, lastStep(run), history.tests.step.length].join()
        )
          show();
      } catch {
        ++failures;
      }
      tell();
    }
    setTimeout(poll, Math.min(15000, 1000 * 2 ** Math.max(0, failures - 1)));
  }
  const pause = element(
    "button",
    {
      type: "button",
      class: "control",
      onclick: () => {
        isPaused = !isPaused;
        pause.textContent = isPaused ? "Go on updating" : "Pause updating";
        tell();
      },
    },
    "Pause updating",
  );
  tell();
  setTimeout(poll, 500);
  return element("div", { class: "row" }, state, bar, pause);
};
