"""docs/coverage.md: a table for each group of models, with footnotes, and the totals."""

import collections
import re
import statistics

# What reads on a cell by itself; a child whose difference may hide below this much noise proves little.
LOUD_NOISE = 1e-3

# Every model has an output that callers read; its layer is left alone everywhere.
EXPECTED = "output '…': callers read it"

HEAD = """# Coverage

Which models take which morphs, as `tools/coverage.py` found by running each and having ONNX Runtime compare parent and child.

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

# What the folders hold that tools/export_models.py writes, and those that come from elsewhere.
ABOUT = {
    "models": "The models of this repository, trained on digits.",
    "trained": "Trained models of others: two super-resolution networks (ESRGAN), a classifier (MobileNetV2), and the text direction "
               "classifier of PP-OCR.",
    "classification": "torchvision's builders with random weights. Batch norms and constants are folded by the exporter; `.unfolded` "
                      "keeps them, and layer norms, as torch has them.",
    "segmentation": "torchvision's, with random weights.",
    "detection": "torchvision's, with random weights and their own post-processing.",
    "video": "torchvision's, with random weights.",
    "sequences": "Recurrent networks, encoders and decoders with random weights; `cached` ones take past keys and values.",
    "structures": "Small networks with random weights, some of unusual structure.",
    "fused": "Transformers and convolutions of fused operators: `ms_` of ONNX Runtime's, `onnx_` of ONNX's newest.",
    "precision": "Other types than float32, and the forms of quantisation.",
}


def write(models, missing, families, rows):
    """The page as text, and how many cells failed."""
    notes = Footnotes()
    totals = {family.name: collections.Counter() for family in families}
    page = [HEAD, legend(families)]
    shown = {family.name: [] for family in families}
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
                    shown[family.name].append(row)
                totals[family.name][state] += 1
                cells.append(cell(state, row, notes))
            lines.append(line([model.name, amount(sizes[0]) if sizes else "", *cells]))
        lines += [line([name, "", *["not exported" + notes.mark(reason)] * len(families)])
                  for name, reason in missing.get(group, {}).items()]
        page.append(f"## {group.capitalize()}\n\n{ABOUT.get(group, '')}\n\n" + "\n".join(lines) + "\n")
    page.append(summary(totals, shown))
    page.append(notes.text())
    return "\n".join(page), sum(total["failed"] for total in totals.values())


def legend(families):
    """What each column asks for."""
    lines = [line(["column", "arguments", "what it asks for"]), line(["---"] * 3)]
    for family in families:
        lines.append(line([family.name, "a recipe, below" if family.steps else f"`{family.text}`", family.about]))
    recipes = [f"`{family.name}` is this recipe:\n\n```json\n{family.text.replace('}, ', '},' + chr(10) + '  ')}\n```\n"
               for family in families if family.steps]
    single = any(family.picks for family in families)
    return "\n".join([*lines, "", *recipes, "`{0}`, `{1}` ... are layers spread over the network.\n" if single else ""])


def amount(number):
    """A count in three digits."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)


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
    return "; ".join(dict.fromkeys(re.sub(r"'[^']*'", "'…'", message).split("; ")))


def remarks(row):
    """Footnotes of a verified cell."""
    if not row["whole"]:
        yield f"The network is large: {row['changed']} of its layers were changed."
    left = {part for reason in row["left"] if reason != EXPECTED for part in reason.split("; ")}
    if left:
        yield "Layers left alone: " + "; ".join(sorted(left)) + "."
    if row["noise"] > LOUD_NOISE:
        yield f"The parent's own noise is {row['noise']:.1g} of its output: this proves little."


def summary(totals, shown):
    """Counts for each family, what the verified children are like, and the builds that the rows are of."""
    states = ("verified", "refused", "stopped", "failed", "not applicable", "not run")
    lines = [line(["family", *states, "layers changed", "left alone", "parameters", "seconds"]),
             line(["---", *("---:" for _ in range(len(states) + 4))])]
    for name, total in totals.items():
        verified = [row for row in shown[name] if row["state"] == "verified"]
        sizes = [sum(row["changed"] for row in verified), sum(sum(row["left"].values()) for row in verified)]
        growth = median([row["parameters"][1] / row["parameters"][0] for row in verified])
        lines.append(line([name, *(str(total[state]) for state in states), *map(str, sizes), f"×{growth:.2g}",
                           f"{median([row['seconds'] for row in shown[name]]):.0f}"]))
    overall = sum(totals.values(), collections.Counter())
    lines.append(line(["all", *(str(overall[state]) for state in states), "", "", "", ""]))
    builds = collections.Counter(row["build"] for rows in shown.values() for row in rows)
    return ("## Totals\n\n" + "\n".join(lines) + "\n\nParameters of the child over the parent's, and seconds to morph and to verify, are "
            "medians.\n\nBuilds: " + (", ".join(f"{build} ({count} cells)" for build, count in builds.most_common()) or "none") + ".\n")


def median(numbers):
    """The median, 0 of nothing."""
    return statistics.median(numbers) if numbers else 0


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
