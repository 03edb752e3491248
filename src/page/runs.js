// What a run's history says, read by name.
"use strict";
var TempoRuns = (() => {
  const { isNumber } = TempoParts;
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
    const seen = Math.max(
      0,
      ...(steps?.greatest || steps?.mean || []).filter(isNumber),
      run.summary?.peak_resident_bytes || 0,
    );
    return seen || undefined;
  }

  return { column, hasSteps, isOffloaded, last, known, total, lastStep, eventsOf, mean, peakMemory };
})();
