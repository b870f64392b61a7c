"""docs/coverage.md: a table for each group of models, with footnotes, and the totals."""

import collections
import dataclasses
import re

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


STATES = ("verified", "refused", "stopped", "failed", "not applicable", "not run")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell: its text and the texts of its footnotes."""
    text: str
    notes: tuple = ()

    @property
    def state(self):
        """What it says; None where a model could not be exported."""
        return next((state for start, state in (("✓", "verified"), ("refused", "refused"), ("stopped", "stopped"), ("**failed**", "failed"),
                                                ("–", "not applicable"), ("not exported", None)) if self.text.startswith(start)), "not run")


class Page:
    """An earlier page, from which a sweep goes on: models by group, each with its size and its cells by column."""

    def __init__(self, path=None):
        self.groups = {}
        text = path.read_text(encoding="utf-8") if path else ""
        notes = dict(re.findall(r"^\[\^(\d+)\]: (.*)$", text, re.M))
        group, columns = None, []
        for row in text.splitlines():
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
            if row.startswith("## "):
                group, columns = row[3:].lower(), []
            elif cells[:2] == ["model", "parameters"]:
                columns = cells[2:]
            elif columns and len(cells) == len(columns) + 2 and not cells[0].startswith("---"):
                self.groups.setdefault(group, {})[cells[0]] = (cells[1], {
                    column: Cell(cell.split("[^")[0], tuple(notes[number] for number in re.findall(r"\[\^(\d+)\]", cell)))
                    for column, cell in zip(columns, cells[2:])})

    def cell(self, group, model, family):
        """A cell that was run; None where there is none."""
        cell = self.groups.get(group, {}).get(model, ("", {}))[1].get(family)
        return cell if cell and cell.state not in (None, "not run", "not applicable") else None


def write(page, models, missing, families, rows):
    """The page as text, and how many cells failed. What `rows` do not have stays as it is on the earlier page."""
    notes = Footnotes()
    totals = {family.name: collections.Counter() for family in families}
    text = [HEAD, legend(families)]
    for group in dict.fromkeys([*page.groups, *(model.group for model in models), *(group for group in missing if missing[group])]):
        header = ["model", "parameters", *(family.name for family in families)]
        lines = [line(header), line(["---", "---:", *(":---:" for _ in families)])]
        own = {model.name: model for model in models if model.group == group}
        failed = missing.get(group, {})
        for name in sorted({*page.groups.get(group, {}), *own} - {*failed}):
            size, before = page.groups.get(group, {}).get(name, ("", {}))
            cells = {family.name: before.get(family.name, Cell("")) for family in families}
            if name in own:
                found = {family.name: rows.find(own[name], family) for family in families}
                size = next((amount(row["parameters"][0]) for row in found.values() if row and "parameters" in row), size)
                cells |= {family.name: cell(found[family.name]) for family in families if found[family.name]}
                cells |= {family.name: Cell("–") for family in families if not family.applies(own[name].operators)}
            for family, shown in cells.items():
                totals[family][shown.state] += 1
            lines.append(line([name, size, *map(notes.mark, cells.values())]))
        lines += [line([name, "", *[notes.mark(Cell("not exported", (reason,)))] * len(families)]) for name, reason in failed.items()]
        text.append(f"## {group.capitalize()}\n\n{ABOUT.get(group, '')}\n\n" + "\n".join(lines) + "\n")
    text.append(summary(totals))
    text.append(notes.text())
    return "\n".join(text), sum(total["failed"] for total in totals.values())


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


def cell(row):
    """The cell of a row."""
    if row["state"] == "verified":
        text = "✓ =" if row["exactness"] == "bit-exact" else f"✓ {row['ratio']:.1f}"
        return Cell(text + "°" * bool(row["rounded"]), tuple(remarks(row)))
    if row["state"] == "failed":
        return Cell("**failed**", (row["message"],))
    return Cell(row["state"], (general(row["message"]) if row["state"] == "refused" else row["message"],))


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


def summary(totals):
    """How often each family has each verdict."""
    lines = [line(["family", *STATES]), line(["---", *("---:" for _ in STATES)])]
    lines += [line([name, *(str(total[state]) for state in STATES)]) for name, total in totals.items()]
    overall = sum(totals.values(), collections.Counter())
    lines.append(line(["all", *(str(overall[state]) for state in STATES)]))
    return "## Totals\n\n" + "\n".join(lines) + "\n"


class Footnotes:
    """Numbered notes; equal texts share a number."""

    def __init__(self):
        self._numbers = {}

    def mark(self, cell):
        """A cell's text with references to its notes."""
        return cell.text + "".join(f"[^{self._numbers.setdefault(note, len(self._numbers) + 1)}]" for note in cell.notes)

    def text(self):
        """All notes."""
        return "\n".join(f"[^{number}]: {text}" for text, number in self._numbers.items()) + "\n"


def line(cells):
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
