using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>
/// What each tensor of a model is to start with: weights of layers are drawn, other parameters start with the number that their operator's rule
/// names (0 for biases and means, 1 for scales and variances, ¼ for PRelu), and what is no parameter stays.
/// </summary>
internal sealed class InitPlan
{
    /// <summary>Why the tensors of layers stay that the user did not name.</summary>
    public const string NotSelected = "its layer is not selected";

    private readonly AnalysedModel _model;
    private readonly AxisAnalysis _analysis;
    private readonly InitOptions _options;
    private readonly ActivationGain _gains;
    private readonly List<Start> _starts = [];

    private InitPlan(AnalysedModel model, InitOptions options)
    {
        (_model, _analysis, _options) = (model, model.Analysis, options);
        _gains = new ActivationGain(_analysis, Notes);
    }

    /// <summary>What a user should know.</summary>
    public List<string> Notes { get; } = [];

    /// <summary>What each tensor starts with.</summary>
    public IReadOnlyList<InitialisedTensor> Tensors => [.. _starts.Select(s => s.Report())];

    private GrowthRule Growth => _options.Method == InitMethod.Normed ? _options.Growth : GrowthRule.None;

    /// <summary>One tensor of the model.</summary>
    private sealed class Start(Constant constant, IReadOnlyList<WeightUse> uses)
    {
        public Constant Constant { get; } = constant;

        public IReadOnlyList<WeightUse> Uses { get; } = uses;

        public WeightForm? Form { get; set; }

        public Fans? Fans { get; set; }

        public double? Number { get; set; }

        public double Gain { get; set; } = 1;

        public double Variance { get; set; }

        public double Scale { get; set; } = 1;

        public double Multiplier { get; set; } = 1;

        public TensorStart Kind { get; set; } = TensorStart.Kept;

        public WeightExpression? Data { get; set; }

        public string? Note { get; set; }

        public bool IsDrawn => Kind is not (TensorStart.Kept or TensorStart.Number);

        public void Tell(string note) => Note = Note is null ? note : $"{Note}; {note}";

        public InitialisedTensor Report() => new(
            Constant.Name, [.. Constant.Shape], [.. Uses.Select(u => ModelGraph.NameOf(u.Node.Node)).Distinct()], Kind, Kind == TensorStart.Number ? Number : null,
            IsDrawn && Fans is { } fans
                ? new DrawnWeight(fans.Free, fans.Uses, fans.Share, fans.In, fans.Out, fans.Kappa, Gain, Kind == TensorStart.Dirac ? null : Variance, Scale, Multiplier) : null,
            Note);
    }

    /// <summary>Plans the start of a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="options">How.</param>
    /// <param name="only">Names of the tensors that may change; null is all.</param>
    public static InitPlan Of(AnalysedModel model, InitOptions options, IReadOnlySet<string>? only = null)
    {
        var plan = new InitPlan(model, options);
        plan.FindStarts(only);
        plan.Balance();
        foreach (Start start in plan._starts)
            plan.Draw(start);
        return plan;
    }

    private void FindStarts(IReadOnlySet<string>? only)
    {
        var uses = new Dictionary<Constant, List<WeightUse>>();
        foreach (WeightUse use in WeightUse.Find(_analysis))
        {
            foreach (Constant constant in use.Constants)
            {
                if (!uses.TryGetValue(constant, out List<WeightUse>? list))
                    uses[constant] = list = [];
                list.Add(use);
            }
        }

        HashSet<Constant> ends = _options.Method == InitMethod.ZeroResidual ? EndsOfBranches() : [];
        foreach (Constant constant in _model.Graph.Constants)
        {
            List<WeightUse> own = uses.GetValueOrDefault(constant) ?? [];
            bool quantised = !constant.Type.IsScalable() && constant.Type.BitWidth() is > 0 and <= 8 && constant.Type != ElementType.Bool && constant.Count > 1;
            // Sizes, axes and single numbers that stand in nodes are no tensors that anybody asks about.
            if (!quantised && (!constant.Type.IsScalable() || (constant.Count == 1 && !own.Any(IsParameter))))
                continue;
            var start = new Start(constant, own);
            _starts.Add(start);
            start.Note = quantised ? $"its elements are {constant.Type}, which cannot be drawn" : Kept(start, only, ends);
            if (start.Note is not null)
                continue;
            if (start.Number is not null)
                start.Kind = TensorStart.Number;
            else if (Count(start))
                start.Kind = _options.Distribution == DrawDistribution.Uniform ? TensorStart.Uniform : TensorStart.Normal;
        }
    }

    private static bool IsParameter(WeightUse use) => use.Node.Unknown is null && OperatorRules.For(use.Node.Node) is { } rule && rule.IsParameter(use.Node, use.Input);

    // Why a tensor stays; null where it is a parameter, whose start is then set.
    private string? Kept(Start start, IReadOnlySet<string>? only, HashSet<Constant> ends)
    {
        if (only is not null && !only.Contains(start.Constant.Name))
            return "it is not to be filled";
        if (_model.Graph.CapturedBy(start.Constant.Name) is { } node)
            return $"the subgraph of {ModelGraph.Describe(_model.Graph.Nodes[node])} reads it";
        if (start.Uses.Count == 0)
            return "no activation is computed from it";
        if (!start.Uses.Any(IsSelected))
            return NotSelected;
        var numbers = new HashSet<double?>();
        foreach (WeightUse use in start.Uses)
        {
            if (use.Node.Unknown is { } unknown)
                return unknown.ToString();
            OperatorRule rule = OperatorRules.For(use.Node.Node)!;
            if (!rule.IsParameter(use.Node, use.Input))
                return $"it is no parameter that {ModelGraph.Describe(use.Node.Node)} is known to have: a table, a limit or a number of the network's own";
            WeightForm? form = rule.Form(use.Node, use.Input);
            start.Form ??= form;
            numbers.Add(form is null ? rule.Fresh(use.Node, use.Input).Constant : null);
        }

        if (numbers.Count > 1)
            return "the nodes that read it want different starts";
        start.Number = ends.Contains(start.Constant) ? 0 : numbers.Single();
        return null;
    }

    private bool IsSelected(WeightUse use)
    {
        if (_options.Layers.IsEverything || _options.Layers.Matches(_analysis, use.Node.Index))
            return true;
        // A bias in a node of its own is the layer's in front.
        return OperatorRules.For(use.Node.Node) is { } rule && rule.Form(use.Node, use.Input) is null && use.Node.Node.Input.Count == 2
            && use.Node.Producer(1 - use.Input) is { } producer && _model.Graph.Producer(producer.Output[0]) is { } n && _options.Layers.Matches(_analysis, n);
    }

    private HashSet<Constant> EndsOfBranches()
    {
        var ends = new HashSet<Constant>();
        foreach (Block block in _model.Structure.Blocks.SelectMany(block => block.Parts.Count > 0 ? block.Parts : [block]).Where(block => block.IsResidual))
        {
            if (IdentityPlan.For(_analysis, block).ConstantStarts(out string refusal) is not { } starts)
                Notes.Add($"The residual branch of {block.Path} starts like other layers: {refusal}.");
            else
                ends.UnionWith(from start in starts
                               where start.Value is FilledWeight { Fill: var fill } && fill == Fill.Zero
                               select _model.Graph.ConstantOf(_model.Graph.Nodes[start.Key.Node].Input[start.Key.Input])!);
        }

        return ends;
    }

    // Fans, gain and variance of a weight. Of several uses the one with the largest fan decides, so that signals grow in none.
    private bool Count(Start start)
    {
        WeightUse? chosen = null;
        foreach (WeightUse use in start.Uses)
        {
            WeightForm form = OperatorRules.For(use.Node.Node)!.Form(use.Node, use.Input)!;
            if (Fans.Of(_analysis, use, form, start.Constant, out string why) is not { } fans)
            {
                start.Note = why;
                return false;
            }

            if (start.Fans is null || fans.In > start.Fans.In)
                (start.Fans, start.Form, chosen) = (fans, form, use);
        }

        if (start.Fans!.In == 0)
        {
            start.Note = "none of its elements meets data";
            return false;
        }

        if (start.Uses.Count > 1)
            start.Tell($"{start.Uses.Count} layers read it, and the largest fan counts");
        if (start.Fans.Repeats)
            start.Tell("a parameter stands several times in one row or column of the layer's matrix, so that the second moment is kept for uncorrelated inputs only");
        start.Gain = Gain(chosen!, start.Form!);
        (double fanIn, double fanOut) = _options.Method is InitMethod.Normed or InitMethod.Orthogonal
            ? (start.Fans.In, start.Fans.Out) : (start.Fans.KernelIn, start.Fans.KernelOut);
        start.Variance = start.Gain / ((_options.Mode ?? (_options.Method == InitMethod.Xavier ? FanMode.Average : FanMode.FanIn)) switch
        {
            FanMode.FanIn => fanIn,
            FanMode.FanOut => fanOut,
            FanMode.Average => (fanIn + fanOut) / 2,
            _ => Math.Sqrt(fanIn * fanOut),
        });
        return true;
    }

    private double Gain(WeightUse use, WeightForm form)
    {
        if (_options.Gain is { } given)
            return given;
        // Rows of a table are looked up, one for each result.
        if (!form.Axes.Any(a => a is WeightAxis.Input or WeightAxis.Tap))
            return 1;
        return _options.Method switch
        {
            InitMethod.He or InitMethod.ZeroResidual or InitMethod.Dirac => 2,
            InitMethod.Xavier or InitMethod.Lecun => 1,
            // What is inside the operator's own bounds, such as the gates of a recurrent layer, has no activation behind it.
            _ => OperatorRules.For(use.Node.Node)!.Scaling(use.Node) is null ? 1
                : use.Node.Text("activation") == "Relu" ? 2 : _gains.Behind(use.Node.Node.Output[0]),
        };
    }

    private void Balance()
    {
        List<Start> layers = [.. _starts.Where(s => s.IsDrawn)];
        if (Growth is GrowthRule.Multipliers or GrowthRule.Reparametrised)
        {
            foreach (Start start in layers.Where(s => s.Fans!.Share != 1))
            {
                if (Growth == GrowthRule.Multipliers)
                    start.Multiplier = 1 / start.Fans!.Share;
                else if (_model.Graph.IsReadElsewhere(start.Constant.Name))
                    start.Tell("an output reads it, so nothing can be put behind it");
                else
                    start.Scale = Math.Sqrt(start.Fans!.Share);
            }
        }

        if (Growth is GrowthRule.Variance or GrowthRule.Share)
        {
            double[] wanted = [.. layers.Select(s => 0.5 * Math.Log(Growth == GrowthRule.Variance ? s.Fans!.Kappa : s.Fans!.Share))];
            HashSet<Constant> zeros = [.. _starts.Where(s => s.Number == 0).Select(s => s.Constant)];
            (double[] logs, string?[] held) = GrowthBalance.Solve(
                _analysis, layers.Index().ToDictionary(l => l.Item.Constant, l => l.Index),
                use => _model.Graph.ConstantOf(_model.Graph.Nodes[use.Node].Input[use.Input]) is { } constant && zeros.Contains(constant), wanted);
            for (int layer = 0; layer < layers.Count; layer++)
            {
                layers[layer].Scale = Math.Exp(logs[layer]);
                if (held[layer] is { } where)
                    layers[layer].Tell($"growth leaves it alone: no other layer could make good its scale before {where}");
            }
        }

        foreach (Start start in layers)
            start.Variance *= start.Scale * start.Scale;
    }

    private void Draw(Start start)
    {
        Constant constant = start.Constant;
        if (start.Kind == TensorStart.Number)
            start.Data = new FilledWeight(constant.Type, [.. constant.Shape], Fill.Constant(start.Number!.Value));
        if (!start.IsDrawn)
            return;
        ulong key = Seeds.For(_options.Seed, $"init {constant.Name}");
        if (_options.Method is InitMethod.Orthogonal or InitMethod.Dirac && Special(start, key) is { } special)
            start.Data = special;
        start.Data ??= Draws.Of(constant.Type, [.. constant.Shape], _options.Distribution, start.Variance, key);
    }

    // Orthogonal matrices and Dirac kernels, where the tensor is the layer's matrix as it stands.
    private WeightExpression? Special(Start start, ulong key)
    {
        Constant constant = start.Constant;
        WeightForm form = start.Form!;
        bool plain = start.Fans!.Uses == 1 && start.Uses.All(use => _model.Graph.ConstantOf(use.Value) == constant)
            && form.Axes.Contains(WeightAxis.Input) && form.Axes.Contains(WeightAxis.Output);
        if (_options.Method == InitMethod.Dirac)
        {
            if (plain && !form.Axes.Contains(WeightAxis.Stack))
            {
                start.Kind = TensorStart.Dirac;
                return new DiracWeight(constant.Type, [.. constant.Shape]);
            }

            start.Tell("it is no single matrix or kernel, and is drawn at He's scale");
            return null;
        }

        // Of a stack or of parts in front each has a matrix of its own; rows are the first axis behind them.
        int first = form.Axes.TakeWhile(a => a == WeightAxis.Stack).Count();
        if (!plain || form.Axes.Skip(first).Contains(WeightAxis.Stack))
        {
            start.Tell("it is no single matrix, and is drawn with the variance of one");
            return null;
        }

        long rows = constant.Shape[first] / (form.PartAxis == first ? form.Parts : 1), columns = constant.Shape.Skip(first + 1).Aggregate(1L, (a, b) => a * b);
        start.Kind = TensorStart.Orthogonal;
        start.Variance = start.Gain / Math.Max(rows, columns);
        return new OrthogonalWeight(constant.Type, [.. constant.Shape], checked((int)rows), checked((int)columns), Math.Sqrt(start.Gain), key);
    }

    /// <summary>Writes the starts into the model.</summary>
    public void Apply()
    {
        var editor = new GraphEditor(_model.Graph);
        foreach (Start start in _starts.Where(s => s.Data is not null))
        {
            editor.Replace(start.Constant, start.Data!);
            if (Growth == GrowthRule.Reparametrised && start.Scale != 1)
                Multiply(editor, start);
        }

        editor.Commit();
    }

    // v → v / √s: patterns of unit norm, so that plain gradient descent on v grows as fast as on other layers.
    private void Multiply(GraphEditor editor, Start start)
    {
        string name = start.Constant.Name;
        IReadOnlyList<Use> uses = _model.Graph.Uses(name);
        var product = new NodeProto { OpType = "Mul", Name = _model.Graph.NewName($"{name}_share") };
        product.Input.AddRange([name, editor.AddInitializer($"{name}_share", new FilledWeight(start.Constant.Type, [], Fill.Constant(1 / start.Scale)))]);
        product.Output.Add(_model.Graph.NewName($"{name}_shared"));
        editor.InsertBefore(_model.Graph.Nodes[uses.Min(u => u.Node)], product);
        foreach (Use use in uses)
            _model.Graph.Nodes[use.Node].Input[use.Input] = product.Output[0];
        start.Tell("a multiplication by 1/√share stands behind it");
    }
}
