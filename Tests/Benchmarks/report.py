"""The table at the end of a run, and the same as JSON."""

import json
import os


class Report:
  """Figures in the order they were taken: name, value, unit, goal, met."""

  def __init__(self):
    self.rows, self.header, self.notes = [], {}, []

  def add(self, figure, value, unit="", goal=None, detail="", below=False, within=None, least=None):
    """Add a figure; `goal` is the largest value that is good enough (with `below`, the least that is not);
    `least` is the smallest value that is, for what should be large.

    `within` is the interval that the value is known to: with the goal inside it, the verdict is called unclear.
    """
    met = None if goal is None else value < goal if below else value <= goal
    text = None if goal is None else f"{'<' if below else '<='} {goal:g}"
    if least is not None:
      goal, met, text = least, value >= least, f">= {least:g}"
    self.rows.append({"figure": figure, "value": value, "unit": unit, "goal": text, "met": met, "within": within,
                      "clear": None if goal is None or not within else not within[0] <= goal <= within[1],
                      "detail": detail})

  def failed(self, figure, why):
    self.rows.append({"figure": figure, "value": None, "unit": "", "goal": None, "met": None, "detail": str(why)})

  def text(self):
    lines = [f"{key}: {value}" for key, value in self.header.items()] + [""]
    cells = [("figure", "value", "goal", "", "detail")]
    for row in self.rows:
      value = "-" if row["value"] is None else f"{row['value']:.4g} {row['unit']}".strip()
      goal = row["goal"] or ""
      verdict = "not measured" if row["value"] is None else {None: "", True: "met", False: "NOT MET"}[row["met"]]
      if row.get("clear") is False:
        verdict += ", unclear"
      if row.get("within"):
        row = {**row, "detail": "95 % within {:.3f} to {:.3f}  ".format(*row["within"]) + row["detail"]}
      cells.append((row["figure"], value, goal, verdict, row["detail"]))
    widths = [max(len(cell[i]) for cell in cells) for i in range(4)]
    for cell in cells:
      lines.append("  ".join(cell[i].ljust(widths[i]) for i in range(4)) + "  " + cell[4])
    return "\n".join([line.rstrip() for line in lines + [""] + self.notes])

  def write(self, path):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as f:
      json.dump({**self.header, "figures": self.rows, "notes": self.notes}, f, indent=2)
      f.write("\n")
