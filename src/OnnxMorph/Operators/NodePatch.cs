using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>A change of sizes that a node cannot follow; the space is then left alone and the reason told.</summary>
public sealed class PatchRefusedException(int node, Pin pin) : Exception(pin.ToString())
{
    /// <summary>Number of the node.</summary>
    public int Node { get; } = node;

    /// <summary>The node and the reason.</summary>
    public Pin Pin { get; } = pin;
}

/// <summary>The edits that bring one node of the child in line with the child's sizes.</summary>
public sealed class NodePatch
{
    private readonly Func<AxisExpression, long> _newSize;
    private readonly Func<AxisExpression, NewChannels, double> _share;

    internal NodePatch(NodeAxes axes, Func<AxisExpression, long> newSize, Func<AxisExpression, NewChannels, double> share)
    {
        Axes = axes;
        _newSize = newSize;
        _share = share;
    }

    /// <summary>The parent's node.</summary>
    public NodeAxes Axes { get; }

    /// <summary>Floating-point attributes to set, by name.</summary>
    internal Dictionary<string, float> FloatAttributes { get; } = [];

    /// <summary>Factors of constant inputs, by input number.</summary>
    internal Dictionary<int, double> InputFactors { get; } = [];

    /// <summary>What output 0 is a multiple of, when the node computes on the child's values what it computed on the parent's.</summary>
    internal double OutputFactor { get; private set; } = 1;

    /// <summary>Integer attributes to set, by name.</summary>
    internal Dictionary<string, long> IntAttributes { get; } = [];

    /// <summary>Integer list attributes to set, by name.</summary>
    internal Dictionary<string, long[]> IntListAttributes { get; } = [];

    /// <summary>Integer inputs to override: by input number, the elements with a new value; null elements stay as they are.</summary>
    internal Dictionary<int, long?[]> IntInputs { get; } = [];

    /// <summary>Size of an axis in the child.</summary>
    public long NewSize(AxisExpression axis) => _newSize(axis);

    /// <summary>
    /// How much of an axis of the child are copies of the parent's channels, where the others hold zeros or the mean: what a
    /// variance over it is multiplied by; 1 where there are copies only.
    /// </summary>
    public double Share(AxisExpression axis) => _share(axis, NewChannels.Zero | NewChannels.Mean);

    /// <summary>How much of an axis of the child is not zero all along: what a mean over it is multiplied by.</summary>
    public double ZeroShare(AxisExpression axis) => _share(axis, NewChannels.Zero);

    /// <summary>Sets a floating-point attribute.</summary>
    public void SetFloat(string name, float value) => FloatAttributes[name] = value;

    /// <summary>Multiplies a constant input.</summary>
    public void Scale(int input, double factor) => InputFactors[input] = factor;

    /// <summary>Says that output 0 comes out as <paramref name="factor"/> × what it must be, which nodes behind it make good.</summary>
    public void Compensate(double factor) => OutputFactor = factor;

    /// <summary>Sets an integer attribute.</summary>
    public void SetInt(string name, long value) => IntAttributes[name] = value;

    /// <summary>Sets an integer list attribute.</summary>
    public void SetInts(string name, long[] values) => IntListAttributes[name] = values;

    /// <summary>Overrides elements of an integer input that is constant or computed from shapes; null keeps an element.</summary>
    public void OverrideInput(int input, long?[] elements)
    {
        if (elements.Any(e => e is not null))
            IntInputs[input] = elements;
    }

    /// <summary>The reason for not being able to follow.</summary>
    public PatchRefusedException Refuse(string why) => new(Axes.Index, Axes.Reason(why));

    /// <summary>
    /// Brings an input that lists positions or sizes in line: element j becomes <paramref name="wanted"/>[j].
    /// Elements that follow the child by themselves are left alone.
    /// </summary>
    public void FollowValues(int input, long[] current, long[] wanted)
    {
        var elements = new long?[current.Length];
        for (int j = 0; j < current.Length; j++)
        {
            if (Unpatched(input, current, j) == wanted[j])
                continue;
            if (Sources(input, current.Length, j).Sources.Any(s => Axes.IsSymbolic(s)))
                throw Refuse("it computes a position that depends on both the caller's sizes and this axis");
            elements[j] = wanted[j];
        }

        OverrideInput(input, elements);
    }

    // What element j of an integer input is in the child when it is left alone; null where that is not known.
    private long? Unpatched(int input, long[] current, int j)
    {
        ElementLineage from = Sources(input, current.Length, j);
        if (from.Direct && Axes.AxesOf(from.Sources.Single().Value) is { } axes)
            return NewSize(axes[from.Sources.Single().Axis]);
        return from.Sources.Any(s => Axes.AxesOf(s.Value) is { } a && NewSize(a[s.Axis]) != a[s.Axis].Size) ? null : current[j];
    }

    private ElementLineage Sources(int input, int count, int j)
    {
        ElementLineage[] lineage = Axes.Lineage(input);
        return lineage.Length == count ? lineage[j] : ElementLineage.Union(lineage);
    }

    /// <summary>
    /// Brings an input that lists the sizes of output 0 (a Reshape's or Expand's target) in line: entry j of
    /// <paramref name="current"/> stands for output axis j. Entries that follow the child by themselves are left alone.
    /// </summary>
    /// <param name="input">Number of the input.</param>
    /// <param name="current">Its value in the parent.</param>
    /// <param name="meaning">The child's size that an entry gives where its number means something else (a Reshape's −1 and 0); null where it is the size.</param>
    public void FollowSizes(int input, long[] current, Func<int, long?> meaning)
    {
        AxisExpression[] output = Axes.Out(0);
        var elements = new long?[current.Length];
        for (int j = 0; j < current.Length; j++)
        {
            long size = NewSize(output[j]);
            if ((meaning(j) ?? Unpatched(input, current, j)) is { } follows && (follows == size || (size == output[j].Size && follows == current[j])))
                continue;
            if (Axes.IsSymbolic(0, j))
            {
                if (current.Contains(-1) || elements.Contains(-1) || Axes.Node.OpType != "Reshape")
                    throw Refuse("it computes a size that depends on both the caller's sizes and this axis");
                elements[j] = -1;
                continue;
            }

            elements[j] = size;
        }

        OverrideInput(input, elements);
    }
}
