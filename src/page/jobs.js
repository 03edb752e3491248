// The operator's list of jobs. It asks for the list every two seconds.
"use strict";
(() => {
  const { element, format } = TempoParts;
  const main = document.getElementById("main");
  const kHeads = [
    "Job",
    "State",
    "Jobs before it",
    "Began",
    "Step of its checkpoint",
    "Workers",
    "Size of its archive",
  ];
  const count = (value) => (value > 0 ? value.toLocaleString("en") : "\u2013");
  const size = (bytes) => (bytes > 0 ? format.bytes(bytes) : "none");
  const time = (seconds) => (seconds > 0 ? new Date(1000 * seconds).toLocaleString("en-GB") : "\u2013");

  const state = element("p", { role: "status", id: "state" }),
    box = element("div");
  let shown = "";
  function show(data) {
    if (JSON.stringify(data) === shown) return; // where nothing is new, nothing loses the focus
    shown = JSON.stringify(data);
    const rows = data.jobs.map((job) => [
      element("code", {}, job.job),
      job.state,
      count(job.ahead),
      time(job.began),
      count(job.step),
      count(job.workers),
      size(job.archive_bytes),
    ]);
    const table = element(
      "table",
      {},
      element("thead", {}, element("tr", {}, ...kHeads.map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))))),
    );
    const list = element("div", { class: "scroll jobs", tabindex: "0", role: "region", "aria-label": "Jobs" }, table);
    box.replaceChildren(rows.length ? list : element("p", {}, "There is no job."));
  }
  async function poll() {
    if (!document.hidden) {
      try {
        const answer = await fetch("jobs.json", { signal: AbortSignal.timeout(10000) });
        if (!answer.ok) throw new Error(String(answer.status));
        const data = await answer.json();
        show(data);
        state.textContent = `${data.jobs.length} ${data.jobs.length === 1 ? "job" : "jobs"}. Updated at ${new Date().toLocaleTimeString("en-GB")}.`;
      } catch {
        state.textContent = "No answer: the service has ended, or cannot be reached.";
      }
    }
    setTimeout(poll, 2000);
  }
  main.append(
    state,
    box,
    element(
      "p",
      { class: "soft" },
      "The list holds what a host of this service can find out anyway: no losses, settings, data or owners of jobs.",
    ),
  );
  show(JSON.parse(document.getElementById("data").textContent));
  poll();
})();
