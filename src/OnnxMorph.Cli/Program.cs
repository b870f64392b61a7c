using System.CommandLine;
using OnnxMorph.Cli;
using OnnxMorph.Cli.Commands;

var root = new RootCommand("Changes the architecture of a trained ONNX model while keeping its function, and proves it.")
{
    InspectCommand.Create(),
    MorphCommand.Create(),
    VerifyCommand.Create(),
    DevicesCommand.Create(),
};
return await Runner.InvokeAsync(root, args);
