// Prints what the axes of a model's floating-point constants are made of, as JSON:
//
//   dotnet run -c Release --project tools/list_spaces -- MODEL
//
// {"spaces": {"s3": 32, …}, "uses": [{"constant", "node", "input", "axes": [EXPRESSION, …]}, …]}: the spaces that values carry,
// with their sizes, and one entry for each use of a constant by a node. An EXPRESSION has its "size" and nothing else where the
// axis never changes, or: "space" and "dual" (whether the axis is contracted against the space), "product" (a list of
// expressions, outermost first), or "concat" (likewise).
using System.Text.Json.Nodes;
using OnnxMorph;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Shapes;
using OnnxMorph.Weights;

if (args.Length != 1)
{
    Console.Error.WriteLine("usage: list_spaces MODEL");
    return (int)ExitCode.Usage;
}

try
{
    OnnxModel model = OnnxReader.Read(args[0]);
    FunctionInliner.Inline(model);
    var graph = new ModelGraph(model);
    AxisAnalysis analysis = AxisAnalysis.Of(graph, ShapeEvaluator.Evaluate(model));
    // The taps of a kernel are a space as well, which no value carries.
    Space[] carried = [.. analysis.Values.Where(v => !analysis.IsWeight(v.Key)).SelectMany(v => v.Value)
        .SelectMany(analysis.Solver.Leaves).Select(leaf => leaf.Space).Distinct().OrderBy(space => space.Id)];
    var uses = new JsonArray();
    foreach ((Constant constant, Use use, AxisExpression[] axes) in analysis.ConstantUses.Where(u => u.Constant.Type.IsScalable()))
    {
        uses.Add(new JsonObject
        {
            ["constant"] = constant.Name,
            ["node"] = ModelGraph.NameOf(graph.Nodes[use.Node]),
            ["input"] = use.Input,
            ["axes"] = new JsonArray([.. axes.Select(axis => Describe(analysis.Solver, axis))]),
        });
    }

    var document = new JsonObject
    {
        ["spaces"] = new JsonObject(carried.Select(space => KeyValuePair.Create(Name(space), (JsonNode?)space.Size))),
        ["uses"] = uses,
    };
    Console.WriteLine(document.ToJsonString());
    return (int)ExitCode.Done;
}
catch (OnnxMorphException e)
{
    Console.Error.WriteLine(e.Message);
    return (int)e.ExitCode;
}

static string Name(Space space) => $"s{space.Id}";

static JsonNode Describe(AxisSolver solver, AxisExpression axis)
{
    AxisExpression resolved = solver.Resolve(axis);
    var description = new JsonObject { ["size"] = resolved.Size };
    switch (resolved)
    {
        case SpaceAxis s:
            description["space"] = Name(s.Space);
            description["dual"] = s.Dual;
            break;
        case ProductAxis p:
            description["product"] = new JsonArray([.. p.Parts.Select(part => Describe(solver, part))]);
            break;
        case ConcatAxis c:
            description["concat"] = new JsonArray([.. c.Parts.Select(part => Describe(solver, part))]);
            break;
    }

    return description;
}
