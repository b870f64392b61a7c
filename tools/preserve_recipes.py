#!/usr/bin/python3
"""Makes children of models by random recipes, draws all their numbers anew, and has the parents found in them.

    dotnet build -c Release src/OnnxMorph.Cli
    tools/preserve_recipes.py models --rows preserve.jsonl --output docs/preserve.md

For each model and seed a recipe of two to five steps is drawn from docs/recipe.schema.json: any kind of step with any of its options,
on all layers, on blocks or on single ones. `morph` makes the child; its trained numbers are replaced by random ones, so that nothing
of the parent is left but the architecture; `transfer --method preserve` fills it, and its verdict is the row. A seed that draws
options which do not go together, or steps that fit nothing, draws again. Rows that are there are not made again.

`--pair SOURCE TARGET` adds a row for two files that somebody else designed, whose target keeps its own numbers until it is filled; it may
contain the source in part.

Exits with 1 if a child does not compute what its parent computes. Needs numpy and onnx, and the .NET runtime.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnx.numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = ROOT / "src/OnnxMorph.Cli/bin/Release/net10.0/OnnxMorph.Cli.dll"
SCHEMA = json.loads((ROOT / "docs/recipe.schema.json").read_text())["$defs"]
CONVOLUTIONS = {"Conv", "ConvTranspose"}
USAGE, REFUSED = 2, 4

# What options without a list of values may be; others name files or nodes.
VALUES = {
    ("widen", "size"): ["x1.5", "x2", "+1", "+3", "+8"],
    ("deepen", "count"): [1, 1, 2], ("deepen", "channels"): ["x1.5", "x2", "+3"], ("deepen", "kernels"): ["3,1", "1,3", "3,3"],
    ("kernel", "size"): ["+2", "+1", "+2x+0", "5"],
    ("subnet", "branches"): [2, 3], ("subnet", "length"): [1, 2], ("subnet", "module"): ["(1,3x3)", "(1:x2,layer)", "((1,3x3)|layer)"],
    ("subnet", "reduction"): [2, 4],
}


def main():
    options = parse_arguments()
    command = [options.command] if options.command else ["dotnet", str(COMMAND)]
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()] if options.rows.exists() else []
    done = {(row.get("source"), row["target"]) if "target" in row else (row["model"], row["seed"]) for row in rows}
    with options.rows.open("a") as out:
        for path in sorted(path for source in options.models for path in (source.glob("*.onnx") if source.is_dir() else [source])):
            layers = json.loads(run([*command, "inspect", str(path), "--json"], options).stdout)
            for seed in range(options.first, options.first + options.recipes):
                if (path.stem, seed) in done:
                    continue
                row = {"model": path.stem, "seed": seed, **trial(command, path, layers, seed, options)}
                rows.append(row)
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(f"{path.stem} {seed}: {row['verdict']}", flush=True)
        for source, target in options.pair:
            if (source.stem, target.stem) not in done:
                row = pair(command, source, target, options)
                rows.append(row)
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(f"{source.stem} -> {target.stem}: {row['verdict']}", flush=True)
    text, failures = document(rows)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    sys.exit(1 if failures else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, help="models, or folders of them")
    parser.add_argument("--pair", nargs=2, action="append", default=[], type=pathlib.Path, metavar=("SOURCE", "TARGET"), help="two models of which the second may contain the first")
    parser.add_argument("--rows", type=pathlib.Path, required=True, help="the file of rows, continued where it exists")
    parser.add_argument("--output", type=pathlib.Path, help="where to write the table")
    parser.add_argument("--recipes", type=int, default=10, help="recipes a model (%(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (%(default)s)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for one run (%(default)g)")
    parser.add_argument("--command", help=f"the command to run (dotnet {COMMAND.name})")
    return parser.parse_args()


def run(arguments, options):
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=options.timeout)


def trial(command, path, inspected, seed, options):
    """One row: the recipe, and what became of the parent in its child."""
    draw = random.Random(f"{path.stem} {seed}")
    with tempfile.TemporaryDirectory(prefix="onnxmorph-preserve-") as folder:
        child, drawn, result, recipe = (f"{folder}/{name}" for name in ("child.onnx", "drawn.onnx", "result.onnx", "recipe.yaml"))
        while True:
            steps = [step(draw, inspected) for _ in range(draw.randint(2, 5))]
            pathlib.Path(recipe).write_text(json.dumps({"seed": seed, "steps": steps}))
            made = run([*command, "morph", str(path), "-o", child, "--force", "--recipe", recipe, "--no-verify", "--quiet"], options)
            if made.returncode not in (USAGE, REFUSED):
                break
        row = {"steps": steps}
        if made.returncode:
            return {**row, "verdict": f"failed: {made.stderr.strip()[:300]}"}
        redraw(child, drawn, seed)
        return {**row, **transfer(command, path, drawn, result, options)}


def pair(command, source, target, options):
    """One row: what became of a source in a target that was not made from it."""
    with tempfile.TemporaryDirectory(prefix="onnxmorph-preserve-") as folder:
        return {"source": source.stem, "target": target.stem, **transfer(command, source, target, f"{folder}/result.onnx", options)}


def transfer(command, source, target, result, options):
    """What the transfer says of itself."""
    start = time.monotonic()
    found = run([*command, "transfer", str(source), str(target), "-o", result, "--method", "preserve", "--json"], options)
    try:
        report = json.loads(found.stdout)
    except ValueError:
        return {"verdict": f"failed: {found.stderr.strip()[:300]}"}
    if "error" in report:
        return {"verdict": f"failed: {report['error'][:300]}"}
    exactness, passed = report["verification"]["exactness"], report["verification"]["passed"]
    carried = report.get("carried")
    return {"seconds": round(time.monotonic() - start, 1), "parameters": [report["parametersBefore"], report["parametersAfter"]], "tensors": len(report["tensors"]),
            "states": [part.get("state", "") for part in report["parts"]], "notes": report["notes"],
            **({"carried": carried["exactness"]} if carried else {}),
            "verdict": exactness if passed else f"{'failed' if found.returncode else 'in part'}: {exactness}"}


def step(draw, inspected):
    """A step with random options."""
    kind = draw.choice(["widen", "widen", "deepen", "deepen", "subnet", "subnet", "kernel", "activation"])
    names = [layer["name"] for layer in inspected["layers"] if kind != "kernel" or layer["operator"] in CONVOLUTIONS]
    made = {kind: draw.choice(["*", "blocks:*", draw.choice(names), draw.choice(names)] if names else ["*"])}
    required = {"widen": "size", "kernel": "size", "subnet": "kind"}.get(kind)
    for name, option in SCHEMA[kind]["properties"].items():
        values = option.get("enum") or VALUES.get((kind, name))
        if name != kind and values and (name == required or draw.random() < 0.3):
            made[name] = draw.choice(values)
    return made


def redraw(source, target, seed):
    """The same architecture with random numbers in the place of those that are trained."""
    model = onnx.load(source)
    numbers = numpy.random.default_rng(seed)
    slopes = {node.input[1] for node in model.graph.node if node.op_type == "PRelu"}
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    sizes = {name for node in model.graph.node if node.op_type in ("Resize", "Upsample") for name in node.input}
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype.kind != "f" or tensor.name in sizes or (values.size == 1 and tensor.name not in slopes):
            continue
        other = numbers.uniform(0.5, 1.5, values.shape) if tensor.name in variances else 0.1 * numbers.standard_normal(values.shape)
        tensor.CopyFrom(onnx.numpy_helper.from_array(other.astype(values.dtype), tensor.name))
    del model.metadata_props[:]
    onnx.save(model, target)


def document(rows):
    """The document, and how many children failed."""
    children, pairs = ([row for row in rows if ("target" in row) == made] for made in (False, True))
    failures = sum(row["verdict"].startswith(("failed", "in part")) for row in children) + sum(row["verdict"].startswith("failed") for row in pairs)
    exact = sum(not row["verdict"].startswith(("failed", "in part")) for row in children)
    lines = ["# Parents found in their children", "",
             "What `onnxmorph transfer --method preserve` makes of children of models by random recipes, with all trained numbers of the children "
             "drawn anew, as `tools/preserve_recipes.py` found. `bit-exact` and `rounding` are verdicts of the verification that follows every "
             "transfer: the child's outputs are the parent's, or as near as the parent's own noise.", "",
             f"{exact} of {len(children)} compute what their parents compute; the slowest took {max((row.get('seconds', 0) for row in children), default=0)} s, verification included.", "",
             "| model | seed | recipe | parameters | seconds | result |", "|---|---:|---|---:|---:|---|"]
    for row in sorted(children, key=lambda row: (row["model"], row["seed"])):
        steps = "; ".join(" ".join([f"{kind} `{selector}`", *(f"{name}={value}" for name, value in rest)])
                          for (kind, selector), *rest in (list(step.items()) for step in row["steps"])).replace("|", "\\|")
        before, after = row.get("parameters", ("", ""))
        lines.append(f"| {row['model']} | {row['seed']} | {steps} | {before} → {after} | {row.get('seconds', '')} | {row['verdict']} |")
    if pairs:
        lines += ["", "## Targets that were not made from their sources", "",
                  "`in part` is a target whose architecture does not contain the source: the values up to which it is exact were compared with the source's "
                  "(*exact part*), the rest is filled as the other methods fill it. The reason is the transfer's own.", "",
                  "| source | target | parameters | seconds | result | exact part | parts exact | without effect | approximate | fresh | reason |",
                  "|---|---|---:|---:|---|---|---:|---:|---:|---:|---|"]
        for row in pairs:
            before, after = row.get("parameters", ("", ""))
            counts = " | ".join(str(row.get("states", []).count(state)) for state in ("exact", "without-effect", "approximate", "fresh"))
            reason = next((note.split(" (backwards")[0] for note in row.get("notes", []) if note.startswith("The target contains") or note.startswith("The target does not")), "")
            lines.append(f"| {row['source']} | {row['target']} | {before} → {after} | {row.get('seconds', '')} | {row['verdict']} | {row.get('carried', '')} | {counts} | {reason} |")
    return "\n".join(lines) + "\n", failures


if __name__ == "__main__":
    main()
