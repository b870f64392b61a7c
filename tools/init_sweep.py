#!/usr/bin/env python3
"""Holds `onnxmorph init --growth variance` to computing what `--growth none` computes, over a folder of models.

    python3 tools/init_sweep.py FOLDER... [--output table.md] [--minutes N]

Each model is initialised both ways and `onnxmorph verify` compares the two, on NAME.samples.npz where it stands beside NAME.onnx. The table has the
layers that growth scales and those that it leaves alone, and the largest difference in multiples of the noise floor. The
environment variable ONNXMORPH says how to start the command. Goes on where an earlier run with the same output ended.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(*args):
    command = os.environ.get("ONNXMORPH", "onnxmorph").split()
    done = subprocess.run([*command, *map(str, args), "--json"], capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr.strip()}


def row(model, folder):
    none, variance = folder / "none.onnx", folder / "variance.onnx"
    for file, growth in ((none, "none"), (variance, "variance")):
        code, report = run("init", model, "-o", file, "--growth", growth, "--force")
        if code:
            return [model.stem, "", "", "", f"exit code {code}: {report['error']}"]
    weights = [t for t in report["tensors"] if t["weight"]]
    scaled = sum(abs(t["weight"]["scale"] - 1) > 1e-9 for t in weights)
    kept = sum(t["start"] == "kept" for t in report["tensors"])
    samples = model.with_suffix(".samples.npz")
    code, result = run("verify", none, variance, *(["--inputs", samples] if samples.exists() else []))
    if "outputs" not in result:
        return [model.stem, scaled, len(weights) - scaled, kept, f"exit code {code}: {result['error']}"]
    ratio = max(o["noiseRatio"] for o in result["outputs"])
    difference = result["exactness"] if result["exactness"] == "bit-exact" else f"{ratio:.1f}"
    return [model.stem, scaled, len(weights) - scaled, kept, difference if code == 0 else f"**{difference}**: {result.get('reason')}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("init_sweep.md"))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    args = parser.parse_args()
    begin = time.monotonic()
    models = sorted({m.resolve() for f in args.folders for m in ([f] if f.is_file() else f.rglob("*.onnx"))}, key=lambda m: m.stat().st_size)
    if not args.output.exists():
        args.output.write_text("| model | layers scaled | left alone | tensors kept | largest difference, noise floors |\n|---|---|---|---|---|\n")
    done = {line.split("|")[1].strip() for line in args.output.read_text().splitlines()[2:]}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            if model.stem in done:
                continue
            if time.monotonic() - begin > 60 * args.minutes:
                sys.exit(f"The {args.minutes:g} minutes are spent; the same command goes on from here.")
            line = "| " + " | ".join(map(str, row(model, Path(folder)))) + " |"
            print(line, flush=True)
            with args.output.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
