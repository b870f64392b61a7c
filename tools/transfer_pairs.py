#!/usr/bin/python3
"""Carries weights between all ordered pairs of each family of classifiers and writes docs/transfer_pairs.md from what came out.

    tools/export_models.py zoo --groups classification,families
    dotnet build -c Release src/OnnxMorph.Cli && dotnet build -c Release tools/run_model
    tools/transfer_pairs.py zoo/classification zoo/families --rows docs/transfer_pairs.jsonl --output docs/transfer_pairs.md

Each pair is transferred with `--method isomorphic --calibrate` on noise images. It holds where the command says that the two are
isomorphic, no tensor of the target keeps its own numbers, ONNX Runtime runs the result, and at the end of every stage the
activations' standard deviation is within a factor of 3 of the source's, and their mean within a factor of 3 or nearer to it than a
third of the deviation. Pairs under CONTRASTS must be refused with the first difference. Two pairs of each family come first, up and down,
then the others, small networks before large ones. Rows that are there are not made again, but for those of failures with --retry; the table
names the pairs that have no row yet. The rows in docs/ are those of its table, so that a sweep goes on from there.

Needs numpy, and the .NET runtime.
"""

import argparse
import collections
import concurrent.futures
import fnmatch
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy

from network_families import FAMILIES
from programs import COMMAND, Failure, program, runtime_outputs

CONTRASTS = [("resnet18", "resnet50"), ("resnet50", "resnet18"), ("regnet_x_400mf", "regnet_y_400mf"), ("densenet121", "resnet50"),
             ("vgg11", "mobilenet_v2"), ("mobilenet_v3_small", "mobilenet_v3_large")]
FACTOR, NEAR, REFUSED = 3, 1 / 3, 4


def main():
    options = parse_arguments()
    command = [options.command or str(program(COMMAND))]
    files = {path.name.removesuffix(".onnx"): path for folder in options.folders for path in sorted(folder.glob("*.onnx"))}
    rows = {pair_of(row): row for row in map(json.loads, options.rows.read_text().splitlines())} if options.rows.exists() else {}
    every = list(pairs(files, options))
    wanted = [pair for pair in every if pair not in rows or options.retry and is_failure(rows[pair])]
    print(f"{len(wanted)} pairs to run", flush=True)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool, options.rows.open("a") as out:
        def run(pair):
            return None if time.monotonic() - start > 3600 * options.hours else transfer(command, files, pair, options)
        for row in pool.map(run, wanted):
            if row:
                rows[pair_of(row)] = row
                out.write(json.dumps(row) + "\n")
                out.flush()
                print(f"{row['source']} -> {row['target']}: {row['verdict']}", flush=True)
    text, failures = table([rows[pair] for pair in every if pair in rows], files, options)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    sys.exit(1 if failures else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders with .onnx files")
    parser.add_argument("--rows", type=pathlib.Path, required=True, help="the file of rows, continued where it exists")
    parser.add_argument("--output", type=pathlib.Path, help="where to write the table")
    parser.add_argument("--families", default="*", metavar="GLOB,GLOB", help="only these families, by their first member")
    parser.add_argument("--largest", type=float, default=400, metavar="MB", help="leave out larger files (%(default)g)")
    parser.add_argument("--samples", type=int, default=16, help="images to calibrate on (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (%(default)s)")
    parser.add_argument("--hours", type=float, default=float("inf"), help="start no run after this time; 0 only writes the table")
    parser.add_argument("--retry", action="store_true", help="make the rows of failures again")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run (%(default)g)")
    parser.add_argument("--command", help="the command to run (this repository's)")
    return parser.parse_args()


def asked(family, options):
    """Whether a family is to be looked at."""
    return any(fnmatch.fnmatchcase(family, glob) for glob in options.families.split(","))


def pairs(files, options):
    """The pairs of each family in both forms, and those that must be refused; what shows most for its time comes first."""
    def size(pair):
        return sum(files[name].stat().st_size for name in pair)

    first, others = [], []
    for form in ("", ".unfolded"):
        for family, members in FAMILIES.items():
            there = [name + form for name in members if name + form in files and files[name + form].stat().st_size <= options.largest * 1e6]
            of_family = sorted(itertools.permutations(there, 2), key=size) if asked(family, options) else []
            first += of_family[:2]
            others += of_family[2:]
        first += [(source + form, target + form) for source, target in CONTRASTS if asked(source, options) and {source + form, target + form} <= files.keys()]
    return sorted(first, key=size) + sorted(others, key=size)


def transfer(command, files, pair, options):
    """One row: what the command said and whether it holds."""
    source, target = pair
    with tempfile.TemporaryDirectory(prefix="onnxmorph-transfer-") as folder:
        samples = pathlib.Path(folder) / "samples.npz"
        with numpy.load(files[target].with_suffix("").with_suffix("").parent / f"{target}.samples.npz") as given:
            name = given.files[0]
            shape = given[name].shape[1:]
        random = numpy.random.default_rng(0)
        images = random.standard_normal((options.samples, *shape)) + 0.7 * random.standard_normal((options.samples, shape[0], 1, 1))
        numpy.savez(samples, **{name: images.astype(numpy.float32)})
        start = time.monotonic()
        result = pathlib.Path(folder) / "result.onnx"
        try:
            ended = subprocess.run(
                [*command, "transfer", str(files[source]), str(files[target]), "-o", str(result), "--calibrate", str(samples), "--no-verify", "--json"],
                capture_output=True, text=True, check=False, timeout=options.timeout)
        except subprocess.TimeoutExpired:
            return {"source": source, "target": target, "verdict": "failed: out of time"}
        seconds = time.monotonic() - start
        try:
            runs = ended.returncode != 0 or bool(numpy.isfinite(runtime_outputs(result, samples, pathlib.Path(folder))).all())
        except Failure as failure:
            runs = False
            print(failure, file=sys.stderr)
    row = {"source": source, "target": target, "seconds": round(seconds, 1), "exit": ended.returncode}
    try:
        report = json.loads(ended.stdout)
    except ValueError:
        return {**row, "verdict": f"failed: {ended.stderr.strip()[:300]}"}
    if ended.returncode == REFUSED and is_contrast(source, target):
        return {**row, "verdict": f"refused: {report['error']}"}
    if ended.returncode:
        return {**row, "verdict": f"failed: {report.get('error', '')[:300]}"}
    origins = collections.Counter(tensor["origin"] for tensor in report["tensors"])
    stages = report["stages"]
    row |= {"origins": origins, "parameters": report["parametersAfter"],
            "deviation": [stage["targetDeviation"] / stage["sourceDeviation"] for stage in stages],
            "mean": [(stage["targetMean"] - stage["sourceMean"]) / stage["sourceDeviation"] for stage in stages]}
    why = [] if not is_contrast(source, target) else ["not refused"]
    if not runs:
        why.append("ONNX Runtime does not run the result to finite numbers")
    if origins["fresh"]:
        why.append(f"{origins['fresh']} tensors keep their own numbers")
    why += [f"{stage['path']}: deviation {stage['targetDeviation']:.3g} of {stage['sourceDeviation']:.3g}" for stage in stages
            if not 1 / FACTOR <= stage["targetDeviation"] / stage["sourceDeviation"] <= FACTOR]
    why += [f"{stage['path']}: mean {stage['targetMean']:.3g} of {stage['sourceMean']:.3g}" for stage in stages
            if abs(stage["targetMean"] - stage["sourceMean"]) > NEAR * stage["sourceDeviation"]
            and not 1 / FACTOR <= stage["targetMean"] / stage["sourceMean"] <= FACTOR]
    return {**row, "verdict": f"failed: {'; '.join(why)}" if why else "holds"}


def pair_of(row):
    """The pair that a row is about."""
    return row["source"], row["target"]


def is_failure(row):
    """Whether a row says that something does not hold."""
    return not row["verdict"].startswith(("holds", "refused"))


def is_contrast(source, target):
    """Whether a pair is there to be refused."""
    return (source.removesuffix(".unfolded"), target.removesuffix(".unfolded")) in CONTRASTS


def families(rows, files, options):
    """A line for each family: pairs of its members in both forms, how many hold, failed or were not run, and which members had no file."""
    lines = ["| family | pairs | hold | failed | not run | members without a file |", "|---|---:|---:|---:|---:|---|"]
    for family, members in FAMILIES.items():
        if asked(family, options):
            of = [row for row in rows if row["source"].removesuffix(".unfolded") in members and not is_contrast(*pair_of(row))]
            every, failed = 2 * len(members) * (len(members) - 1), sum(map(is_failure, of))
            absent = [name + form for name in members for form in ("", ".unfolded") if name + form not in files]
            lines.append(f"| {family} | {every} | {len(of) - failed} | {failed} | {every - len(of)} | {', '.join(absent)} |")
    return lines


def table(rows, files, options):
    """The document, and how many pairs failed."""
    failures = sum(map(is_failure, rows))
    lines = ["# Transfer between networks of one family", "",
             "What `onnxmorph transfer --method isomorphic --calibrate` makes of torchvision's classifiers, as `tools/transfer_pairs.py` found. "
             "A pair holds where every tensor of the target comes from the source, ONNX Runtime runs the result, and at the end of every stage "
             "the deviation of the activations is within a factor of 3 of the source's, and their mean too, or nearer to it than a third of the "
             "deviation; all measured on the noise images that the statistics are set on. The last columns are the smallest and largest ratio of "
             "deviations and the largest distance of means in units of it. `.unfolded` models keep their batch norms.", "",
             f"{sum(row['verdict'] == 'holds' for row in rows)} pairs hold, {failures} failed, "
             f"{sum(row['verdict'].startswith('refused') for row in rows)} refused as they must be. Models above "
             f"{options.largest:g} MB (all VGG) are left out.", "", *families(rows, files, options), "",
             "| source | target | result | exact | mapped | fresh | deviations | means |", "|---|---|---|---:|---:|---:|---|---:|"]
    for row in sorted(rows, key=lambda row: (".unfolded" in row["source"], row["source"], row["target"])):
        origins = row.get("origins", {})
        spread = f"{min(row['deviation']):.2f}–{max(row['deviation']):.2f}" if row.get("deviation") else ""
        means = f"{max(map(abs, row['mean'])):.2f}" if row.get("mean") else ""
        lines.append(f"| {row['source']} | {row['target']} | {row['verdict']} | {origins.get('exact', 0)} | {origins.get('mapped', 0)} "
                     f"| {origins.get('fresh', 0)} | {spread} | {means} |")
    return "\n".join(lines) + "\n", failures


if __name__ == "__main__":
    main()
