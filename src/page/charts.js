// Charts over training steps, on uPlot. One cursor runs through all of them: by mouse, by touch, or by the arrow keys.
"use strict";
var TempoCharts = (() => {
  const { isNumber, format, element, makeTable } = TempoParts;
  const kHeight = 220,
    kSync = "steps";
  const kDashes = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 2], [12, 4], [6, 6]];
  const kWholeSteps = [...Array(16).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
  const kFew = 60; // points that can be told apart
  let all = [];
  let zoom = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function swatch(name, dash, isFilled) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const shape = document.createElementNS("http://www.w3.org/2000/svg", isFilled ? "rect" : "path");
    const attributes = isFilled
      ? { width: 14, height: 12, fill: `var(${name})` }
      : { d: "M0 6H26", stroke: `var(${name})`, "stroke-width": 2.5, "stroke-dasharray": dash.join(" ") || "none" };
    for (const [key, value] of Object.entries({ width: isFilled ? 14 : 26, height: 12, "aria-hidden": "true" }))
      svg.setAttribute(key, value);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
    return svg;
  }

  /** The steps that all charts show. */
  let bounds = () => [0, 1];
  function xRange() {
    if (zoom) return zoom;
    const [low, high] = bounds();
    return low < high ? [low, high] : [low - 1, high + 1];
  }
  function yRange(spec, low, high) {
    if (!isNumber(low) || !isNumber(high)) return [0, 1];
    if (spec.isFromZero) low = Math.min(0, low);
    if (low === high) return [spec.isFromZero ? 0 : low - 1, high + 1];
    const room = 0.06 * (high - low);
    return [spec.isFromZero && low === 0 ? 0 : low - room, high + room];
  }

  class Chart {
    /** @param spec title, format, isFromZero, isStacked, marks() and lines(): [{label, colour, dash, x, y, least, greatest, points}] */
    constructor(spec) {
      this.spec = spec;
      this.hidden = new Set();
      this.plot = element("div", {
        class: "plot",
        tabindex: "0",
        role: "slider",
        "aria-orientation": "horizontal",
        onkeydown: (event) => this.key(event),
        onblur: () => this.plotted?.setCursor({ left: -10, top: -10 }, true, true),
      });
      this.legend = element("ul", { class: "legend", "aria-label": `Lines of ${spec.title}` });
      this.values = [];
      this.rows = element("div");
      this.table = element(
        "details",
        { ontoggle: () => this.fillTable() },
        element("summary", {}, "Values as a table"),
        this.rows,
      );
      this.root = element(
        "section",
        { class: "chart" },
        element("h3", {}, spec.title),
        spec.hint ? element("p", { class: "soft" }, spec.hint) : null,
        this.legend,
        this.plot,
        this.table,
      );
      all.push(this);
      this.watcher = new ResizeObserver(() => this.resize());
      this.watcher.observe(this.plot);
    }

    /** Reads the lines anew, and draws. */
    update() {
      this.lines = this.spec.lines();
      const shape = JSON.stringify(
        this.lines.map((line) => [line.label, line.colour, Boolean(line.least), line.points, line.x.length > kFew]),
      );
      if (shape !== this.shape) this.rebuild();
      this.shape = shape;
      this.plotted.setData(this.data(), true);
      this.describe();
      if (this.table.open) this.fillTable();
    }

    /** One table of all lines: uPlot wants them over the same steps. */
    data() {
      const tables = this.lines.map((line) =>
        line.least ? [line.x, line.y, line.greatest, line.least] : [line.x, line.y],
      );
      let joined;
      if (this.spec.isStacked) joined = [tables[0][0], ...this.stacked()];
      else joined = tables.length === 1 ? tables[0] : uPlot.join(tables.map((t) => t));
      return joined;
    }
    stacked() {
      let below = this.lines[0].x.map(() => 0);
      const sums = this.lines.map((line, i) => {
        if (!this.hidden.has(line.label)) below = below.map((sum, k) => sum + (line.y[k] || 0));
        return below.slice();
      });
      return sums.reverse();
    }

    rebuild() {
      this.plotted?.destroy();
      const spec = this.spec,
        series = [{}],
        bands = [];
      this.column = []; // of each line
      const add = (line, i) => {
        this.column[i] = series.length;
        const stroke = colour(line.colour),
          edge = spec.isStacked ? colour("--page") : stroke;
        series.push({
          label: line.label,
          stroke: edge,
          width: !spec.isStacked ? 1.75 : line.x.length > kFew ? 0 : 1,
          dash: line.dash || [],
          spanGaps: true,
          show: !this.hidden.has(line.label),
          fill: spec.isStacked ? stroke : undefined,
          points: {
            show: !spec.isStacked && ((line.points && line.x.length <= kFew) || undefined),
            size: 6,
            stroke,
            fill: stroke,
          },
        });
        if (!line.least) return;
        for (let k = 0; k < 2; ++k)
          series.push({
            stroke: `${stroke}66`,
            width: 1,
            spanGaps: true,
            points: { show: false },
            show: !this.hidden.has(line.label),
          });
        bands.push({ series: [series.length - 2, series.length - 1], fill: `${stroke}2e` });
      };
      if (spec.isStacked) [...this.lines.keys()].reverse().forEach((i) => add(this.lines[i], i));
      else this.lines.forEach(add);
      const axis = {
        stroke: colour("--soft"),
        grid: { stroke: colour("--grid"), width: 1 },
        ticks: { stroke: colour("--line"), width: 1 },
        font: "12px system-ui, sans-serif",
      };
      this.plotted = new uPlot(
        {
          width: Math.max(100, this.plot.clientWidth),
          height: kHeight,
          series,
          bands,
          legend: { show: false },
          cursor: {
            sync: { key: kSync, scales: ["x", null] },
            drag: { x: true, y: false, setScale: true },
            points: { size: 7 },
            focus: { prox: -1 },
          },
          scales: {
            x: { time: false, range: (u, low, high) => xRange() },
            y: { range: (u, low, high) => yRange(spec, low, high) },
          },
          axes: [
            { ...axis, size: 34, values: (u, ticks) => ticks.map(format.step) },
            {
              ...axis,
              size: 68,
              incrs: spec.format === format.count ? kWholeSteps : undefined,
              values: (u, ticks) => ticks.map((v) => spec.format(v)),
            },
          ],
          hooks: {
            setCursor: [() => this.showValues()],
            setSelect: [(u) => this.zoomTo(u)],
            draw: [(u) => this.drawMarks(u)],
          },
        },
        this.data(),
        this.plot,
      );
      this.plotted.over.addEventListener("dblclick", () => setZoom(null));
      this.fillLegend();
    }

    fillLegend() {
      this.values = [];
      this.legend.replaceChildren(
        ...this.lines.map((line, i) => {
          this.values[i] = element("span", { class: "value" });
          const button = element(
            "button",
            {
              type: "button",
              "aria-pressed": String(!this.hidden.has(line.label)),
              onclick: () => this.toggle(i, button),
            },
            swatch(line.colour, line.dash || [], this.spec.isStacked),
            element("span", {}, line.label),
            this.values[i],
          );
          return element("li", {}, button);
        }),
      );
    }
    toggle(i, button) {
      const label = this.lines[i].label,
        isShown = this.hidden.has(label);
      if (isShown) this.hidden.delete(label);
      else this.hidden.add(label);
      button.setAttribute("aria-pressed", String(isShown));
      if (this.spec.isStacked) return this.plotted.setData(this.data(), true);
      const width = this.lines[i].least ? 3 : 1;
      for (let k = 0; k < width; ++k) this.plotted.setSeries(this.column[i] + k, { show: isShown });
    }

    /** Value of a line at a step, or the last before it. */
    valueAt(line, step) {
      let low = 0,
        high = line.x.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (line.x[middle] <= step) low = middle + 1;
        else high = middle;
      }
      for (let i = low - 1; i >= 0; --i) if (isNumber(line.y[i])) return line.y[i];
      return null;
    }
    textAt(line, step) {
      const value = this.valueAt(line, step);
      return value === null ? "\u2013" : this.spec.format(value);
    }
    cursorStep() {
      const index = this.plotted?.cursor.idx;
      return isNumber(index) && this.plotted.cursor.left >= 0 ? this.plotted.data[0][index] : null;
    }
    showValues() {
      const step = this.cursorStep();
      this.lines.forEach(
        (line, i) => (this.values[i].textContent = this.textAt(line, step === null ? Infinity : step)),
      );
      const at = step === null ? this.lastStep() : step;
      this.plot.setAttribute("aria-valuenow", at);
      this.plot.setAttribute(
        "aria-valuetext",
        `step ${at}: ` + this.lines.map((line) => `${line.label} ${this.textAt(line, at)}`).join(", "),
      );
    }
    lastStep() {
      return Math.max(0, ...this.lines.map((line) => (line.x.length ? line.x[line.x.length - 1] : 0)));
    }
    describe() {
      const [low, high] = bounds();
      this.plot.setAttribute("aria-label", `${this.spec.title} over steps; arrow keys move along`);
      this.plot.setAttribute("aria-valuemin", low);
      this.plot.setAttribute("aria-valuemax", high);
      this.showValues();
    }

    key(event) {
      const data = this.plotted.data[0],
        last = data.length - 1;
      const now = this.cursorStep() === null ? last + 1 : this.plotted.cursor.idx,
        stride = event.shiftKey ? Math.max(1, Math.round(last / 10)) : 1;
      const to = { ArrowLeft: now - stride, ArrowRight: now + stride, Home: 0, End: last }[event.key];
      if (event.key === "Escape") return (setZoom(null), this.plotted.setCursor({ left: -10, top: -10 }, true, true));
      if (to === undefined || last < 0) return;
      event.preventDefault();
      const step = data[Math.min(last, Math.max(0, to))];
      this.plotted.setCursor({ left: this.plotted.valToPos(step, "x"), top: kHeight / 3 }, true, true);
    }
    zoomTo(u) {
      if (u.select.width < 4) return;
      const range = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      setZoom(range);
    }

    drawMarks(u) {
      const context = u.ctx;
      context.save();
      for (const mark of this.spec.marks ? this.spec.marks() : []) {
        const x = u.valToPos(mark.step, "x", true);
        if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
        context.strokeStyle = colour(mark.colour);
        context.lineWidth = 1.5 * devicePixelRatio;
        context.setLineDash(mark.dash);
        context.beginPath();
        context.moveTo(x, u.bbox.top);
        context.lineTo(x, u.bbox.top + u.bbox.height);
        context.stroke();
      }
      context.restore();
    }

    fillTable() {
      if (!this.table.open) return;
      const steps = [...new Set(this.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
      const count = Math.min(12, steps.length);
      const shown = [...Array(count).keys()].map(
        (i) => steps[count < 2 ? 0 : Math.round((i * (steps.length - 1)) / (count - 1))],
      );
      const rows = shown.map((step) => [
        step.toLocaleString("en"),
        ...this.lines.map((line) => this.textAt(line, step)),
      ]);
      this.rows.replaceChildren(makeTable(["Step", ...this.lines.map((line) => line.label)], rows, 0));
    }
    resize() {
      if (this.plotted && this.plot.clientWidth > 0)
        this.plotted.setSize({ width: this.plot.clientWidth, height: kHeight });
    }
  }

  function setZoom(range) {
    zoom = range;
    for (const chart of all) chart.plotted?.setData(chart.plotted.data, true);
    document.dispatchEvent(new CustomEvent("tempo-zoom"));
  }

  return {
    Chart,
    kDashes,
    setZoom,
    isZoomed: () => zoom !== null,
    setBounds: (give) => (bounds = give),
    updateAll: () => all.forEach((chart) => chart.update()),
    recolour: () => all.forEach((chart) => ((chart.shape = ""), chart.update())),
  };
})();
