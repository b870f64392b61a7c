#!/usr/bin/env python3
"""Runs the same commands with two builds of onnxmorph and compares everything: exit codes, both streams, every byte of every file.

    dotnet publish src/OnnxMorph.Cli -c Release -o artifacts/publish -r linux-x64 --self-contained false
    dotnet publish src/OnnxMorph.Cli -c Release -o artifacts/native -r linux-x64 -p:PublishAot=true
    tools/compare_builds.py artifacts/publish/onnxmorph artifacts/native/onnxmorph

The commands are those below, over the models of this repository: every command, with the options that make it read or write something of another
kind, and ways to fail. Speeds and times are left out of the comparison. Ends with 1 where anything differs. Needs Python 3.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"

RECIPE = """steps:
  - {widen: '*', size: x1.5}
  - {deepen: '*', method: general}
  - {kernel: '*', size: '+2'}
"""

# Each runs in the folder that the ones before it left: {m} is a model, {s} its samples.
COMMANDS = [
    "--version", "--help", "morph --help", "transfer --help", "devices",
    "inspect {r}", "inspect {t} --json", "inspect {b} --report inspected.html",
    "morph {r} -o a.onnx --widen *=x1.5 --deepen * --inputs {s} --certificate a.json --report a.html --json",
    "morph {b} -o b.onnx --widen *=+8 --widen-method zero --subnet *=squeeze-excite --kernel *=+2 --seed 3",
    "morph {t} -o c.onnx --widen *=x2 --widen-method opposed --deepen * --deepen-method zero-residual",
    "morph {r} -o d.onnx --recipe recipe.yaml --json", "morph {r} -o e.onnx --activation * --subnet *=stacked --json",
    "verify {r} a.onnx --certificate a.json", "verify {r} a.onnx --inputs {s} --json", "verify {r} {b}",
    "similarity {r} {b} --json", "similarity {r} a.onnx --report similar.html",
    "transfer {r} a.onnx -o f.onnx --report f.html", "transfer {f} {r} -o g.onnx --json", "transfer {r} b.onnx -o h.onnx --preset fna",
    "transfer {r} a.onnx -o i.onnx --method preserve --json", "transfer {f} {r} -o j.onnx --calibrate {s}", "transfer {r} {t} -o absent.onnx",
    "init {r} -o k.onnx --json", "init {t} -o l.onnx --method orthogonal --report l.html",
    "export {t} -o m.safetensors", "import {t} m.safetensors -o n.onnx", "import {r} m.safetensors -o o.onnx",
    "rank {r} {models} --index models.db --json", "rank a.onnx --index models.db",
    "morph {r} -o p.onnx --widen conv99=96", "morph {r} -o q.onnx --widen *=x0.5", "morph absent.onnx -o r.onnx", "morph recipe.yaml -o r.onnx",
    "morph {r} -o d.onnx --recipe recipe.yaml", "morph {r} -o s.onnx --recipe wrong.yaml", "morph {r} -o absent/t.onnx", "nothing", "morph",
]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    first, second = (pathlib.Path(build).resolve() for build in sys.argv[1:])
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        folders = [pathlib.Path(one), pathlib.Path(other)]
        for folder in folders:
            (folder / "recipe.yaml").write_text(RECIPE)
            (folder / "wrong.yaml").write_text(RECIPE.replace("general", "generous"))
        wrong = sum(not same(command, [first, second], folders) for command in COMMANDS)
    print(f"{len(COMMANDS) - wrong} of {len(COMMANDS)} commands give the same")
    sys.exit(wrong > 0)


def same(command, builds, folders):
    names = {"r": "digits_resnet.onnx", "b": "digits_mobilenet.onnx", "t": "digits_transformer.onnx", "f": "digits_resnet_folded.onnx", "s": "digits_samples.npz"}
    arguments = [argument.format(models=MODELS, **{key: MODELS / name for key, name in names.items()}) for argument in command.split()]
    ended = [subprocess.run([build, *arguments], cwd=folder, capture_output=True, text=True, check=False) for build, folder in zip(builds, folders)]
    found = [(end.returncode, stable(end.stdout, folder), stable(end.stderr, folder), files(folder)) for end, folder in zip(ended, folders)]
    print(f"{'same' if found[0] == found[1] else 'DIFFERS'} ({found[0][0]}): {command}")
    if found[0] != found[1]:
        (code, *texts, written), (other_code, *other_texts, other_written) = found
        print(f"    exit codes {code} and {other_code}")
        for text, other in zip(texts, other_texts):
            if text != other:
                print(f"    {text[-2000:]}\n    {other[-2000:]}")
        print("    files that differ:", *(name for name in written.keys() | other_written.keys() if written.get(name) != other_written.get(name)))
    return found[0] == found[1]


def stable(text, folder):
    """Without the folder's name and what was measured."""
    return re.sub(r'"?[a-zA-Z]*"?: ?\d+(\.\d+)?(?=,?\s*"reason")|\d+\.\d+ (GB/s|s)\b|\s+', " ", text.replace(str(folder), "FOLDER"))


def files(folder):
    """What is in the folder; of an index, which has times in it, only that it is there."""
    return {str(path.relative_to(folder)): path.suffix == ".db" or path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


if __name__ == "__main__":
    main()
