"""The repository's programs, for scripts that build and call them."""

import pathlib
import shlex
import subprocess

import numpy

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = ROOT / "src/OnnxMorph.Cli"
RUN_MODEL = ROOT / "tools/run_model"


class Refused(Exception):
    """The command refused what it was asked for, with its sentence."""


class Failure(Exception):
    """A command failed."""


def build(projects):
    """Builds projects."""
    for project in projects:
        call("dotnet", "build", "-c", "Release", "-v", "q", project)


def program(project):
    """The program of a project that was built."""
    return project / "bin/Release/net10.0" / {COMMAND: "OnnxMorph.Cli"}.get(project, project.name)


def call(*command):
    """Runs a program and gives its standard output; raises `Failure` with its error, or `Refused`."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode == 4:
        raise Refused(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise Failure(f"{shlex.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def runtime_outputs(model, samples, folder):
    """The model's first output under ONNX Runtime, as an array."""
    out = folder / "outputs.npz"
    call(program(RUN_MODEL), model, samples, out)
    with numpy.load(out) as arrays:
        return arrays[arrays.files[0]]
