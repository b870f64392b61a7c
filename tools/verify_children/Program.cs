// Compares children with one parent as 'onnxmorph verify' does, but runs the parent once for all of them.
//
//   dotnet run -c Release --project tools/verify_children -- PARENT < CHILDREN
//
// Reads the paths of children from standard input, one a line, and answers each with a line of JSON on standard output: the document
// of 'onnxmorph verify --json', or {"error": "…"} with a sentence where the two cannot be compared.
using System.Text.Json;
using OnnxMorph;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

if (args.Length != 1)
{
    Console.Error.WriteLine("usage: verify_children PARENT, with paths of children on standard input");
    return (int)ExitCode.Usage;
}

var verifier = new Verifier(args[0], new VerifyOptions { Probe = new ModelProbe(new WeightEvaluator()) });
while (Console.ReadLine() is { } child)
{
    string answer;
    try
    {
        answer = JsonSerializer.Serialize(verifier.Compare(child), VerificationJson.Default.VerificationReport);
    }
    catch (OnnxMorphException e)
    {
        answer = JsonSerializer.Serialize(new Dictionary<string, string> { ["error"] = e.Message });
    }

    Console.WriteLine(answer);
}

return (int)ExitCode.Done;
