// Which charts the page of runs has, and what they draw.
"use strict";
var TempoCurves = (runs) => {
  const { element, format } = TempoParts;
  const { column, hasSteps, isOffloaded, eventsOf } = TempoRuns;
  const { Chart, kDashes } = TempoCharts;
  const isOne = runs.length === 1;
  const kRunColours = [
    "--series-1",
    "--series-2",
    "--series-3",
    "--series-4",
    "--series-5",
    "--series-6",
    "--series-7",
    "--series-8",
  ];
  const kParts = [
    ["waiting for workers", "wait_seconds", "--series-5"],
    ["deriving keys", "key_seconds", "--series-4"],
    ["blinding", "blind_seconds", "--series-1"],
    ["un-blinding", "unblind_seconds", "--series-3"],
    ["checking results", "verify_seconds", "--series-2"],
    ["layers and the rest", null, "--series-7"],
  ];

  /** Lines of one field: by colour where there is one run, else a colour and a dash for each run. */
  function lines(part, fields, points = false, wants = () => true) {
    const found = [];
    runs.forEach((run, i) =>
      fields.forEach(([label, name], k) => {
        const values = run.history[part].columns[name];
        if (!values || !wants(run)) return;
        found.push({
          label: isOne ? label : `${run.name}${fields.length > 1 ? ", " + label : ""}`,
          colour: isOne ? kRunColours[k] : kRunColours[i],
          dash: kDashes[isOne ? k : (i + 3 * k) % kDashes.length],
          x: run.history[part].step,
          y: values.mean,
          least: values.least,
          greatest: values.greatest,
          points,
        });
      }),
    );
    return found;
  }
  /** Parts of a step's time; what is no part of its own is the layers'. */
  function partLines(run) {
    const steps = run.history.steps,
      whole = column(steps, "seconds");
    const parts = kParts
      .filter(([, name]) => name)
      .map(([label, name, colour]) => ({ label, colour, x: steps.step, y: column(steps, name) }));
    const rest = whole.map((seconds, k) =>
      Math.max(0, seconds - parts.reduce((sum, part) => sum + (part.y?.[k] || 0), 0)),
    );
    return [...parts.filter((part) => part.y), { label: kParts[5][0], colour: kParts[5][2], x: steps.step, y: rest }];
  }
  const kMarks = {
    worker_lost: ["--bad", [4, 3]],
    worker_quarantined: ["--bad", []],
    went_back: ["--series-5", [2, 2]],
    worker_joined: ["--good", [6, 3]],
  };
  const marks = () =>
    runs
      .flatMap(eventsOf)
      .filter((event) => kMarks[event.event])
      .map((event) => ({ step: event.during ?? event.step, colour: kMarks[event.event][0], dash: kMarks[event.event][1] }));

  const any = (name) => runs.some((run) => hasSteps(run, name));
  const anyOffloaded = (name) => any(name) && runs.some(isOffloaded);
  const kCharts = [
    {
      id: "loss",
      title: "Loss",
      format: format.number,
      needs: () => any("loss"),
      lines: () => [
        ...lines("steps", [["training", "loss"]]),
        ...lines("tests", [["test", "test_loss"]], true).map((line) => ({
          ...line,
          label: isOne ? "test" : `${line.label}, test`,
          colour: isOne ? "--series-2" : line.colour,
          dash: kDashes[isOne ? 1 : 2],
        })),
      ],
    },
    {
      id: "accuracy",
      title: "Test accuracy",
      format: format.percent,
      needs: () => runs.some((run) => run.history.tests.step.length),
      lines: () => lines("tests", [["test accuracy", "test_accuracy"]], true),
    },
    ...runs.map((run, i) => ({
      id: `parts-${i}`,
      title: isOne ? "Time of a step, by part" : `Time of a step, by part: ${run.name}`,
      format: format.seconds,
      isFromZero: true,
      isStacked: true,
      needs: () => hasSteps(run, "key_seconds") && isOffloaded(run),
      lines: () => partLines(run),
    })),
    {
      id: "time",
      title: "Time of a step",
      format: format.seconds,
      isFromZero: true,
      lines: () =>
        lines("steps", [
          ["wall time", "seconds"],
          ["CPU time of the master", "tee_cpu_seconds"],
        ]),
      needs: () => any("seconds"),
    },
    {
      id: "bytes",
      title: "Bytes a step",
      format: format.bytes,
      isFromZero: true,
      needs: () => anyOffloaded("bytes_to_workers"),
      lines: () =>
        lines(
          "steps",
          [
            ["to workers", "bytes_to_workers"],
            ["from workers", "bytes_from_workers"],
          ],
          false,
          isOffloaded,
        ),
    },
    {
      id: "checks",
      title: "Results of workers a step",
      format: format.count,
      isFromZero: true,
      needs: () => anyOffloaded("integrity_checks"),
      lines: () =>
        lines(
          "steps",
          [
            ["checked", "integrity_checks"],
            ["found wrong", "integrity_failures"],
          ],
          false,
          isOffloaded,
        ),
    },
    {
      id: "workers",
      title: "Workers",
      hint: "Vertical lines: a worker joined, was lost, or was left out; the run went back.",
      format: format.count,
      isFromZero: true,
      marks,
      needs: () => anyOffloaded("workers"),
      lines: () =>
        lines(
          "steps",
          [
            ["with a share of the work", "workers"],
            ["parts sent again", "reissued"],
          ],
          false,
          isOffloaded,
        ),
    },
    {
      id: "memory",
      title: "Memory of the master",
      format: format.bytes,
      isFromZero: true,
      needs: () => any("resident_bytes"),
      lines: () => lines("steps", [["resident", "resident_bytes"]]),
    },
  ];
  const charts = new Map(),
    grid = element("div", { class: "charts" });
  function showCharts() {
    for (const spec of kCharts) {
      if (charts.has(spec.id) || !spec.needs()) continue;
      charts.set(spec.id, new Chart(spec));
      grid.replaceChildren(...kCharts.filter((one) => charts.has(one.id)).map((one) => charts.get(one.id).root));
    }
    TempoCharts.updateAll();
  }

  return { grid, show: showCharts };
};
