"""docs/coverage.md: a table for each group of models, with footnotes, and the totals."""

import collections
import re

# What reads on a cell by itself; a child whose difference may hide below this much noise proves little.
LOUD_NOISE = 1e-3

# Every model has an output that callers read; its layer is left alone everywhere.
EXPECTED = "output '…': callers read it"

HEAD = """# Coverage

Which models take which morphs, as `tools/coverage.py` found by running each and having ONNX Runtime compare parent and child.
The models are those of `models/` and those that `tools/export_models.py` writes, with random weights.

| cell | meaning |
|---|---|
| ✓ 0.9 | verified: the largest difference is 0.9 times the parent's own noise floor; up to 8 counts as rounding |
| ✓ = | verified, every bit the same |
| ° | a size was rounded to the next one that groups, heads or norms take |
| refused | no layer takes the change; the footnote says why |
| stopped | memory or time ran out; the footnote says which |
| **failed** | the child computes something else, or the command crashed |
| – | not applicable: the model has nothing of what the family changes |
| (empty) | not run yet |

A footnote on a verified cell says what was left alone and why, except for layers that make an output: those stay everywhere.
"""


def write(models, missing, families, rows):
    """The page as text, and how many cells failed."""
    notes = Footnotes()
    totals = {family.name: collections.Counter() for family in families}
    page = [HEAD, legend(families)]
    used = collections.Counter()
    groups = list(dict.fromkeys(model.group for model in models)) + [g for g in missing if missing[g] and all(m.group != g for m in models)]
    for group in groups:
        header = ["model", "parameters", *(family.name for family in families)]
        lines = [line(header), line(["---", "---:", *(":---:" for _ in families)])]
        for model in sorted((model for model in models if model.group == group), key=lambda model: model.name):
            found = {family.name: rows.find(model, family) for family in families}
            sizes = [row["parameters"][0] for row in found.values() if row and "parameters" in row]
            cells = []
            for family in families:
                row = found[family.name]
                state = "not applicable" if not family.applies(model.operators) else row["state"] if row else "not run"
                if row and state != "not applicable":
                    used[row["build"]] += 1
                totals[family.name][state] += 1
                cells.append(cell(state, row, notes))
            lines.append(line([model.name, f"{sizes[0] / 1e6:.3g} M" if sizes else "", *cells]))
        lines += [line([name, "", *("not exported" + notes.mark(reason) for _ in range(1))]) for name, reason in missing.get(group, {}).items()]
        page.append(f"## {group.capitalize()}\n\n" + "\n".join(lines) + "\n")
    page.append(summary(totals, used))
    page.append(notes.text())
    return "\n".join(page), sum(total["failed"] for total in totals.values())


def legend(families):
    """What each column asks for."""
    lines = [line(["column", "arguments", "what it asks for"]), line(["---"] * 3)]
    for family in families:
        lines.append(line([family.name, f"`{family.text}`", family.about]))
    return "\n".join(lines) + "\n"


def cell(state, row, notes):
    """The text of one cell."""
    if state == "verified":
        text = "✓ =" if row["exactness"] == "bit-exact" else f"✓ {row['ratio']:.1f}"
        if row["rounded"]:
            text += "°"
        return text + "".join(map(notes.mark, remarks(row)))
    if state == "refused":
        return state + notes.mark(general(row["message"]))
    if state == "stopped":
        return state + notes.mark(row["message"])
    if state == "failed":
        return "**failed**" + notes.mark(row["message"])
    return {"not applicable": "–", "not run": ""}[state]


def general(message):
    """A refusal without the names of one model's nodes, so that models that are refused for the same reason share a note."""
    message = re.sub(r"^Nothing could be changed: |, and \d+ more(?=\.$)", "", message)
    return re.sub(r"'[^']*'", "'…'", message)


def remarks(row):
    """Footnotes of a verified cell."""
    if not row["whole"]:
        yield f"The network is large: {row['changed']} of its layers were changed."
    left = [reason for reason in row["left"] if reason != EXPECTED]
    if left:
        yield "Layers left alone: " + "; ".join(sorted(left)) + "."
    if row["noise"] > LOUD_NOISE:
        yield f"The parent's own noise is {row['noise']:.1g} of its output: this proves little."


def summary(totals, used):
    """Counts for each family, and the builds that the rows are of."""
    states = ("verified", "refused", "stopped", "failed", "not applicable", "not run")
    lines = [line(["family", *states]), line(["---", *("---:" for _ in states)])]
    for name, total in totals.items():
        lines.append(line([name, *(str(total[state]) for state in states)]))
    overall = sum(totals.values(), collections.Counter())
    lines.append(line(["all", *(str(overall[state]) for state in states)]))
    builds = ", ".join(f"{build} ({count} cells)" for build, count in used.most_common())
    return "## Totals\n\n" + "\n".join(lines) + f"\n\nBuilds: {builds or 'none'}.\n"


class Footnotes:
    """Numbered notes; equal texts share a number."""

    def __init__(self):
        self._numbers = {}

    def mark(self, text):
        """The reference to a note."""
        return f"[^{self._numbers.setdefault(text, len(self._numbers) + 1)}]"

    def text(self):
        """All notes."""
        return "\n".join(f"[^{number}]: {text}" for text, number in self._numbers.items()) + "\n"


def line(cells):
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
