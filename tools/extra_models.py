#!/usr/bin/python3
"""Writes small random-weight ONNX models of unusual structure, for regression trials.

Networks traced with torch are described in extra_networks.py, graphs written node by node in extra_graphs.py. Beside
every NAME.onnx stands NAME.samples.npz: inputs under their names and, for traced networks, torch's own outputs.
extra.json lists what was written and what failed. The same seed and library versions give the same files.

Example: tools/extra_models.py /tmp/extra --models unet,keras_nhwc
"""

import argparse
import pathlib
import sys

import onnx
import torch

import extra_graphs
import extra_networks
import modelkit

BUILDERS = {builder.__name__: builder for builder in (*extra_networks.NETWORKS, *extra_graphs.GRAPHS)}


def write_traced(name, traced, opset, folder):
    """Randomises, calibrates, samples and exports a torch network."""
    inputs = tuple(traced.inputs.values())
    modelkit.randomise(traced.network)
    modelkit.calibrate(traced.network, [inputs])
    with torch.no_grad():
        answer = traced.network(*inputs)
    outputs = answer if isinstance(answer, tuple) else (answer,)
    if not all(torch.isfinite(output).all() for output in outputs):
        raise ValueError("the random network's outputs are not finite")
    arrays = {**traced.inputs, **dict(zip(traced.outputs, outputs))}
    modelkit.save_arrays(folder / f"{name}.samples.npz", {key: value.numpy() for key, value in arrays.items()})
    axes = {**{key: traced.axes for key in traced.inputs},
            **{key: traced.output_axes or traced.axes for key in traced.outputs}}
    return modelkit.export(
        traced.network, (value[:2] for value in inputs), folder / f"{name}.onnx", opset=opset,
        keep_batch_norms=traced.keep_batch_norms, input_names=tuple(traced.inputs), output_names=traced.outputs,
        dynamic_axes=axes)


def write_graph(name, written, folder):
    """Saves a model built with onnx.helper, and its sample inputs."""
    path = folder / f"{name}.onnx"
    onnx.save(written.model, str(path))
    onnx.checker.check_model(str(path), full_check=True)
    modelkit.save_arrays(folder / f"{name}.samples.npz", written.inputs)
    return modelkit.describe(path)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_DIR", help="folder to write to; made where missing")
    parser.add_argument("--models", metavar="A,B,C", help=f"models to write (default all: {', '.join(BUILDERS)})")
    parser.add_argument("--opset", type=int, default=modelkit.DEFAULT_OPSET,
                        help="ONNX opset of the traced networks, at most 17 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    names = arguments.models.split(",") if arguments.models else list(BUILDERS)
    unknown = [name for name in names if name not in BUILDERS]
    if unknown:
        sys.exit(f"There is no model called {', '.join(unknown)}; --help lists them.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    written, failed = [], []
    print(f"{'file':28}{'nodes':>7}{'parameters':>12}{'seconds':>9}")
    for name in names:
        try:
            modelkit.make_deterministic(arguments.seed)
            with modelkit.Timer() as timer:
                made = BUILDERS[name]()
                if isinstance(made, extra_graphs.Written):
                    entry = write_graph(name, made, arguments.out)
                else:
                    entry = write_traced(name, made, arguments.opset, arguments.out)
            about = BUILDERS[name].__doc__.splitlines()[0]
            written.append({"model": name, "about": about, **entry, "samples": f"{name}.samples.npz"})
            print(f"{entry['file']:28}{entry['nodes']:7}{entry['parameters']:12}{timer.seconds:9.1f}", flush=True)
        except Exception as error:  # one model's failure must not stop the others
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            failed.append({"model": name, "reason": reason})
            print(f"{name:28} failed: {reason}", flush=True)
    modelkit.write_json(arguments.out / "extra.json", {
        "torch": torch.__version__, "onnx": onnx.__version__, "seed": arguments.seed,
        "models": written, "failed": failed})
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
