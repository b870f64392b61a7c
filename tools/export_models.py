#!/usr/bin/python3
"""Writes the ONNX models that docs/coverage.md is about, all with seeded random weights, in a folder for each group:

  classification, segmentation, detection, video   torchvision's builders (torchvision_networks.py)
  families                                         more of torchvision's classifiers, for tools/transfer_pairs.py
  sequences                                        recurrent networks, encoders and decoders (sequence_networks.py)
  structures                                       small networks, some of unusual structure (small_networks.py, small_graphs.py)
  fused                                            fused operators of ONNX and of ONNX Runtime (fused_graphs.py)
  torchlib                                         operators as PyTorch's newer exporter translates them (torchlib_graphs.py)
  precision                                        quantised and 16- and 64-bit models (precision_graphs.py)

Beside every NAME.onnx stands NAME.samples.npz: inputs under their names and, for traced networks, torch's own outputs.
Classifiers called NAME.unfolded keep batch norms, layer norms and constants as torch has them; in the others the exporter
has folded them. models.json in each folder lists what was written and what failed; a network whose output hardly depends
on its input, or depends on it so much that rounding would hide a wrong weight, counts as failed. The same seed and library
versions give the same files.

Needs torch, torchvision and onnx. Example: tools/export_models.py /tmp/zoo --groups classification --models 'resnet*'
"""

import argparse
import fnmatch
import json
import multiprocessing
import pathlib
import sys
import time

import onnx
import torch
import torchvision

import fused_graphs
import modelkit
import precision_graphs
import sequence_networks
import small_graphs
import small_networks
import torchlib_graphs
import torchvision_networks


def by_name(*builders):
    """Functions under their own names."""
    return {builder.__name__: builder for builder in builders}


GROUPS = {
    "classification": torchvision_networks.CLASSIFICATION,
    "families": torchvision_networks.FAMILIES,
    "segmentation": torchvision_networks.SEGMENTATION,
    "detection": torchvision_networks.DETECTION,
    "video": torchvision_networks.VIDEO,
    "sequences": by_name(*sequence_networks.NETWORKS),
    "structures": by_name(*small_networks.NETWORKS, *small_graphs.GRAPHS, *torchvision_networks.SMALL),
    "fused": by_name(*fused_graphs.GRAPHS),
    "torchlib": by_name(*torchlib_graphs.GRAPHS),
    "precision": by_name(*precision_graphs.GRAPHS),
}


def write(build, path, seed):
    """Writes one model and describes it."""
    modelkit.make_deterministic(seed)
    start = time.perf_counter()
    made = build()
    (modelkit.write_graph if isinstance(made, modelkit.Written) else modelkit.write_traced)(made, path)
    return {"model": path.stem, **modelkit.describe(path), "seconds": round(time.perf_counter() - start, 1)}


def attempt(build, path, seed, answer):
    """Sends what `write` gives, or why it failed."""
    try:
        answer.send(write(build, path, seed))
    except Exception as error:  # one network's failure must not stop the others
        for suffix in (".onnx", ".onnx.data", ".samples.npz"):
            path.with_suffix(suffix).unlink(missing_ok=True)
        answer.send({"model": path.stem, "reason": (str(error).strip() or type(error).__name__).splitlines()[0]})


def isolated(build, path, seed):
    """`attempt` in a process of its own: what a large network needed goes back to the system, and a crash stays there."""
    answer, given = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=attempt, args=(build, path, seed, given))
    process.start()
    given.close()
    try:
        result = answer.recv()
    except EOFError:
        result = None
    process.join()
    return result or {"model": path.stem, "reason": f"the exporter ended with {process.exitcode}"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_DIR", help="folder to write to; made where missing")
    parser.add_argument("--groups", default=",".join(group for group in GROUPS if group != "families"), metavar="A,B", help="groups to write (default: %(default)s)")
    parser.add_argument("--models", default="*", metavar="GLOB,GLOB", help="models of these groups (default: all)")
    parser.add_argument("--missing", action="store_true", help="leave out models whose files are there")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    return parser.parse_args()


def main():
    options = parse_arguments()
    groups = options.groups.split(",")
    if unknown := [group for group in groups if group not in GROUPS]:
        sys.exit(f"There is no group called {', '.join(unknown)}; choose from {', '.join(GROUPS)}.")
    failures = 0
    for group in groups:
        folder = options.out / group
        for name, build in GROUPS[group].items():
            path = folder / f"{name}.onnx"
            if not any(fnmatch.fnmatchcase(name, glob) for glob in options.models.split(",")) or options.missing and path.exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            entry = isolated(build, path, options.seed)
            failures += "reason" in entry
            record(folder / "models.json", entry, options.seed)
            if "reason" in entry:
                print(f"{group}/{name}: failed: {entry['reason']}", flush=True)
            else:
                print(f"{group}/{name}: {entry['parameters']:,} parameters, {sum(entry['operators'].values()):,} nodes, "
                      f"{entry['seconds']} s", flush=True)
    sys.exit(1 if failures else 0)


def record(manifest, entry, seed):
    """Puts an entry of its model's name into the group's list."""
    models = json.loads(manifest.read_text())["models"] if manifest.exists() else []
    models = [model for model in models if model["model"] != entry["model"]] + [entry]
    modelkit.write_json(manifest, {
        "torch": torch.__version__, "torchvision": torchvision.__version__, "onnx": onnx.__version__, "seed": seed,
        "models": sorted(models, key=lambda model: model["model"])})


if __name__ == "__main__":
    main()
