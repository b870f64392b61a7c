#!/usr/bin/env python3
"""Morphs every model in every way, has each child verified, and writes docs/coverage.md from what came out.

    tools/export_models.py zoo
    dotnet build -c Release src/OnnxMorph.Cli
    dotnet build -c Release tools/verify_children
    tools/coverage.py models zoo/* --rows zoo/coverage.jsonl --output docs/coverage.md

A row is one model and one family of morphs (morph_families.py): the command runs, verify_children compares the child as the
command itself would, both reports become a line of JSON in the rows file, and the child is deleted. Rows that are there are not made again: a row belongs to the model's bytes, the family's
arguments and the build, whose name is a hash of the command's assemblies. So a sweep can be interrupted and continued, spread
over nights, and repeated for a new build where --reuse says which rows of older builds will do. Cells of the page at --output count
as rows of an older build, so that a sweep goes on from the page alone; models of one name in one folder are taken to be the same.

Models run in order of size. A run that needs more memory than --memory or more time than --timeout is stopped and reported
as exactly that. Networks over --whole parameters are changed in a few layers instead of all: their children would not fit.
Exits with 1 if any cell of the table failed.

Needs Python 3 on Linux, and the .NET runtime.
"""

import argparse
import concurrent.futures
import dataclasses
import fnmatch
import hashlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

import coverage_table
from morph_families import ALL, FAMILIES, spread_layers

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = ROOT / "src/OnnxMorph.Cli/bin/Release/net10.0/OnnxMorph.Cli.dll"
VERIFIER = ROOT / "tools/verify_children/bin/Release/net10.0/verify_children.dll"
TRIAL = ROOT / "models/digits_resnet.onnx"
WRONG_USAGE, REFUSED = 2, 4

# Layers that are changed where all of them would be too many.
FEW = 8

# ONNX Runtime takes fresh memory for every weight of every session; with large pages that takes half the time.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", **os.environ}

# Runs that take long must not stand in each other's way: one of this many parameters counts as a job of its own.
PARAMETERS_A_JOB = 100e6


@dataclasses.dataclass
class Model:
    """A model file, and what its folder's models.json says of it (None: nothing)."""
    group: str
    path: pathlib.Path
    digest: str
    bytes: int
    parameters: int
    operators: frozenset

    @property
    def name(self):
        return self.path.name.removesuffix(".onnx")


def main():
    options = parse_arguments()
    command = [options.command] if options.command else ["dotnet", str(COMMAND)]
    models, missing = read_models(options)
    columns = [family for family in FAMILIES if is_known(command, family)]
    families = [family for family in columns if matches(family.name, options.families)]
    build = fingerprint(pathlib.Path(options.command).parent if options.command else COMMAND.parent)
    rows = Rows(options.rows, build, options.reuse)

    page = coverage_table.Page(options.output if options.reuse != "none" and options.output and options.output.exists() else None)

    def stands(model, family):
        """Whether an earlier page has a cell that will do."""
        cell = page.cell(model.group, model.name, family.name)
        return cell is not None and (options.reuse == "all" or cell.state == "verified")

    sweep = Sweep(command, build, rows, options)
    wanted = [(model, family) for model in sorted(models, key=lambda model: model.bytes) for family in families
              if family.applies(model.operators) and rows.find(model, family) is None and not stands(model, family)]
    print(f"build {build}: {len(models)} models, {len(wanted)} of {len(models) * len(families)} cells to run", flush=True)
    sweep.run(wanted)

    table, failures = coverage_table.write(page, models, missing, columns, rows)
    if options.output:
        options.output.write_text(table, encoding="utf-8")
    else:
        print(table)
    sys.exit(1 if failures else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders with .onnx files; each is a section of the table")
    parser.add_argument("--rows", type=pathlib.Path, required=True, help="the file of rows, continued where it exists")
    parser.add_argument("--output", type=pathlib.Path, help="where to write the table (standard output)")
    parser.add_argument("--models", default="*", metavar="GLOB,GLOB", help="only models of these names")
    parser.add_argument("--families", default="*", metavar="GLOB,GLOB",
                        help=f"run only these of: {', '.join(family.name for family in FAMILIES)}")
    parser.add_argument("--reuse", choices=("none", "verified", "all"), default="none",
                        help="which rows of older builds, and cells of the page, will do (%(default)s)")
    parser.add_argument("--retry", action="store_true", help="run failed cells of this build again")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (%(default)s)")
    parser.add_argument("--hours", type=float, default=float("inf"), help="start no run after this time; 0 only writes the table")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one run (%(default)g)")
    parser.add_argument("--memory", type=float, default=16, help="GB that one run may take (%(default)g)")
    parser.add_argument("--whole", type=float, default=150e6, metavar="COUNT",
                        help=f"change {FEW} layers of networks of more parameters (%(default)g)")
    parser.add_argument("--command", help=f"the command to run (dotnet {COMMAND.name})")
    options = parser.parse_args()
    if not options.command and not COMMAND.exists():
        parser.error(f"{COMMAND} is not built; run 'dotnet build -c Release src/OnnxMorph.Cli', or name a command with --command")
    if not VERIFIER.exists():
        parser.error(f"{VERIFIER} is not built; run 'dotnet build -c Release tools/verify_children'")
    return options


def is_known(command, family):
    """Whether the command has what a family asks for: it says so itself, with an exit code of its own."""
    with tempfile.TemporaryDirectory(prefix="onnxmorph-coverage-") as folder:
        folder = pathlib.Path(folder)
        arguments = family.write(folder / "recipe.yaml", ALL)
        ended = subprocess.run([*command, "morph", str(TRIAL), "-o", str(folder / "child.onnx"), *arguments, "--no-verify", "--quiet"],
                               capture_output=True, check=False)
    return ended.returncode != WRONG_USAGE


def matches(name, globs):
    """Whether a name fits one of the globs."""
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs.split(","))


def read_models(options):
    """The models of the folders, and, for each group, models that could not be exported, with the reason."""
    models, missing = [], {}
    for folder in options.folders:
        if not folder.is_dir():
            continue
        manifest = folder / "models.json"
        entries = {entry["model"]: entry for entry in json.loads(manifest.read_text())["models"]} if manifest.exists() else {}
        missing[folder.name] = {name: entry["reason"] for name, entry in entries.items() if "reason" in entry}
        for path in sorted(folder.glob("*.onnx")):
            name = path.name.removesuffix(".onnx")
            if not matches(name, options.models):
                continue
            entry = entries.get(name, {})
            size = sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))
            # A model that was written again since has another size, or its folder's list tells.
            digest = entry["sha256"] if "sha256" in entry and entry["bytes"] == size else hash_files(sorted(path.parent.glob(path.name + "*")))
            models.append(Model(folder.name, path, digest, size, entry.get("parameters"),
                                frozenset(entry["operators"]) if "operators" in entry else None))
    return models, missing


def hash_files(files):
    """Hex SHA-256 of the files' contents, one behind the other."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def fingerprint(folder):
    """The name of a build: what its own assemblies hash to."""
    return hash_files(sorted(folder.glob("OnnxMorph*.dll")))[:12]


class Rows:
    """The rows file: one JSON object a line, appended to as runs end. Of rows for the same cell the last counts."""

    def __init__(self, path, build, reuse):
        self.path, self.build, self.reuse = path, build, reuse
        self._lock = threading.Lock()
        self._rows = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._put(json.loads(line))

    def find(self, model, family):
        """The row that stands for a cell, or None."""
        rows = self._rows.get((model.digest, family.name, family.text), {})
        if self.build in rows:
            return rows[self.build]
        usable = [row for row in rows.values() if self.reuse == "all" or self.reuse == "verified" and row["state"] == "verified"]
        return usable[-1] if usable else None

    def add(self, row):
        """Keeps a row and appends it to the file."""
        with self._lock:
            self._put(row)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _put(self, row):
        cell = self._rows.setdefault((row["digest"], row["family"], row["asked"]), {})
        cell.pop(row["build"], None)
        cell[row["build"]] = row


class Sweep:
    """Runs cells, several at once, and keeps their rows."""

    def __init__(self, command, build, rows, options):
        self._command, self._build, self._rows, self._options = command, build, rows, options
        self._free = options.jobs
        self._turn = threading.Condition()
        self._stopped = threading.Event()
        self._end = time.monotonic() + 3600 * options.hours
        self._few = {}

    def run(self, cells):
        """Runs the cells in order; ends with those under way when interrupted."""
        signal.signal(signal.SIGTERM, lambda *_: self._stopped.set())
        models = {}
        for model, family in cells:
            models.setdefault(model.path, (model, []))[1].append(family)
        with concurrent.futures.ThreadPoolExecutor(self._options.jobs) as pool:
            futures = [pool.submit(self._attempt, model, families) for model, families in models.values()]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            except KeyboardInterrupt:
                self._stopped.set()

    def _attempt(self, model, families):
        """Runs the cells of a model, one after the other, so that its part of every verification is run once."""
        weight = min(self._options.jobs, 1 + int((model.parameters or 0) / PARAMETERS_A_JOB))
        with self._turn:
            self._turn.wait_for(lambda: self._free >= weight)
            self._free -= weight
        try:
            with Children(model.path, self._watch) as children:
                for family in families:
                    if self._stopped.is_set() or time.monotonic() >= self._end:
                        return
                    row = self._row(model, family, children)
                    if row is not None:
                        self._rows.add(row)
                        print(f"{model.group}/{model.name} {family.name}: {row['state']} "
                              f"{row.get('ratio', row.get('message', ''))} ({row['seconds']} s, {row['peak_mb']} MB)", flush=True)
        finally:
            with self._turn:
                self._free += weight
                self._turn.notify_all()

    def _row(self, model, family, children):
        """Runs one cell; None where it was interrupted."""
        with tempfile.TemporaryDirectory(prefix="onnxmorph-coverage-") as folder:
            child = pathlib.Path(folder) / "child.onnx"
            whole = (model.parameters or 0) <= self._options.whole
            arguments = family.write(pathlib.Path(folder) / "recipe.yaml", ALL if whole and not family.picks else self._few_layers(model))
            ended = self._execute(["morph", str(model.path), "-o", str(child), *arguments, "--json", "--quiet", "--no-verify"], folder)
            left = [entry.name for entry in pathlib.Path(folder).iterdir() if entry.name not in ("stdout", "stderr", "recipe.yaml")]
            verified = None
            if ended.code == 0 and child.exists():
                verified = children.verify(child)
                ended = dataclasses.replace(ended, stopped=ended.stopped or verified.stopped, seconds=round(ended.seconds + verified.seconds, 1))
            if self._stopped.is_set():
                return None
            row = {"group": model.group, "model": model.name, "digest": model.digest, "family": family.name,
                   "asked": family.text, "build": self._build, "whole": whole,
                   "date": time.strftime("%Y-%m-%d"), "seconds": ended.seconds, "peak_mb": ended.peak >> 20}
            return {**row, **outcome(ended, verified, left)}

    def _few_layers(self, model):
        """Names of a few layers for each kind of step; all where the command does not list them."""
        if model.path not in self._few:
            with tempfile.TemporaryDirectory(prefix="onnxmorph-coverage-") as folder:
                ended = self._execute(["inspect", str(model.path), "--json", "--quiet"], folder)
            if self._stopped.is_set():
                return ALL
            self._few[model.path] = spread_layers(json.loads(ended.output)["layers"], FEW) if ended.code == 0 else ALL
        return self._few[model.path]

    def _execute(self, arguments, folder):
        """Runs the command within the limits."""
        folder = pathlib.Path(folder)
        with open(folder / "stdout", "wb") as output, open(folder / "stderr", "wb") as errors:
            process = subprocess.Popen(self._command + arguments, stdout=output, stderr=errors, env=ENVIRONMENT, start_new_session=True)
            ended = self._watch(process, lambda: process.poll() is not None)
        return dataclasses.replace(ended, code=process.returncode, output=(folder / "stdout").read_text(encoding="utf-8"),
                                   errors=(folder / "stderr").read_text(encoding="utf-8"))

    def _watch(self, process, done):
        """Waits until something is done; kills the process where it goes beyond the limits, or the sweep was stopped."""
        start, peak, stopped = time.monotonic(), 0, None
        while not done():
            time.sleep(0.1)
            peak = max(peak, resident(process.pid))
            if self._stopped.is_set():
                stopped = "interrupted"
            elif time.monotonic() - start > self._options.timeout:
                stopped = f"no end within {self._options.timeout:g} s"
            elif peak > self._options.memory * 1e9:
                stopped = f"needs more than {self._options.memory:g} GB of memory"
            if stopped:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                break
        return Ended(None, "", "", stopped, round(time.monotonic() - start, 1), peak)


class Children:
    """Verifies children of a model by one process of VERIFIER, which runs the model once."""

    def __init__(self, parent, watch):
        self._parent, self._watch, self._process = parent, watch, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process:
            self._process.kill()
            self._process.wait()

    def verify(self, child):
        """Verifies a child; the answer is the output."""
        if self._process is None:
            self._errors = tempfile.TemporaryFile()
            self._process = subprocess.Popen(["dotnet", str(VERIFIER), str(self._parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=self._errors, env=ENVIRONMENT, start_new_session=True)
        self._process.stdin.write(f"{child}\n".encode())
        self._process.stdin.flush()
        answer = bytearray()

        def answered():
            while not answer.endswith(b"\n") and select.select([self._process.stdout], [], [], 0)[0]:
                block = os.read(self._process.stdout.fileno(), 1 << 16)
                if not block:
                    return True
                answer.extend(block)
            return answer.endswith(b"\n")

        ended = self._watch(self._process, answered)
        if not answer.endswith(b"\n"):
            # It was stopped, or broke down; the next child gets a new one.
            code = self._process.wait()
            self._errors.seek(0)
            message = self._errors.read().decode(errors="replace").strip() or f"verification ended with exit code {code}"
            self._process, answer = None, json.dumps({"error": message}).encode()
        return dataclasses.replace(ended, output=answer.decode())


@dataclasses.dataclass
class Ended:
    """How a run ended; `stopped` says why where it was stopped."""
    code: int
    output: str
    errors: str
    stopped: str
    seconds: float
    peak: int


def resident(pid):
    """Bytes of memory that a process holds by itself, without pages of files that it maps."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) << 10 if found else 0


def outcome(ended, verified, left):
    """What the ends of a run and of its verification say about a cell: the state, and the numbers or the message behind it."""
    if ended.stopped:
        return {"state": "stopped", "message": ended.stopped}
    if ended.code != 0 and left:
        return {"state": "failed", "message": f"left {', '.join(left)} behind: {first_sentence(ended.errors)}"}
    if ended.code == REFUSED:
        return {"state": "refused", "message": first_sentence(ended.errors)}
    if ended.code != 0:
        return {"state": "failed", "message": f"exit code {ended.code}: {first_sentence(ended.errors)}"}
    if verified is None:
        return {"state": "failed", "message": "nothing was written"}
    report, verification = json.loads(ended.output), json.loads(verified.output)
    if "error" in verification:
        return {"state": "failed", "message": first_sentence(verification["error"])}
    steps = report["steps"]
    if not verification["outputs"]:
        return {"state": "failed", "message": verification["reason"]}
    numbers = {
        "exactness": verification["exactness"],
        "ratio": round(max(float(output["noiseRatio"]) for output in verification["outputs"]), 2),
        "noise": max(float(output["noiseFloor"]) for output in verification["outputs"]),
        "draws": len(verification["inputs"]), "doubts": verification["notes"],
        "parameters": [report["parametersBefore"], report["parametersAfter"]],
        "changed": sum(len(step["changes"]) for step in steps),
        "left": reasons(pin["reason"] for step in steps for pin in step["refused"]),
        "rounded": sum("rounded to" in note for step in steps for note in step["notes"]),
    }
    if verification["passed"]:
        return {"state": "verified", **numbers}
    return {"state": "failed", "message": verification["reason"], **numbers}


def reasons(texts):
    """How often each reason occurs, names of nodes and values left out of them."""
    counts = {}
    for text in texts:
        text = re.sub(r"'[^']*'", "'…'", text)
        counts[text] = counts.get(text, 0) + 1
    return counts


def first_sentence(text):
    """Up to the first full stop that ends a sentence, not one within a name or a number."""
    text = " ".join(text.split())
    end = re.search(r"\.(?= [A-Z]|$)", text)
    return text[: end.end()] if end else text[:300]


if __name__ == "__main__":
    main()
