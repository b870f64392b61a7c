using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Operators;

namespace OnnxMorph.Initialization;

/// <summary>
/// The fans of a parameter in one use of it, counted on the linear map y = T(w)·x that the operator makes (docs/init.md): of E
/// structurally nonzero entries of the m×n matrix T, F_in = E/m is what one result sums over and F_out = E/n what one input reaches.
/// </summary>
/// <param name="In">F_in: mean over the rows in which the parameter stands.</param>
/// <param name="Out">F_out: mean over the columns.</param>
/// <param name="KernelIn">The same by the kernel's size alone, as if there were no borders.</param>
/// <param name="KernelOut">F_out by the kernel's size.</param>
/// <param name="Free">P: free parameters, the elements of the tensor that the map is made of.</param>
/// <param name="Uses">How often each of them stands in the weight that the operator reads.</param>
/// <param name="Periodic">Results that each entry of the weight serves where the kernel is a periodic one as large as the data; 1 elsewhere.</param>
/// <param name="Repeats">Whether a parameter stands twice in one row or column of T.</param>
internal sealed record Fans(double In, double Out, double KernelIn, double KernelOut, long Free, double Uses, double Periodic, bool Repeats)
{
    /// <summary>κ = F_in / √P: what the relative gradient ‖∇w‖/‖w‖ is proportional to.</summary>
    public double Kappa => In / Math.Sqrt(Free);

    /// <summary>Uses of a free parameter in structured sharing: circulant blocks and large periodic kernels.</summary>
    public double Share => Uses * Periodic;

    /// <summary>Counts the fans of a constant in one use; null with the reason where they cannot be told.</summary>
    public static Fans? Of(AxisAnalysis analysis, WeightUse use, WeightForm form, Constant constant, out string why)
    {
        why = "";
        IReadOnlyList<long> shape = use.Shape;
        if (shape.Contains(0) || constant.Count == 0)
        {
            why = "it is empty";
            return null;
        }

        int[] taps = [.. form.Axes.Index().Where(a => a.Item == WeightAxis.Tap).Select(a => a.Index)];
        AxisReach[] reach = [];
        if (taps.Length > 0)
        {
            if (SpatialReach.Of(analysis, use.Node, [.. taps.Select(axis => shape[axis])], form.Axes[0] == WeightAxis.Input, out why) is not { } found)
                return null;
            reach = found;
        }

        long[]? elements = use.Elements(analysis, out string? unknown);
        if (unknown is not null)
        {
            why = unknown;
            return null;
        }

        double periodic = reach.Length > 0 && reach.All(r => r.IsPeriodic) ? reach.Aggregate(1.0, (product, r) => product * r.Outputs) : 1;
        bool repeats = reach.Any(r => r.Repeats);
        if (elements is null)
        {
            double tapCount = form.Size(shape, WeightAxis.Tap);
            double inputs = form.Size(shape, WeightAxis.Input), outputs = form.Size(shape, WeightAxis.Output);
            return new Fans(
                reach.Aggregate(inputs, (fan, r) => fan * r.Counts.Sum() / r.Outputs), reach.Aggregate(outputs, (fan, r) => fan * r.Counts.Sum() / r.Inputs),
                inputs * tapCount, outputs * tapCount, constant.Count, 1, periodic, repeats);
        }

        return Counted(use, form, constant, elements, taps, reach, periodic, repeats);
    }

    private static Fans Counted(WeightUse use, WeightForm form, Constant constant, long[] elements, int[] taps, AxisReach[] reach, double periodic, bool repeats)
    {
        IReadOnlyList<long> shape = use.Shape;
        long from = use.Constants.TakeWhile(c => c != constant).Sum(c => c.Count);
        // Rows of T by outputs, columns by inputs; parts have rows and columns of their own.
        long last = use.Constants.Sum(c => c.Count);
        Lines rows = new(form, shape, WeightAxis.Output, last + 1), columns = new(form, shape, WeightAxis.Input, last + 1);
        var met = new bool[constant.Count];
        long uses = 0;
        var index = new long[shape.Count];
        for (long e = 0; e < elements.Length; e++)
        {
            if (elements[e] == 0)
                continue;
            long rest = e;
            for (int axis = shape.Count - 1; axis >= 0; axis--)
                (rest, index[axis]) = Math.DivRem(rest, shape[axis]);
            bool own = elements[e] > from && elements[e] <= from + constant.Count;
            double perResult = 1, perInput = 1;
            for (int t = 0; t < taps.Length; t++)
            {
                perResult *= (double)reach[t].Counts[index[taps[t]]] / reach[t].Outputs;
                perInput *= (double)reach[t].Counts[index[taps[t]]] / reach[t].Inputs;
            }

            rows.Add(index, elements[e], own, perResult);
            columns.Add(index, elements[e], own, perInput);
            if (own)
            {
                met[elements[e] - from - 1] = true;
                uses++;
            }
        }

        if (uses == 0)
            return new Fans(0, 0, 0, 0, constant.Count, 0, 1, false);
        long free = met.LongCount(m => m);
        return new Fans(
            rows.Mean(rows.Sums), columns.Mean(columns.Sums), rows.Mean(rows.Counts), columns.Mean(columns.Counts),
            free, (double)uses / free, periodic, repeats || (uses > free && (rows.Repeats() || columns.Repeats())));
    }

    /// <summary>Rows or columns of T, as far as the weight tells them apart: positions of one channel have the same entries.</summary>
    private sealed class Lines
    {
        private readonly long[] _factors, _divisors;
        private readonly bool[] _hasOwn;
        private readonly List<long> _places = [];
        private readonly long _elements;

        public Lines(WeightForm form, IReadOnlyList<long> shape, WeightAxis kind, long elements)
        {
            _elements = elements;
            (_factors, _divisors) = (new long[shape.Count], new long[shape.Count]);
            long count = 1;
            for (int axis = shape.Count - 1; axis >= 0; axis--)
            {
                bool whole = form.Axes[axis] == kind || form.Axes[axis] == WeightAxis.Stack;
                if (!whole && (axis != form.PartAxis || form.Parts == 1))
                    continue;
                (_factors[axis], _divisors[axis]) = (count, whole ? 1 : shape[axis] / form.Parts);
                count *= shape[axis] / _divisors[axis];
            }

            (Sums, Counts, _hasOwn) = (new double[count], new double[count], new bool[count]);
        }

        public double[] Sums { get; }

        public double[] Counts { get; }

        public void Add(long[] index, long element, bool own, double weight)
        {
            long line = 0;
            for (int axis = 0; axis < index.Length; axis++)
                if (_factors[axis] != 0)
                    line += index[axis] / _divisors[axis] * _factors[axis];
            Sums[line] += weight;
            Counts[line]++;
            if (!own)
                return;
            _hasOwn[line] = true;
            _places.Add(line * _elements + element);
        }

        /// <summary>Mean over the lines in which the parameter stands.</summary>
        public double Mean(double[] of) => of.Where((_, line) => _hasOwn[line]).Average();

        /// <summary>Whether an element stands twice in a line.</summary>
        public bool Repeats()
        {
            _places.Sort();
            return Enumerable.Range(1, Math.Max(_places.Count - 1, 0)).Any(i => _places[i] == _places[i - 1]);
        }
    }
}
