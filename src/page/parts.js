// What all pages are built with: numbers with their units, elements, tables.
"use strict";
var TempoParts = (() => {
  const isNumber = (value) => typeof value === "number" && isFinite(value);

  const format = {
    number: (v) =>
      v === 0 ? "0" : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(4)),
    count: (v) => (Number.isInteger(v) ? v.toLocaleString("en") : format.number(v)),
    percent: (v) => `${+(100 * v).toFixed(2)}%`,
    seconds: (v) =>
      v === 0
        ? "0 s"
        : v < 1e-3
          ? `${+(v * 1e6).toPrecision(3)} \u00b5s`
          : v < 1
            ? `${+(v * 1e3).toPrecision(3)} ms`
            : v < 120
              ? `${+v.toPrecision(3)} s`
              : v < 7200
                ? `${+(v / 60).toPrecision(3)} min`
                : `${+(v / 3600).toPrecision(3)} h`,
    step: (v) =>
      !Number.isInteger(v)
        ? ""
        : v >= 1e6
          ? `${+(v / 1e6).toPrecision(4)}M`
          : v >= 1e4
            ? `${+(v / 1e3).toPrecision(4)}k`
            : v.toLocaleString("en"),
    bytes: (v) => {
      const units = ["B", "kB", "MB", "GB", "TB", "PB"];
      let i = 0;
      for (; Math.abs(v) >= 1000 && i < units.length - 1; ++i) v /= 1000;
      return `${+v.toPrecision(3)} ${units[i]}`;
    },
  };

  /** An element with properties and children; text is never taken as HTML. */
  function element(name, properties = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(properties)) {
      if (key === "class") made.className = value;
      else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  /** A table in a box that scrolls sideways. @param firstNumber column from which cells are numbers; cells may be elements. */
  function makeTable(heads, rows, firstNumber, name = "") {
    const cell = (kind) => (content, i) => element(kind, { class: i >= firstNumber ? "number" : "" }, content);
    return element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": name || heads.join(", ") },
      element(
        "table",
        { class: name ? name.toLowerCase().replaceAll(" ", "-") : "" },
        element("thead", {}, element("tr", {}, ...heads.map(cell("th")))),
        element(
          "tbody",
          {},
          ...rows.map((row) => element("tr", { class: row.className || "" }, ...(row.cells || row).map(cell("td")))),
        ),
      ),
    );
  }

  return { isNumber, format, element, makeTable };
})();
