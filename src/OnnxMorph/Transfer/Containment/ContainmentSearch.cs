using System.Runtime.ExceptionServices;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer.Containment;

/// <summary>
/// Finds a source inside a target: which values of the target are values of the source, with weights that make them so, while everything else
/// that the target has (further layers, branches, gates, norms, activations) is made to have no effect.
/// </summary>
/// <remarks>
/// Backwards from the outputs: each role of a value is derived from roles of its node's inputs, by the same node of the source or by a node
/// without effect. Roles and values are visited once each, at most |target|·|source| pairs.
/// </remarks>
internal sealed partial class ContainmentSearch
{
    private readonly AnalysedModel _source, _target;
    private readonly ActivationGraph _own, _other;
    private readonly Dictionary<string, string> _inputs = [];
    private readonly Section _wholeSource, _wholeTarget;
    private readonly Dictionary<(string, ValueRole), Derivation?> _known = [];
    private readonly HashSet<(string, ValueRole)> _forbidden = [];

    // The demands that led to the one that is looked at.
    private readonly Stack<(string Value, ValueRole Role)> _path = [];

    // Where other channels lay between those asked for and were in somebody's way, and where they may lie no more.
    private readonly HashSet<(string, ValueRole)> _mixed = [], _unmixed = [];

    /// <summary>A search.</summary>
    public ContainmentSearch(AnalysedModel source, AnalysedModel target)
    {
        (_source, _target) = (source, target);
        (_wholeSource, _wholeTarget) = (Whole(source), Whole(target));
        (_own, _other) = (new ActivationGraph(source.Analysis), new ActivationGraph(target.Analysis));
        foreach ((string to, string from) in Paired(target.Graph.Inputs, source.Graph.Inputs))
            _inputs[to] = from;
    }

    /// <summary>The demand that reached farthest and could not be met, and before it those that led to it, from the target's output on; empty while none failed.</summary>
    public IReadOnlyList<(string Value, ValueRole Role)> Obstacle { get; private set; } = [];

    // How often two demands on one value may be parted by forbidding one of them.
    private const int MostConflicts = 256;

    private int _conflicts;

    /// <summary>
    /// The roles of all values that something is asked of, with their derivations, in no order; null where the demands cannot be met.
    /// </summary>
    /// <param name="demands">What the target's values have to be in the end.</param>
    public Dictionary<string, (ValueRole Role, Derivation How)>? Solve(IReadOnlyList<(string Value, ValueRole Role)> demands) => Deeply(() =>
    {
        _conflicts = 0;
        return SolveHere(demands);
    });

    // Recursion goes as deep as the network is long.
    private static T Deeply<T>(Func<T> search)
    {
        T found = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(Run, 1 << 29);
        thread.Start();
        thread.Join();
        failure?.Throw();
        return found;

        void Run()
        {
            try
            {
                found = search();
            }
            catch (Exception exception)
            {
                failure = ExceptionDispatchInfo.Capture(exception);
            }
        }
    }

    // Whether layers may undo activations in front of them, and gates stand halfway: ways that many nodes have and few need.
    private bool _extended;

    /// <summary>Tries ways from now on that are rarely needed.</summary>
    /// <returns>False where it did already.</returns>
    public bool Extend() => !_extended && (_extended = true);

    /// <summary>A value shall not have a role.</summary>
    public void Forbid(string value, ValueRole role) => _forbidden.Add((value, role));

    /// <summary>The outputs of the target with the source's, by name or else by position.</summary>
    public IEnumerable<(string Target, string Source)> Outputs => Paired(_target.Graph.Proto.Output, _source.Graph.Proto.Output);

    /// <summary>The inputs of the target with the source's, by name or else by position.</summary>
    public IReadOnlyDictionary<string, string> Inputs => _inputs;

    /// <summary>A value of the source, past nodes that give on what they read.</summary>
    public string Canonical(string value)
    {
        while (_source.Graph.Producer(value) is { } n && _source.Graph.Nodes[n] is var node && value == node.Output[0]
            && (Name(node) is "Identity" or "Dropout" || (Name(node) == "PRelu" && HasSlope(node, 1))))
            value = node.Input[0];
        return value;
    }

    // Whether a parametric ReLU of the source has one slope everywhere.
    private bool HasSlope(NodeProto node, float slope) =>
        _source.Graph.ConstantOf(node.Input[1]) is { } constant && ConstantValues.Of(_source.Graph, constant).All(value => (float)value == slope);

    private static IEnumerable<(string, string)> Paired(IEnumerable<ValueInfoProto> target, IEnumerable<ValueInfoProto> source)
    {
        List<string> from = [.. source.Select(v => v.Name)];
        List<string> to = [.. target.Select(v => v.Name)];
        bool named = to.All(from.Contains);
        for (int i = 0; i < to.Count; i++)
            if (named || i < from.Count)
                yield return (to[i], named ? to[i] : from[i]);
    }

    // Of two demands on one value either may be the one that has another way.
    private Dictionary<string, (ValueRole, Derivation)>? SolveHere(IReadOnlyList<(string Value, ValueRole Role)> demands)
    {
        _known.Clear();
        if (!demands.All(demand => Derive(demand.Value, demand.Role) is not null))
        {
            int before = _unmixed.Count;
            _unmixed.UnionWith(_mixed);
            return _unmixed.Count > before ? SolveHere(demands) : null;
        }

        if (Assign(demands, out string value, out ValueRole[] roles) is { } solution)
            return solution;
        // There is mostly another way to nothing.
        foreach (ValueRole role in roles.OrderBy(role => role is not Holds))
        {
            if (++_conflicts > MostConflicts)
                return null;
            _forbidden.Add((value, role));
            if (SolveHere(demands) is { } other)
                return other;
            _forbidden.Remove((value, role));
        }

        return null;
    }

    // Every value has one role.
    private Dictionary<string, (ValueRole, Derivation)>? Assign(IReadOnlyList<(string Value, ValueRole Role)> demands, out string conflict, out ValueRole[] between)
    {
        (conflict, between) = ("", []);
        var roles = new Dictionary<string, (ValueRole Role, Derivation How)>();
        var open = new Stack<(string Value, ValueRole Role)>(demands.Reverse());
        while (open.TryPop(out var demand))
        {
            if (roles.TryGetValue(demand.Value, out var known))
            {
                if (known.Role == demand.Role)
                    continue;
                (conflict, between) = (demand.Value, [demand.Role, known.Role]);
                return null;
            }

            Derivation how = _known[demand]!;
            roles[demand.Value] = (demand.Role, how);
            foreach (var need in how.Needs.Reverse())
                open.Push(need);
        }

        return roles;
    }

    private Derivation? Derive(string value, ValueRole role)
    {
        if (_known.TryGetValue((value, role), out Derivation? known))
            return known;
        _known[(value, role)] = null;
        _path.Push((value, role));
        Derivation? way = _forbidden.Contains((value, role)) || !Fits(value, role) ? null : Ways(value, role).FirstOrDefault(way => IsPossible(value, role, way));
        // What is nearest to the source's inputs was reached through everything behind it; of the target's values that could not be it, the last.
        if (way is null && role is Carries && (Obstacle is not [.., var farthest] || Depth(value, role).CompareTo(Depth(farthest.Value, farthest.Role)) < 0))
            Obstacle = [.. _path.Reverse()];
        _path.Pop();
        return _known[(value, role)] = way;
    }

    private bool IsPossible(string value, ValueRole role, Derivation way) =>
        !(_unmixed.Contains((value, role)) && way.Pieces is { } pieces && pieces.Any(piece => piece.Count == 0))
        && way.Needs.All(need => Derive(need.Value, need.Role) is not null)
        && (way.TakesOthers || way.Needs.All(need => !HasOthers(need.Value, need.Role, out AxisExpression? axis) || (way.Moves && IsAxisOf(value, axis))));

    private (int, int) Depth(string value, ValueRole role) => (_source.Graph.Producer(((Carries)role).Source) ?? -1, -(_target.Graph.Producer(value) ?? -1));

    // Whether there are channels between those that are asked for, and along which axis; null where that is not known.
    private bool HasOthers(string value, ValueRole role, out AxisExpression? axis)
    {
        axis = null;
        while (_known.GetValueOrDefault((value, role)) is { } how)
        {
            if (how.Pieces is { } pieces)
            {
                if (pieces.All(piece => piece.Count > 0))
                    return false;
                _mixed.Add((value, role));
                axis = _target.Analysis.Axes(value) is { } axes ? _target.Analysis.Solver.Resolve(axes[how.Axis]) : null;
                return true;
            }

            if (how.Like is not { } like)
                return false;
            (value, role) = how.Needs.First(need => need.Value == like);
        }

        return false;
    }

    private bool IsAxisOf(string value, AxisExpression? axis) => axis is not null && _target.Analysis.Axes(value) is { } axes && axes.Any(own => _target.Analysis.Solver.Resolve(own).Equals(axis));

    // Axes that no layer makes have the source's sizes; channels may be more.
    private bool Fits(string value, ValueRole role)
    {
        if (role is Holds)
            return true;
        (string from, int factor, Offsets offset, bool padded) = role is Mirrors mirrors ? (mirrors.Source, 2, mirrors.Offset, mirrors.Padded) : (((Carries)role).Source, 1, ((Carries)role).Offset, ((Carries)role).Padded);
        if (_target.Analysis.Shapes.Type(value) != _source.Analysis.Shapes.Type(from))
            return false;
        // Some operators tell no sizes.
        if (_target.Analysis.Shapes.Dims(value) is not { } to || _source.Analysis.Shapes.Dims(from) is not { } own)
            return role is Carries { IsWhole: true };
        if (to.Length != own.Length)
            return false;
        AxisExpression[]? axes = _target.Analysis.Axes(value);
        int channels = role is Mirrors ? ChannelAxis(from) : -1;
        for (int axis = 0; axis < to.Length; axis++)
        {
            long size = role is Carries { IsWhole: false } part && part.Axis == axis ? part.Size : axis == channels ? factor * own[axis] : own[axis];
            if (axis > 1 && (offset != default || padded))
            {
                if (to[axis] < own[axis] + offset[axis - 2])
                    return false;
                continue;
            }

            bool grows = axes is not null && _target.Analysis.Solver.Leaves(axes[axis]).Any();
            if (grows ? to[axis] < size : to[axis] != size)
                return false;
        }

        return true;
    }

    // Where the layer in front of a value of the source put its channels.
    private int ChannelAxis(string value)
    {
        long[] dims = _source.Analysis.Shapes.Dims(value)!;
        if (_source.Analysis.Axes(value) is { } axes)
        {
            int[] made = [.. Enumerable.Range(0, axes.Length).Where(axis => _source.Analysis.Solver.Leaves(axes[axis]).Any())];
            if (made.Length == 1)
                return made[0];
        }

        return dims.Length > 3 ? 1 : dims.Length - 1;
    }

    private IEnumerable<Derivation> Ways(string value, ValueRole role)
    {
        if (_target.Graph.Producer(value) is not { } n)
            return role is Carries { IsWhole: true } carries && carries.Factor == 1 && _inputs.TryGetValue(value, out string? input) && input == carries.Source ? [new Derivation()] : [];
        return role switch
        {
            Carries carries => Same(n, value, carries).Concat(WithoutEffect(n, value, carries)),
            Mirrors mirrors => Mirrored(n, value, mirrors),
            Holds holds => Constant(n, value, holds.Number),
            _ => [],
        };
    }

    /// <summary>All of a model.</summary>
    internal static Section Whole(AnalysedModel model) => new("", null, [.. Enumerable.Range(0, model.Graph.Nodes.Count)], []);

    private bool IsActivation(string value) => _other.Producer(value) is not null;

    private static string Name(NodeProto node) => ModelGraph.IsStandard(node) ? node.OpType : $"{node.Domain}:{node.OpType}";
}
