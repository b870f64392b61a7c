using System.Collections.Immutable;
using OnnxMorph.Onnx;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// A two-terminal module (Wei, Wang, Chen 2017): layers, sums and concatenations that take the place of one layer. Value 0 is what
/// the layer reads, operator i makes value i+1 out of values with smaller numbers, and the last value is the result.
/// </summary>
/// <param name="Operators">The operators, each behind those that it reads.</param>
internal sealed record Module(ImmutableArray<ModuleOperator> Operators)
{
    /// <summary>
    /// Channels of input and result where the layers' widths are those of a module of this size; null where the widths hold as they are.
    /// </summary>
    public (long Inputs, long Outputs)? Ends { get; init; }

    /// <summary>Number of the value that is the result.</summary>
    public int Result => Operators.Length;

    /// <summary>The operator that makes value <paramref name="value"/>; the input, value 0, has none.</summary>
    public ModuleOperator Producer(int value) => Operators[value - 1];

    /// <summary>Numbers of the values that layers make.</summary>
    public IEnumerable<int> Layers => Enumerable.Range(1, Result).Where(value => Producer(value) is ModuleLayer);

    /// <summary>Whether what a value holds goes into the result once and through no layer.</summary>
    public bool EndsIn(int value)
    {
        while (value != Result)
        {
            int[] readers = [.. from reader in Enumerable.Range(1, Result) from input in Producer(reader).Inputs where input == value select reader];
            if (readers is not [var only] || Producer(only) is ModuleLayer)
                return false;
            value = only;
        }

        return true;
    }

    /// <summary>
    /// The module for a place: every layer has a kernel size for each spatial axis, and widths are numbers. Where the module has a size, widths
    /// equal to that of its ends follow the place, and others grow as the result does.
    /// </summary>
    /// <param name="kernel">The kernel of the layer that is there.</param>
    /// <param name="inputs">Channels of what the module reads there.</param>
    /// <param name="outputs">Channels of what it makes there.</param>
    /// <exception cref="SubnetRefusedException">A kernel has another number of axes.</exception>
    public Module At(ImmutableArray<long> kernel, long inputs, long outputs)
    {
        return new Module([.. Operators.Select(o => o is ModuleLayer layer ? layer with { Kernel = Resolve(layer.Kernel), Channels = Scale(layer.Width) } : o)]);

        ImmutableArray<long> Resolve(ImmutableArray<long>? own) =>
            own is not { } sizes ? kernel
            : sizes.All(size => size == 1) ? [.. kernel.Select(_ => 1L)]
            : sizes.Length == kernel.Length ? sizes
            : sizes.Length == 1 && kernel.Length > 0 ? [.. kernel.Select(_ => sizes[0])]
            : throw new SubnetRefusedException($"a kernel of {string.Join('×', sizes)} has no place in a layer with {kernel.Length} spatial axes");

        long? Scale(SizeRequest? width) => width?.Apply(outputs) is not { } size ? null
            : Ends is not { } ends || ends == (inputs, outputs) ? size
            : size == ends.Outputs ? outputs
            : size == ends.Inputs ? inputs
            : Math.Max(1, size * outputs / ends.Outputs);
    }

    /// <summary>
    /// Where the paths to <paramref name="value"/> last pass a layer: the numbers of the values that these layers make, and 0 where a
    /// path has none.
    /// </summary>
    public SortedSet<int> LastLayers(int value) => [.. Tail(value).Where(IsStart)];

    /// <summary>
    /// The values from <paramref name="value"/> back to where the paths to it last pass a layer, or to the input where they pass none.
    /// </summary>
    public SortedSet<int> Tail(int value)
    {
        var tail = new SortedSet<int>();
        // Every value comes behind what it is made of.
        var open = new SortedSet<int> { value };
        while (open.Count > 0)
        {
            int next = open.Max;
            open.Remove(next);
            tail.Add(next);
            if (!IsStart(next))
                open.UnionWith(Producer(next).Inputs);
        }

        return tail;
    }

    private bool IsStart(int value) => value == 0 || Producer(value) is ModuleLayer;
}

/// <summary>One operator of a module.</summary>
/// <param name="Inputs">Numbers of the values that it reads.</param>
internal abstract record ModuleOperator(ImmutableArray<int> Inputs);

/// <summary>A layer with weights.</summary>
/// <param name="Input">What it reads.</param>
/// <param name="Kernel">
/// Its taps along each spatial axis; one number stands for all axes, ones stand for every layer, and null for a kernel as large as that of
/// the layer whose place the module takes.
/// </param>
/// <param name="Width">Its output channels, x2 and +8 counting from those of the module's result; null for as many as are needed.</param>
internal sealed record ModuleLayer(int Input, ImmutableArray<long>? Kernel, SizeRequest? Width = null) : ModuleOperator([Input])
{
    /// <summary>Its output channels at a place; null for as many as are needed.</summary>
    public long? Channels { get; init; }
}

/// <summary>An activation, parametric where it must start as the identity.</summary>
/// <param name="Input">What it reads.</param>
/// <param name="Like">The node that it is like; null for the network's own.</param>
internal sealed record ModuleActivation(int Input, NodeProto? Like = null) : ModuleOperator([Input]);

/// <summary>The sum of values; the value itself where it is one.</summary>
internal sealed record ModuleSum(ImmutableArray<int> Parts) : ModuleOperator(Parts);

/// <summary>Values one behind the other along the channels.</summary>
internal sealed record ModuleConcat(ImmutableArray<int> Parts) : ModuleOperator(Parts);
