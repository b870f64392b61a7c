#!/usr/bin/python3
"""Times whole commands beside copying their output and beside the same rewrite in Python, and prints docs/benchmarks.md.

    dotnet publish src/OnnxMorph.Cli -c Release -o artifacts/publish -r linux-x64 --self-contained
    dotnet publish src/OnnxMorph.Cli -c Release -o artifacts/native -r linux-x64 -p:PublishAot=true -p:IlcInstructionSet=native
    tools/benchmark_commands.py vgg19.onnx vit_l_16.onnx > docs/benchmarks.md

For each model, in turns and in new processes: `cp` of the command's output; `onnxmorph morph --widen '*=x1.25'` without verification; and what a
user would write by hand with onnx and numpy, without any analysis: for each weight that the command changed, rows are copied and columns shared out until
it has the shape that the command gave it, and the model is saved. `inspect` and `--version` are timed as well, and all of the command for both builds:
compiled natively, and beforehand for .NET's runtime. Times are medians of wall clock, with the
processor seconds of user and system beside them; memory is the largest resident size, as the kernel counts it for a process and what it waits for.

Each run has a warm page cache: the model and the output of the run before are in memory where they fit. Keep the machine quiet: the load is
printed before and after.

Needs onnx and numpy, and as much space beside the models as three outputs take.
"""

import argparse
import collections
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

ROOT = pathlib.Path(__file__).resolve().parent.parent
NATIVE = ROOT / "artifacts/native/onnxmorph"
MANAGED = ROOT / "artifacts/publish/onnxmorph"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--native", type=pathlib.Path, default=NATIVE, help="the command, compiled natively")
    parser.add_argument("--managed", type=pathlib.Path, default=MANAGED, help="the command, compiled beforehand for .NET's runtime")
    parser.add_argument("--size", default="x1.25", help="how much wider (x1.25)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (5)")
    parser.add_argument("--folder", type=pathlib.Path, help="where outputs are written; the models' folder by default")
    options = parser.parse_args()
    print(HEAD.format(
        processor=processor(), cores=os.cpu_count(), memory=memory(), system=platform.platform(), runs=options.runs,
        command=run([str(options.native), "--version"]).printed.strip(), dotnet=dotnet(), python=platform.python_version(),
        onnx=version("onnx"), numpy=version("numpy"), load=load()))
    for model in options.models:
        measure(model, options)
    print(f"\nLoad at the end: {load()}.")


HEAD = """# Benchmarks

What `tools/benchmark_commands.py` printed; its first lines say what is measured.

{processor}, {cores} cores, {memory}; {system}. onnxmorph {command} on .NET {dotnet}, Python {python} with onnx {onnx} and numpy {numpy}.
Medians of {runs} runs in turns. Load at the start: {load}."""


def measure(model, options):
    with tempfile.TemporaryDirectory(dir=options.folder or model.parent, prefix="benchmark-") as folder:
        folder = pathlib.Path(folder)
        (folder / "cp").mkdir()
        (folder / "command").mkdir()
        (folder / "python").mkdir()
        output, rewritten = folder / "command/out.onnx", folder / "python/out.onnx"
        options_of = ["morph", str(model), "-o", str(output), "--widen", f"*={options.size}", "--no-verify", "--quiet"]
        rewrite = [sys.executable, __file__, "--rewrite", str(model), str(output), str(rewritten)]
        run([options.native, *options_of])
        # No way replaces a file: giving its blocks back takes time that belongs to the run before.
        ways = {
            "`cp` of the output": lambda: run(["cp", *[str(part) for part in output.parent.iterdir()], str(emptied(folder / "cp"))]),
            "onnx + numpy": lambda: emptied(rewritten.parent) and run(rewrite),
        }
        for command, note in (options.native, "native"), (options.managed, ".NET"):
            ways[f"`morph --widen '*={options.size}' --no-verify`, {note}"] = lambda command=command: emptied(output.parent) and run([command, *options_of])
            ways[f"`inspect`, {note}"] = lambda command=command: run([command, "inspect", str(model)])
            ways[f"`--version`, {note}"] = lambda command=command: run([command, "--version"])
        results = {name: [] for name in ways}
        for _ in range(options.runs):
            for name, way in ways.items():
                results[name].append(way().times)
        size = sum(part.stat().st_size for part in output.parent.iterdir())
        source = sum(part.stat().st_size for part in [model, model.with_name(model.name + ".data")] if part.exists())
        table(model, source, size, results)


def table(model, source, size, results):
    def median(name, field):
        return statistics.median(getattr(r, field) for r in results[name])

    names = list(results)
    copied, python = names[:2]
    print(f"\n## {model.stem}: {source / 1e6:.0f} MB, widened {size / 1e6:.0f} MB\n")
    print("| | wall s | user s | system s | peak MB | times `cp` |\n|---|---:|---:|---:|---:|---:|")
    for name in names:
        print(f"| {name} | {median(name, 'wall'):.2f} | {median(name, 'user'):.2f} | {median(name, 'system'):.2f} "
              f"| {median(name, 'peak') / 1e3:.0f} | {median(name, 'wall') / median(copied, 'wall'):.2f} |")
    for note, morphed, _, idle in ("compiled natively", *names[2:5]), ("for .NET's runtime", *names[5:8]):
        each = [(p.wall / m.wall, m.wall / c.wall) for p, m, c in zip(results[python], results[morphed], results[copied])]
        print(f"\nTurn by turn, the command {note} takes {statistics.median(c for _, c in each):.2f} times as long as `cp` and Python "
              f"{statistics.median(p for p, _ in each):.1f} times as long as the command. Its peak is "
              f"{(median(morphed, 'peak') - median(idle, 'peak')) / 1e3:.0f} MB above that of `--version`.")


Times = collections.namedtuple("Times", "wall user system peak")
Run = collections.namedtuple("Run", "times printed")


def run(command):
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=printed, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in printed, errors:
            file.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: {errors.read()}")
        return Run(Times(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss), printed.read())


def emptied(folder):
    for old in folder.iterdir():
        old.unlink()
    return folder


def rewrite(source, like, output):
    """The rewrite by hand: the shapes are the command's, so that both write as much; what stands in them is of the kind that the command writes."""
    # Only here: a process that is started counts as its own what the one that starts it has in memory.
    import numpy
    import onnx
    import onnx.numpy_helper

    model = onnx.load(source)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in onnx.load(like, load_external_data=False).graph.initializer}
    for tensor in model.graph.initializer:
        shape = shapes.get(tensor.name, tuple(tensor.dims))
        if shape == tuple(tensor.dims):
            continue
        values = onnx.numpy_helper.to_array(tensor)
        for axis, size in enumerate(shape):
            old = values.shape[axis]
            if size == old:
                continue
            chosen = numpy.arange(size) % old
            values = numpy.take(values, chosen, axis=axis)
            if axis == 1:
                copies = numpy.bincount(chosen, minlength=old)[chosen].astype(values.dtype)
                values /= copies.reshape((1, -1) + (1,) * (values.ndim - 2))
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= 2**31
    onnx.save(model, output, save_as_external_data=large, location=pathlib.Path(output).name + ".data")


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def memory():
    kilobytes = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    return f"{kilobytes / 2**20:.0f} GiB"


def dotnet():
    runtimes = subprocess.run(["dotnet", "--list-runtimes"], capture_output=True, text=True, check=True).stdout
    return [line.split()[1] for line in runtimes.splitlines() if line.startswith("Microsoft.NETCore.App")][-1]


def load():
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rewrite"]:
        rewrite(*sys.argv[2:5])
    else:
        main()
