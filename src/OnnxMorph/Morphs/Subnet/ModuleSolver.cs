using System.Collections.Immutable;
using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Double;
using OnnxMorph.Kernels;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Weights for modules that cannot be contracted, and for those too narrow for the closed form. All layers but a cut are fixed at random
/// values that see their own position alone, so that the module is <c>Σ A·F·B + C</c> over the cut's layers F, with what follows a layer A,
/// what precedes it B, and the paths past the cut C. Then <c>F = A⁺·(G − C)·B⁺</c>, tap by tap, where multiplying out shows it to be exact.
/// </summary>
internal sealed class ModuleSolver
{
    /// <summary>Largest error relative to the largest weight of G: rounding in float64.</summary>
    private const double Tolerance = 1e-10;

    /// <summary>Largest weight of a solved layer relative to those of G and C; beyond it the child's own rounding would show.</summary>
    private const double MostGrowth = 100;

    private const long MostElements = 1L << 27;

    private readonly Module _module;
    private readonly LinearOperator _target;
    private readonly LayerForm _form;
    private readonly ulong _seed;
    private readonly long[] _widths;
    private readonly KernelArray _weights;

    private ModuleSolver(Module module, LinearOperator target, LayerForm form, ulong seed)
    {
        (_module, _target, _form, _seed) = (module, target, form, seed);
        _widths = [.. ModuleWidths.Of(module, form.Groups * target.Inputs, form.Groups * target.Outputs, form.Groups).Select(w => w / form.Groups)];
        _weights = KernelArray.Of(target);
    }

    /// <summary>The weights of each layer, by the number of the value that it makes; null where no cut gives G exactly.</summary>
    /// <exception cref="SubnetRefusedException">The module's widths do not fit together, or the layer is too large.</exception>
    public static IReadOnlyDictionary<int, WeightedLayer>? Of(Module module, LinearOperator target, bool main, LayerForm form, ulong seed)
    {
        if (target.Weight.Count > MostElements)
            throw new SubnetRefusedException($"its {target.Weight.Count:N0} weights are too many to solve for");
        if (form.Groups > 1 && module.Operators.Any(o => o is ModuleConcat))
            throw new SubnetRefusedException("its groups of channels cannot be concatenated in order");
        var solver = new ModuleSolver(module, target, form, seed);
        return solver.Cuts().Select(cut => solver.Solve(cut, main)).FirstOrDefault(found => found is not null);
    }

    // The layers next to the input, those next to the result, and each by itself.
    private IEnumerable<int[]> Cuts()
    {
        int[] first = [.. _module.Layers.Where(value => _module.LastLayers(((ModuleLayer)_module.Producer(value)).Input).Contains(0))];
        int[] last = [.. _module.LastLayers(_module.Result).Where(value => value > 0)];
        return new[] { first, last }.Concat(_module.Layers.Select(value => new[] { value })).Where(IsCut);
    }

    // No path passes two of the layers; where outputs do not stand where inputs do, every path passes one.
    private bool IsCut(int[] layers)
    {
        var passed = new (int Least, int Most)[_module.Result + 1];
        for (int value = 1; value <= _module.Result; value++)
        {
            ImmutableArray<int> inputs = _module.Producer(value).Inputs;
            int own = layers.Contains(value) ? 1 : 0;
            passed[value] = (inputs.Min(i => passed[i].Least) + own, inputs.Max(i => passed[i].Most) + own);
        }

        return passed[_module.Result] is (var least, 1) && (least == 1 || _target.Pads.Displaced is null);
    }

    private Dictionary<int, WeightedLayer>? Solve(int[] cut, bool main)
    {
        ImmutableArray<long>[] kernels = [.. cut.Select(value => ((ModuleLayer)_module.Producer(value)).Kernel!.Value)];
        ImmutableArray<long>[] places;
        try
        {
            places = [.. kernels.Select(_target.Place)];
        }
        catch (SubnetRefusedException)
        {
            return null;
        }

        KernelArray[] solved = [.. cut.Select((value, e) => new KernelArray(_target.Layout, _widths[value], _widths[((ModuleLayer)_module.Producer(value)).Input], kernels[e]))];
        var paths = new ModulePaths[_form.Groups];
        for (int g = 0; g < paths.Length; g++)
        {
            paths[g] = new ModulePaths(_module, cut, _widths, _form.Type, Seeds.For(_seed, $"fixed {g} {string.Join(' ', cut)}"));
            if (!SolveGroup(g, cut, paths[g], places, solved))
                return null;
        }

        var layers = new Dictionary<int, WeightedLayer>();
        for (int e = 0; e < cut.Length; e++)
            layers[cut[e]] = new WeightedLayer(_target with { Weight = solved[e].ToWeight(_form.Type), Pads = _target.Window(places[e], kernels[e]).Pads }, main);
        foreach (int value in _module.Layers.Except(cut))
        {
            var layer = (ModuleLayer)_module.Producer(value);
            var point = new KernelArray(_form.Layout, _widths[value], _widths[layer.Input], _form.PointKernel);
            for (int g = 0; g < paths.Length; g++)
                point.Set(g, 0, paths[g].Fixed[value]);
            var seen = new LinearOperator(point.ToWeight(_form.Type), _form.Layout, KernelPads.None(_form.SpatialAxes));
            layers[value] = new WeightedLayer(seen.Window(seen.Place(layer.Kernel!.Value), layer.Kernel.Value), Main: false);
        }

        return layers;
    }

    private bool SolveGroup(int group, int[] cut, ModulePaths paths, ImmutableArray<long>[] places, KernelArray[] solved)
    {
        Matrix<double>[] before = [.. cut.Select(value => paths.Before[((ModuleLayer)_module.Producer(value)).Input])];
        Matrix<double>[] behind = [.. cut.Select(value => paths.Behind[value])];
        // The layers of the cut read the same, or what follows them is the same: then they stack into one.
        bool oneInput = before.All(b => b.Equals(before[0]));
        if (!oneInput && !behind.All(a => a.Equals(behind[0])))
            return false;
        Matrix<double> past = paths.Before[_module.Result];
        int own = -1;
        if (Largest(past) > 0)
        {
            if (!_target.Pads.HasOwnPosition(_target.Kernel, out ImmutableArray<long> position, out _))
                return false;
            own = _weights.Position(position);
        }

        double scale = Math.Max(_weights.Largest, Largest(past));
        for (int tap = 0; tap < _weights.Positions; tap++)
        {
            Matrix<double> wanted = _weights.Get(group, tap);
            if (tap == own)
                wanted -= past;
            ImmutableArray<long> at = _weights.Coordinates(tap);
            var seeing = new List<(int Layer, int Tap)>();
            for (int e = 0; e < cut.Length; e++)
                if (solved[e].Position([.. at.Zip(places[e], (position, first) => position - first)]) is var own1 and >= 0)
                    seeing.Add((e, own1));
            if (seeing.Count == 0)
            {
                if (Largest(wanted) > 0)
                    return false;
                continue;
            }

            Matrix<double> left = oneInput ? Beside(seeing.Select(s => behind[s.Layer])) : behind[0];
            Matrix<double> right = oneInput ? before[0] : Beside(seeing.Select(s => before[s.Layer].Transpose())).Transpose();
            if (RightInverse(left) is not { } leftInverse || RightInverse(right.Transpose()) is not { } rightInverse)
                return false;
            Matrix<double> found = leftInverse * wanted * rightInverse.Transpose();
            if (Largest(left * found * right - wanted) > Tolerance * scale || Largest(found) > MostGrowth * scale)
                return false;
            int first = 0;
            foreach ((int layer, int own1) in seeing)
            {
                int size = oneInput ? behind[layer].ColumnCount : before[layer].RowCount;
                solved[layer].Set(group, own1, oneInput
                    ? found.SubMatrix(first, size, 0, found.ColumnCount)
                    : found.SubMatrix(0, found.RowCount, first, size));
                first += size;
            }
        }

        return true;
    }

    private static Matrix<double> Beside(IEnumerable<Matrix<double>> parts) => parts.Aggregate((left, right) => left.Append(right));

    private static double Largest(Matrix<double> matrix) => matrix.RowCount == 0 || matrix.ColumnCount == 0 ? 0 : matrix.Enumerate().Max(Math.Abs);

    // X with M·X = I, the least of them; null where the rows are not independent.
    private static Matrix<double>? RightInverse(Matrix<double> matrix)
    {
        if (matrix.RowCount > matrix.ColumnCount)
            return null;
        var factors = matrix.Transpose().QR(MathNet.Numerics.LinearAlgebra.Factorization.QRMethod.Thin);
        Vector<double> diagonal = factors.R.Diagonal().PointwiseAbs();
        return diagonal.Minimum() <= 1e-8 * diagonal.Maximum() ? null : factors.Q * factors.R.Inverse().Transpose();
    }
}

/// <summary>What the layers of a module outside a cut make of its paths, in one group, all of them fixed at random values.</summary>
internal sealed class ModulePaths
{
    /// <summary>Size of fixed layers beside the path that leads through the cut.</summary>
    private const double SideSize = 0.25;

    /// <summary>Weights of the fixed layers by the value that each makes, [out, in], as the element type holds them.</summary>
    public Dictionary<int, Matrix<double>> Fixed { get; } = [];

    /// <summary>Each value as a matrix times the input, the cut's layers giving 0.</summary>
    public Matrix<double>[] Before { get; }

    /// <summary>What the result takes from each value, the cut's layers taking nothing.</summary>
    public Matrix<double>[] Behind { get; }

    /// <summary>Draws the fixed layers and multiplies the paths out.</summary>
    /// <param name="module">The module.</param>
    /// <param name="cut">The layers that are not fixed.</param>
    /// <param name="widths">Channels a group of each value.</param>
    /// <param name="type">What weights are rounded to.</param>
    /// <param name="seed">Seed of the weights.</param>
    public ModulePaths(Module module, int[] cut, long[] widths, ElementType type, ulong seed)
    {
        Draw(module, cut, widths, type, seed);
        int result = module.Result;
        Before = new Matrix<double>[result + 1];
        Before[0] = DenseMatrix.CreateIdentity((int)widths[0]);
        for (int value = 1; value <= result; value++)
        {
            Before[value] = module.Producer(value) switch
            {
                ModuleLayer layer => Fixed.TryGetValue(value, out Matrix<double>? weights) ? weights * Before[layer.Input] : new DenseMatrix((int)widths[value], (int)widths[0]),
                ModuleConcat concat => concat.Parts.Select(part => Before[part]).Aggregate((upper, lower) => upper.Stack(lower)),
                var other => other.Inputs.Select(input => Before[input]).Aggregate((a, b) => a + b),
            };
        }

        Behind = [.. widths.Select(width => (Matrix<double>)new DenseMatrix((int)widths[result], (int)width))];
        Behind[result] = DenseMatrix.CreateIdentity((int)widths[result]);
        for (int value = result; value > 0; value--)
        {
            int first = 0;
            foreach (int input in module.Producer(value).Inputs)
            {
                int size = (int)widths[input];
                Behind[input] += module.Producer(value) switch
                {
                    ModuleLayer => Fixed.TryGetValue(value, out Matrix<double>? weights) ? Behind[value] * weights : new DenseMatrix((int)widths[result], size),
                    ModuleConcat => Behind[value].SubMatrix(0, (int)widths[result], first, size),
                    _ => Behind[value],
                };
                first += size;
            }
        }
    }

    // Along one path through the cut layers are orthonormal in the channels that come along it, and the others are small beside them, so
    // that no product of them is nearly singular.
    private void Draw(Module module, int[] cut, long[] widths, ElementType type, ulong seed)
    {
        foreach (int value in module.Layers.Except(cut))
        {
            int inputs = (int)widths[((ModuleLayer)module.Producer(value)).Input], outputs = (int)widths[value];
            Fixed[value] = Normal(outputs, inputs, Seeds.For(seed, $"side {value}")) * (SideSize / (Math.Sqrt(outputs) + Math.Sqrt(inputs)));
        }

        int[] path = PathThrough(module, cut);
        int first = 0;
        for (int i = 1; i < path.Length; i++)
        {
            int value = path[i], from = path[i - 1];
            switch (module.Producer(value))
            {
                case ModuleConcat concat:
                    first += (int)concat.Parts.TakeWhile(part => part != from).Sum(part => widths[part]);
                    break;
                case ModuleLayer:
                    if (Fixed.TryGetValue(value, out Matrix<double>? weights))
                        weights.SetSubMatrix(0, first, Orthonormal(weights.RowCount, Along(path, i), Seeds.For(seed, $"path {value}")));
                    first = 0;
                    break;
            }
        }

        foreach (int value in Fixed.Keys)
            Fixed[value] = KernelArray.Rounded(Fixed[value], type);

        // Channels that come along the path: those of the last layer on it, or of the input.
        int Along(int[] path, int end) => (int)widths[path[..end].Last(value => value == 0 || module.Producer(value) is ModuleLayer)];
    }

    // The path through the cut's first layer that passes the fewest others.
    private static int[] PathThrough(Module module, int[] cut)
    {
        var layers = new int[module.Result + 1];
        var from = new int[module.Result + 1];
        for (int value = 1; value <= module.Result; value++)
        {
            from[value] = module.Producer(value).Inputs.MinBy(input => layers[input]);
            layers[value] = layers[from[value]] + Weight(value);
        }

        var rest = new int[module.Result + 1];
        var to = new int[module.Result + 1];
        Array.Fill(rest, int.MaxValue / 2, 0, module.Result);
        for (int value = module.Result; value > 0; value--)
            foreach (int input in module.Producer(value).Inputs)
                if (rest[value] + Weight(value) < rest[input])
                    (rest[input], to[input]) = (rest[value] + Weight(value), value);
        var path = new List<int>();
        for (int value = cut[0]; value > 0; value = from[value])
            path.Insert(0, value);
        path.Insert(0, 0);
        for (int value = cut[0]; value < module.Result; value = to[value])
            path.Add(to[value]);
        return [.. path];

        int Weight(int value) => module.Producer(value) is ModuleLayer ? 1 : 0;
    }

    private static Matrix<double> Normal(int rows, int columns, ulong seed) =>
        DenseMatrix.Create(rows, columns, (i, j) => RandomDraw.Value(Distribution.Normal, seed, (long)i * columns + j));

    private static Matrix<double> Orthonormal(int rows, int columns, ulong seed)
    {
        Matrix<double> tall = Normal(Math.Max(rows, columns), Math.Min(rows, columns), seed);
        Matrix<double> q = tall.QR(MathNet.Numerics.LinearAlgebra.Factorization.QRMethod.Thin).Q;
        return rows >= columns ? q : q.Transpose();
    }
}

/// <summary>Weights as numbers: for each group and each tap a matrix [out, in].</summary>
internal sealed class KernelArray
{
    private static readonly WeightEvaluator s_evaluator = new();

    private readonly WeightLayout _layout;
    private readonly int _outputs;
    private readonly int _inputs;
    private readonly ImmutableArray<long> _kernel;
    private readonly ImmutableArray<long> _shape;
    private readonly double[] _values;

    /// <summary>Zeros.</summary>
    /// <param name="layout">The axes of the weights.</param>
    /// <param name="outputs">Output channels a group.</param>
    /// <param name="inputs">Input channels a group.</param>
    /// <param name="kernel">Taps along each spatial axis.</param>
    public KernelArray(WeightLayout layout, long outputs, long inputs, ImmutableArray<long> kernel)
    {
        (_layout, _outputs, _inputs, _kernel) = (layout, (int)outputs, (int)inputs, kernel);
        _shape = layout.Shape(outputs, inputs, kernel);
        _values = new double[_shape.Aggregate(1L, (a, b) => a * b)];
    }

    /// <summary>The numbers of an operator's weights.</summary>
    public static KernelArray Of(LinearOperator weights)
    {
        var array = new KernelArray(weights.Layout, weights.Outputs, weights.Inputs, weights.Kernel);
        s_evaluator.EvaluateUnrounded(weights.Weight).CopyTo(array._values, 0);
        return array;
    }

    /// <summary>Number of taps.</summary>
    public int Positions => (int)_kernel.Aggregate(1L, (a, b) => a * b);

    /// <summary>The largest absolute value.</summary>
    public double Largest => _values.Length == 0 ? 0 : _values.Max(Math.Abs);

    /// <summary>Where a tap lies along each spatial axis.</summary>
    public ImmutableArray<long> Coordinates(int tap)
    {
        var at = new long[_kernel.Length];
        long rest = tap;
        for (int axis = at.Length - 1; axis >= 0; axis--)
            (rest, at[axis]) = Math.DivRem(rest, _kernel[axis]);
        return [.. at];
    }

    /// <summary>The tap at a place; −1 outside the kernel.</summary>
    public int Position(ImmutableArray<long> at)
    {
        long tap = 0;
        for (int axis = 0; axis < at.Length; axis++)
        {
            if (at[axis] < 0 || at[axis] >= _kernel[axis])
                return -1;
            tap = tap * _kernel[axis] + at[axis];
        }

        return (int)tap;
    }

    /// <summary>The matrix of a group at a tap.</summary>
    public Matrix<double> Get(int group, int tap)
    {
        ImmutableArray<long> at = Coordinates(tap);
        return DenseMatrix.Create(_outputs, _inputs, (o, i) => _values[Index(group, o, i, at)]);
    }

    /// <summary>Sets the matrix of a group at a tap.</summary>
    public void Set(int group, int tap, Matrix<double> matrix)
    {
        ImmutableArray<long> at = Coordinates(tap);
        for (int o = 0; o < _outputs; o++)
            for (int i = 0; i < _inputs; i++)
                _values[Index(group, o, i, at)] = matrix[o, i];
    }

    /// <summary>The numbers as a weight.</summary>
    public WeightExpression ToWeight(ElementType type) => new ComputedWeight(type, _shape, _values);

    /// <summary>A matrix as a type holds it.</summary>
    public static Matrix<double> Rounded(Matrix<double> matrix, ElementType type)
    {
        double[] values = matrix.ToColumnMajorArray();
        var bytes = new byte[type.RawSize(values.Length)];
        FloatConversion.Round(ElementEncoding.Format(type), values, bytes);
        FloatConversion.Widen(ElementEncoding.Format(type), bytes, values);
        return new DenseMatrix(matrix.RowCount, matrix.ColumnCount, values);
    }

    private long Index(int group, int output, int input, ImmutableArray<long> at)
    {
        long index = 0;
        for (int axis = 0; axis < _shape.Length; axis++)
        {
            long position = axis == _layout.Out ? (_layout.GroupsOnOut ? (long)group * _outputs : 0) + output
                : axis == _layout.In ? (_layout.GroupsOnOut ? 0 : (long)group * _inputs) + input
                : at[_layout.Spatial.IndexOf(axis)];
            index = index * _shape[axis] + position;
        }

        return index;
    }
}
