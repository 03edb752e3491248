#!/usr/bin/env python3
"""Draws the loss and test accuracy of runs, from their metrics.jsonl, as one SVG.

usage: plot_runs.py OUT.svg RUN RUN [RUN ...] [--smooth STEPS]
"""
import argparse
import json
import pathlib

WIDTH, HEIGHT, MARGIN = 460, 280, 46
COLOURS = ["#1b6ca8", "#d1495b", "#3a7d44", "#8d6a9f"]


def load(run: pathlib.Path):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    tests = [(line["step"], 100 * line["test_accuracy"]) for line in lines if "test_accuracy" in line]
    return losses, tests


def smooth(points, width):
    result = []
    for i in range(len(points)):
        window = points[max(0, i - width + 1): i + 1]
        result.append((points[i][0], sum(y for _, y in window) / len(window)))
    return result


def panel(title, series, left):
    """One chart with its own axes; series are (name, colour, points)."""
    points = [p for _, _, line in series for p in line]
    if not points:
        return []
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    x_span, y_span = (x_high - x_low) or 1, (y_high - y_low) or 1

    def place(x, y):
        return (left + MARGIN + (x - x_low) / x_span * (WIDTH - 2 * MARGIN),
                HEIGHT - MARGIN - (y - y_low) / y_span * (HEIGHT - 2 * MARGIN))

    out = [f'<text x="{left + WIDTH / 2}" y="22" text-anchor="middle" font-weight="bold">{title}</text>']
    for i in range(5):
        y = y_low + y_span * i / 4
        x = x_low + x_span * i / 4
        _, py = place(x_low, y)
        px, _ = place(x, y_low)
        out.append(f'<line x1="{left + MARGIN}" x2="{left + WIDTH - MARGIN}" y1="{py:.1f}" y2="{py:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left + MARGIN - 5}" y="{py + 4:.1f}" text-anchor="end">{y:.3g}</text>')
        out.append(f'<text x="{px:.1f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{x:.0f}</text>')
    out.append(f'<text x="{left + WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">step</text>')
    for _, colour, line in series:
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" opacity="0.85"/>')
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--smooth", type=int, default=20, help="losses are means over so many steps")
    arguments = parser.parse_args()
    names = [run.name for run in arguments.runs]
    loaded = [load(run) for run in arguments.runs]
    losses = [(n, c, smooth(l, arguments.smooth)) for n, c, (l, _) in zip(names, COLOURS, loaded)]
    tests = [(n, c, t) for n, c, (_, t) in zip(names, COLOURS, loaded)]
    panels = [("training loss", losses)]
    if all(len(line) > 1 for _, _, line in tests):
        panels.append(("test accuracy, %", tests))
    body = [part for i, (title, series) in enumerate(panels) for part in panel(title, series, i * WIDTH)]
    for i, (name, colour) in enumerate(zip(names, COLOURS)):
        x = MARGIN + i * 170
        body.append(f'<line x1="{x}" x2="{x + 22}" y1="{HEIGHT + 8}" y2="{HEIGHT + 8}" stroke="{colour}" stroke-width="3"/>')
        body.append(f'<text x="{x + 28}" y="{HEIGHT + 12}">{name}</text>')
    width = max(WIDTH * len(panels), MARGIN + 170 * len(names))
    arguments.out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 24}" font-family="sans-serif" '
        'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n")


if __name__ == "__main__":
    main()
