#!/usr/bin/env python3
"""Morphs every model of a folder and tells in a Markdown table how each morph came out.

    dotnet build -c Release src/OnnxMorph.Cli
    tools/sweep_zoo.py models
    tools/sweep_zoo.py zoo --morphs widen-1.5,all --output docs/zoo.md

A row is one model and one morph: how the child was verified, parameters before and after, layers changed and left alone,
the largest difference as a multiple of the parent's own noise floor (up to 8 counts as rounding), and seconds for the whole
command, verification included. Where the command failed, its exit code and the first sentence stand instead. Children are
written to a temporary folder and deleted. Exits with 1 if any child failed verification or any run crashed or timed out.

Needs nothing but Python 3.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

MORPHS = {
    "widen-1.5": ["--widen", "*=x1.5"],
    "widen-2": ["--widen", "*=x2"],
    "deepen": ["--deepen", "*"],
    "kernel+2": ["--kernel", "*=+2"],
    "all": ["--widen", "*=x1.5", "--deepen", "*", "--kernel", "*=+2"],
}
REFUSED = 4
COMMAND = pathlib.Path(__file__).resolve().parent.parent / "src/OnnxMorph.Cli/bin/Release/net10.0/OnnxMorph.Cli.dll"
HEADER = ["model", "morph", "result", "parameters", "changed", "left alone", "× noise floor", "seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path, help="folders with .onnx files, or such files")
    parser.add_argument("--morphs", default=",".join(MORPHS), help=f"which of {', '.join(MORPHS)} (all of them)")
    parser.add_argument("--output", type=pathlib.Path, help="also write the table to this file")
    parser.add_argument("--command", default=None, help=f"the command to run (dotnet {COMMAND.name})")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run (%(default)g)")
    parser.add_argument("--inputs", type=pathlib.Path, help="samples to verify on instead of drawn inputs")
    options = parser.parse_args()
    command = [options.command] if options.command else ["dotnet", str(COMMAND)]
    if not options.command and not COMMAND.exists():
        parser.error(f"{COMMAND} is not built; run 'dotnet build -c Release src/OnnxMorph.Cli', or name a command with --command")
    morphs = options.morphs.split(",")
    for morph in morphs:
        if morph not in MORPHS:
            parser.error(f"there is no morph '{morph}'; choose from {', '.join(MORPHS)}")
    files = [file for path in options.models for file in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    if not files:
        parser.error("there is no .onnx file in " + ", ".join(map(str, options.models)))

    rows, sound = [], True
    print(line(HEADER), line(["---"] * 3 + ["---:"] * 5), sep="\n", flush=True)
    for file in files:
        for morph in morphs:
            row, good = run(command, file, morph, options)
            sound = sound and good
            rows.append(row)
            print(line(row), flush=True)

    done = sum(row[2] in ("bit-exact", "rounding") for row in rows)
    refused = sum(row[2].startswith(f"{REFUSED}:") for row in rows)
    summary = f"{len(files)} models, {len(rows)} morphs: {done} verified, {refused} refused, {len(rows) - done - refused} failed."
    print("", summary, sep="\n")
    if options.output:
        table = [line(HEADER), line(["---"] * 3 + ["---:"] * 5), *map(line, rows)]
        options.output.write_text("\n".join(table) + f"\n\n{summary}\n", encoding="utf-8")
    sys.exit(0 if sound else 1)


def run(command, file, morph, options):
    """The table's row for one morph, and whether the command did what it promises: a verified child or a refusal."""
    with tempfile.TemporaryDirectory(prefix="onnxmorph-sweep-") as folder:
        child = pathlib.Path(folder) / "child.onnx"
        arguments = ["morph", str(file), "-o", str(child), *MORPHS[morph], "--json", "--quiet"]
        if options.inputs:
            arguments += ["--inputs", str(options.inputs)]
        start = time.monotonic()
        try:
            ended = subprocess.run(command + arguments, capture_output=True, encoding="utf-8", timeout=options.timeout)
        except subprocess.TimeoutExpired:
            return [file.stem, morph, f"no end within {options.timeout:g} s", "", "", "", "", ""], False
        seconds = f"{time.monotonic() - start:.1f}"
        if ended.returncode != 0:
            left = [entry.name for entry in pathlib.Path(folder).iterdir()]
            sentence = f"{ended.returncode}: {first_sentence(ended.stderr)}" + (f" LEFT BEHIND: {', '.join(left)}" if left else "")
            return [file.stem, morph, sentence, "", "", "", "", seconds], ended.returncode == REFUSED and not left
        report = json.loads(ended.stdout)
        written = child.exists()
    verification, steps = report["verification"], report["steps"]
    ratio = max(float(output["noiseRatio"]) for output in verification["outputs"])
    return [
        file.stem, morph, verification["exactness"] if written else "nothing written",
        f"{report['parametersBefore']:,} → {report['parametersAfter']:,}",
        str(sum(len(step["changes"]) for step in steps)), str(sum(len(step["refused"]) for step in steps)),
        f"{ratio:.1f}", seconds,
    ], written


def first_sentence(text):
    """Up to the first full stop that ends a sentence, not one within a name or a number."""
    text = " ".join(text.split())
    end = re.search(r"\.(?= [A-Z]|$)", text)
    return text[: end.end()] if end else text[:300]


def line(cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
