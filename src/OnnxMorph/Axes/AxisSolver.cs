using System.Collections.Immutable;

namespace OnnxMorph.Axes;

/// <summary>
/// Finds what the axes of a graph have in common. Operator rules say which axes are equal; the solver unifies their
/// expressions, breaking spaces into products and concatenations where a reshape, a group or a split needs it. What
/// cannot be expressed is pinned with the reason, never guessed.
/// </summary>
public sealed class AxisSolver
{
    private readonly List<Space> _spaces = [];
    private readonly List<(AxisExpression Axis, NewChannels Alternatives, Pin Reason)> _uniform = [];
    private readonly List<(AxisExpression Normalized, AxisExpression Result, Pin Reason)> _centred = [];
    private readonly List<(AxisExpression Left, AxisExpression Right, Pin Reason)> _paired = [];
    private readonly List<(AxisExpression Axis, NewChannels Kinds, Pin Reason)> _forbidden = [];
    private readonly List<(AxisExpression Axis, Pin Reason)> _primal = [];
    private readonly List<(AxisExpression Axis, Pin Reason)> _copies = [];
    private readonly List<(AxisExpression Axis, Pin Reason)> _picks = [];

    /// <summary>All spaces that stand for themselves, pinned ones included, in order of creation.</summary>
    public IEnumerable<Space> Spaces => _spaces.Where(s => s.Binding is null);

    /// <summary>A new axis that is one space of its own; an axis of size 1 is fixed, since it may be broadcast.</summary>
    public AxisExpression Fresh(long size, Pin pinIfTrivial)
    {
        if (size is <= 1 or > int.MaxValue)
            return new FixedAxis(size, pinIfTrivial);
        var space = new Space(_spaces.Count, (int)size);
        _spaces.Add(space);
        return new SpaceAxis(space, false);
    }

    /// <summary>The expression with every binding followed and nested products and concatenations flattened.</summary>
    public AxisExpression Resolve(AxisExpression axis)
    {
        switch (axis)
        {
            case SpaceAxis { Space.Binding: { } binding } bound:
                AxisExpression target = Resolve(binding);
                bound.Space.Binding = target;
                return bound.Dual ? Dualize(target) : target;
            case ProductAxis product:
                return product.Parts.Any(NeedsResolving) ? Product(product.Parts.Select(Resolve)) : product;
            case ConcatAxis concat:
                return concat.Parts.Any(NeedsResolving) ? Concat(concat.Parts.Select(Resolve)) : concat;
            default:
                return axis;
        }
    }

    private static bool NeedsResolving(AxisExpression axis) => axis switch
    {
        SpaceAxis s => s.Space.Binding is not null,
        ProductAxis p => p.Parts.Any(NeedsResolving),
        ConcatAxis c => c.Parts.Any(NeedsResolving),
        _ => false,
    };

    /// <summary>The product of parts, outermost first; parts of size 1 vanish.</summary>
    public static AxisExpression Product(IEnumerable<AxisExpression> parts)
    {
        var flat = ImmutableArray.CreateBuilder<AxisExpression>();
        FixedAxis? one = null;
        foreach (AxisExpression part in parts)
        {
            if (part is FixedAxis { Size: 1 } unit)
                one ??= unit;
            else if (part is ProductAxis product)
                flat.AddRange(product.Parts);
            else if (part is FixedAxis f && flat.Count > 0 && flat[^1] is FixedAxis before)
                flat[^1] = before with { Size = before.Size * f.Size };
            else
                flat.Add(part);
        }

        return flat.Count switch
        {
            0 => one ?? new FixedAxis(1, new Pin("", "an axis of size 1")),
            1 => flat[0],
            _ => new ProductAxis(flat.ToImmutable()),
        };
    }

    /// <summary>The concatenation of parts; parts of size 0 vanish.</summary>
    public static AxisExpression Concat(IEnumerable<AxisExpression> parts)
    {
        var flat = ImmutableArray.CreateBuilder<AxisExpression>();
        FixedAxis? nothing = null;
        foreach (AxisExpression part in parts)
        {
            if (part is FixedAxis { Size: 0 } empty)
                nothing ??= empty;
            else if (part is ConcatAxis concat)
                flat.AddRange(concat.Parts);
            else if (part is FixedAxis f && flat.Count > 0 && flat[^1] is FixedAxis before)
                flat[^1] = before with { Size = before.Size + f.Size };
            else
                flat.Add(part);
        }

        return flat.Count switch
        {
            0 => nothing ?? new FixedAxis(0, new Pin("", "an empty axis")),
            1 => flat[0],
            _ => new ConcatAxis(flat.ToImmutable()),
        };
    }

    /// <summary>The side of a weight that is contracted against <paramref name="axis"/>; its own inverse.</summary>
    public static AxisExpression Dualize(AxisExpression axis) => axis switch
    {
        SpaceAxis s => s with { Dual = !s.Dual },
        ProductAxis p => new ProductAxis([.. p.Parts.Select(Dualize)]),
        ConcatAxis c => new ConcatAxis([.. c.Parts.Select(Dualize)]),
        _ => axis,
    };

    /// <summary>The expression with every dual turned into the space itself.</summary>
    public static AxisExpression Primal(AxisExpression axis) => axis switch
    {
        SpaceAxis s => s with { Dual = false },
        ProductAxis p => new ProductAxis([.. p.Parts.Select(Primal)]),
        ConcatAxis c => new ConcatAxis([.. c.Parts.Select(Primal)]),
        _ => axis,
    };

    /// <summary>The spaces in an expression, in order, as often as they occur.</summary>
    public IEnumerable<SpaceAxis> Leaves(AxisExpression axis)
    {
        switch (Resolve(axis))
        {
            case SpaceAxis s:
                yield return s;
                break;
            case ProductAxis p:
                foreach (SpaceAxis leaf in p.Parts.SelectMany(Leaves))
                    yield return leaf;
                break;
            case ConcatAxis c:
                foreach (SpaceAxis leaf in c.Parts.SelectMany(Leaves))
                    yield return leaf;
                break;
        }
    }

    /// <summary>The spaces of an expression that may change.</summary>
    public IEnumerable<SpaceAxis> FreeLeaves(AxisExpression axis) => Leaves(axis).Where(leaf => leaf.Space.Pins.Count == 0);

    /// <summary>Fixes every space of <paramref name="axis"/>.</summary>
    public void Pin(AxisExpression axis, Pin reason)
    {
        foreach (SpaceAxis leaf in Leaves(axis))
            leaf.Space.AddPin(reason);
    }

    /// <summary>
    /// Demands that the axis is only ever replicated, every index equally often, and beside the copies gets no other indices than
    /// those of <paramref name="alternatives"/>.
    /// </summary>
    public void RequireUniform(AxisExpression axis, Pin reason, NewChannels alternatives = NewChannels.None) =>
        _uniform.Add((axis, alternatives, reason));

    /// <summary>
    /// Says that <paramref name="result"/> is <paramref name="normalized"/> less its mean: both are replicated together, and where
    /// one gets the mean as a new index, the other gets a zero there.
    /// </summary>
    public void Centre(AxisExpression normalized, AxisExpression result, Pin reason) => _centred.Add((normalized, result, reason));

    /// <summary>
    /// Says that two axes of activations are summed over against each other: both grow together, zeros on one side meeting
    /// indices of the child's own on the other.
    /// </summary>
    public void Pair(AxisExpression left, AxisExpression right, Pin reason) => _paired.Add((left, right, reason));

    /// <summary>Axes whose indices belong together though they are no one axis: both sides of a norm, both operands of a product of activations.</summary>
    public IEnumerable<(AxisExpression Left, AxisExpression Right)> Companions =>
        _centred.Select(c => (Resolve(c.Normalized), Resolve(c.Result))).Concat(_paired.Select(p => (Resolve(p.Left), Resolve(p.Right))));

    /// <summary>Demands that new indices of the axis hold nothing of <paramref name="kinds"/>.</summary>
    public void Forbid(AxisExpression axis, NewChannels kinds, Pin reason) => _forbidden.Add((axis, kinds, reason));

    /// <summary>Whether two axes are the two sides of a normalisation, or of several one behind the other.</summary>
    public bool AreCentred(AxisExpression left, AxisExpression right)
    {
        if (Resolve(left) is not SpaceAxis l || Resolve(right) is not SpaceAxis r)
            return false;
        var reached = new HashSet<Space> { l.Space };
        for (int before = 0; before < reached.Count;)
        {
            before = reached.Count;
            foreach ((AxisExpression from, AxisExpression to, _) in _centred)
                if (Resolve(from) is SpaceAxis a && Resolve(to) is SpaceAxis b && (reached.Contains(a.Space) || reached.Contains(b.Space)))
                    reached.UnionWith([a.Space, b.Space]);
        }

        return reached.Contains(r.Space);
    }

    /// <summary>
    /// Makes one what <see cref="Centre"/> held apart, where either side turned out to be composite: only copies go through both.
    /// Called once, when every node has been seen.
    /// </summary>
    public void JoinComposites()
    {
        // Joining may break up further spaces; what was joined once is one, or pinned.
        var joined = new HashSet<int>();
        for (int before = -1; before < joined.Count;)
        {
            before = joined.Count;
            for (int i = 0; i < _centred.Count; i++)
            {
                (AxisExpression normalized, AxisExpression result, Pin reason) = _centred[i];
                if ((Resolve(normalized) is not SpaceAxis || Resolve(result) is not SpaceAxis) && joined.Add(i))
                    Unify(normalized, result, reason);
            }
        }
    }

    /// <summary>Demands that no part of the axis is contracted: the values along it are used as they are.</summary>
    public void RequirePrimal(AxisExpression axis, Pin reason) => _primal.Add((axis, reason));

    /// <summary>Demands that new indices of the axis are copies of old ones.</summary>
    public void RequireCopies(AxisExpression axis, Pin reason) => _copies.Add((axis, reason));

    /// <summary>
    /// Demands that a weight's axis is only ever picked from: new indices are copies of old ones, and where the axis is contracted,
    /// each old index is read once and what is new with zeros.
    /// </summary>
    public void RequirePicks(AxisExpression axis, Pin reason) => _picks.Add((axis, reason));

    /// <summary>
    /// Turns the demands that rules left into facts about spaces. Called once, when every node has been seen, since a
    /// space may be broken up or contracted long after the demand was made.
    /// </summary>
    /// <summary>
    /// Makes two axes one. Where their expressions cannot be brought together, every space in both is pinned with
    /// <paramref name="reason"/>.
    /// </summary>
    public void Unify(AxisExpression left, AxisExpression right, Pin reason)
    {
        left = Resolve(left);
        right = Resolve(right);
        if (left.Equals(right))
            return;
        if (left.Size != right.Size || !TryUnify(left, right, reason))
        {
            Pin(left, reason);
            Pin(right, reason);
        }
    }

    private bool TryUnify(AxisExpression left, AxisExpression right, Pin reason)
    {
        switch (left, right)
        {
            case (FixedAxis, FixedAxis):
                return true;
            case (FixedAxis f, _):
                Pin(right, f.Pin);
                return true;
            case (_, FixedAxis f):
                Pin(left, f.Pin);
                return true;
            case (SpaceAxis l, SpaceAxis r):
                if (ReferenceEquals(l.Space, r.Space))
                    return l.Dual == r.Dual;
                // A weight's own axis becomes the dual of the space that values carry, never the other way round; between
                // equals the younger space gives way, so that ids stay those of the first producer.
                if (l.Dual != r.Dual ? r.Dual : r.Space.Id > l.Space.Id)
                    return Bind(r, l);
                return Bind(l, r);
            case (SpaceAxis l, _):
                return Bind(l, right);
            case (_, SpaceAxis r):
                return Bind(r, left);
            case (ProductAxis l, ProductAxis r):
                return UnifyProducts(l, r, reason);
            default:
                return UnifyPieces(left, right, reason);
        }
    }

    private bool Bind(SpaceAxis variable, AxisExpression value)
    {
        if (Leaves(value).Any(leaf => ReferenceEquals(leaf.Space, variable.Space)))
            return false;
        AxisExpression bound = variable.Dual ? Dualize(value) : value;
        variable.Space.Binding = bound;
        foreach (Pin pin in variable.Space.Pins)
            Pin(bound, pin);
        // A pinned leaf inside the value pins only itself: the rest of the composite may still change.
        return true;
    }

    private bool UnifyProducts(ProductAxis left, ProductAxis right, Pin reason)
    {
        // Try outermost first; where sizes do not divide that way round, innermost first may still fit.
        for (int end = 0; end < 2; end++)
        {
            bool outer = end == 0;
            AxisExpression l = outer ? left.Parts[0] : left.Parts[^1];
            AxisExpression r = outer ? right.Parts[0] : right.Parts[^1];
            if (l.Size == r.Size)
            {
                Unify(l, r, reason);
                Unify(Rest(left, outer), Rest(right, outer), reason);
                return true;
            }

            (AxisExpression large, ProductAxis largeWhole, ProductAxis smallWhole) = l.Size > r.Size ? (l, left, right) : (r, right, left);
            long small = Math.Min(l.Size, r.Size);
            if (large.Size % small != 0)
                continue;
            if (Factor(large, outer ? small : large.Size / small, reason) is not { } factors)
                continue;
            ImmutableArray<AxisExpression> parts = largeWhole.Parts;
            AxisExpression refined = outer
                ? new ProductAxis([factors.Outer, factors.Inner, .. parts.Skip(1)])
                : new ProductAxis([.. parts.Take(parts.Length - 1), factors.Outer, factors.Inner]);
            // The parts now line up at this end; products built here are not flattened so that they keep lining up.
            return UnifyProducts((ProductAxis)refined, smallWhole, reason);
        }

        return false;
    }

    private AxisExpression Rest(ProductAxis product, bool withoutFirst) =>
        Resolve(Product(withoutFirst ? product.Parts.Skip(1) : product.Parts.Take(product.Parts.Length - 1)));

    // At least one side is a concatenation: cut both at every boundary of either and unify piece by piece.
    private bool UnifyPieces(AxisExpression left, AxisExpression right, Pin reason)
    {
        var l = new Stack<AxisExpression>(Pieces(left).Reverse());
        var r = new Stack<AxisExpression>(Pieces(right).Reverse());
        while (l.Count > 0 && r.Count > 0)
        {
            AxisExpression a = Resolve(l.Pop());
            AxisExpression b = Resolve(r.Pop());
            if (a.Size != b.Size)
            {
                Stack<AxisExpression> longer = a.Size > b.Size ? l : r;
                AxisExpression cut = a.Size > b.Size ? a : b;
                if (SplitAt(cut, Math.Min(a.Size, b.Size), reason) is not { } halves)
                    return false;
                longer.Push(halves.Tail);
                if (a.Size > b.Size)
                    a = halves.Head;
                else
                    b = halves.Head;
            }

            Unify(a, b, reason);
        }

        return true;
    }

    private static IEnumerable<AxisExpression> Pieces(AxisExpression axis) =>
        axis is ConcatAxis concat ? concat.Parts : [axis];

    /// <summary>
    /// The axis as outer × inner with <paramref name="outer"/> outer indices, or null where its parts do not divide so
    /// (nothing is pinned then). Spaces are broken into products where needed.
    /// </summary>
    public (AxisExpression Outer, AxisExpression Inner)? Factor(AxisExpression axis, long outer, Pin reason)
    {
        axis = Resolve(axis);
        if (outer <= 0 || axis.Size % outer != 0)
            return null;
        long inner = axis.Size / outer;
        if (outer == 1)
            return (new FixedAxis(1, reason), axis);
        if (inner == 1)
            return (axis, new FixedAxis(1, reason));
        switch (axis)
        {
            case FixedAxis f:
                return (f with { Size = outer }, f with { Size = inner });
            case SpaceAxis s:
                AxisExpression first = Fresh(outer, reason), second = Fresh(inner, reason);
                Bind(s, new ProductAxis(s.Dual ? [Dualize(first), Dualize(second)] : [first, second]));
                return s.Dual ? (Dualize(first), Dualize(second)) : (first, second);
            case ProductAxis p:
                var taken = new List<AxisExpression>();
                long need = outer;
                for (int i = 0; i < p.Parts.Length; i++)
                {
                    AxisExpression part = p.Parts[i];
                    if (need % part.Size == 0)
                    {
                        taken.Add(part);
                        need /= part.Size;
                        if (need == 1)
                            return (Product(taken), Product(p.Parts.Skip(i + 1)));
                        continue;
                    }

                    if (Factor(part, need, reason) is not { } cut)
                        return null;
                    taken.Add(cut.Outer);
                    return (Product(taken), Product([cut.Inner, .. p.Parts.Skip(i + 1)]));
                }

                return null;
            default:
                // A concatenation is a product only where it repeats itself: k equal chunks are k × chunk.
                AxisExpression rest = axis;
                var chunks = new List<AxisExpression>();
                while (rest.Size > inner)
                {
                    if (SplitAt(rest, inner, reason) is not { } halves)
                        return null;
                    chunks.Add(halves.Head);
                    rest = halves.Tail;
                }

                foreach (AxisExpression chunk in chunks)
                    Unify(chunk, rest, reason);
                return (new FixedAxis(outer, reason), Resolve(rest));
        }
    }

    /// <summary>
    /// The axis cut in two at <paramref name="position"/>, or null where it cannot be cut there (nothing is pinned then).
    /// </summary>
    public (AxisExpression Head, AxisExpression Tail)? SplitAt(AxisExpression axis, long position, Pin reason)
    {
        axis = Resolve(axis);
        if (position < 0 || position > axis.Size)
            return null;
        if (position == 0)
            return (new FixedAxis(0, reason), axis);
        if (position == axis.Size)
            return (axis, new FixedAxis(0, reason));
        switch (axis)
        {
            case FixedAxis f:
                return (f with { Size = position }, f with { Size = f.Size - position });
            case SpaceAxis s:
                AxisExpression head = Fresh(position, reason), tail = Fresh(s.Size - position, reason);
                Bind(s, s.Dual ? Concat([Dualize(head), Dualize(tail)]) : Concat([head, tail]));
                return s.Dual ? (Dualize(head), Dualize(tail)) : (head, tail);
            case ConcatAxis c:
                long before = 0;
                for (int i = 0; i < c.Parts.Length; i++)
                {
                    AxisExpression part = c.Parts[i];
                    if (before + part.Size <= position)
                    {
                        before += part.Size;
                        continue;
                    }

                    if (SplitAt(part, position - before, reason) is not { } cut)
                        return null;
                    return (Concat([.. c.Parts.Take(i), cut.Head]), Concat([cut.Tail, .. c.Parts.Skip(i + 1)]));
                }

                return null;
            default:
                var product = (ProductAxis)axis;
                long inner = product.Size / product.Parts[0].Size;
                if (position % inner != 0 || SplitAt(product.Parts[0], position / inner, reason) is not { } outerCut)
                    return null;
                IEnumerable<AxisExpression> others = product.Parts.Skip(1);
                return (Product([outerCut.Head, .. others]), Product([outerCut.Tail, .. others]));
        }
    }

    /// <summary>
    /// Turns the demands that rules left into facts about spaces. Called once, when every node has been seen, since a
    /// space may be broken up or contracted long after the demand was made.
    /// </summary>
    public void Settle()
    {
        foreach ((AxisExpression axis, Pin reason) in _primal)
            foreach (SpaceAxis leaf in Leaves(axis))
                if (leaf.Dual)
                    leaf.Space.AddPin(reason);
        foreach ((AxisExpression axis, Pin reason) in _picks)
        {
            foreach (SpaceAxis leaf in FreeLeaves(axis))
            {
                leaf.Space.IsPicked = true;
                if (leaf.Dual)
                    leaf.Space.PicksOnly ??= reason;
                else
                    leaf.Space.CopiesOnly ??= reason;
            }
        }

        foreach ((AxisExpression axis, Pin reason) in _copies)
            foreach (SpaceAxis leaf in FreeLeaves(axis))
                leaf.Space.CopiesOnly ??= reason;
        foreach ((AxisExpression axis, NewChannels kinds, Pin reason) in _forbidden)
        {
            // What is contracted holds shares of the old channels, whatever the new ones are.
            foreach (SpaceAxis leaf in FreeLeaves(axis).Where(leaf => !leaf.Dual))
            {
                if (kinds.HasFlag(NewChannels.Zero))
                    leaf.Space.NoZeros ??= reason;
                if (kinds.HasFlag(NewChannels.Mean))
                    leaf.Space.NoMeans ??= reason;
            }
        }

        // Joining may pin spaces that another demand counted on, so go on until nothing changes.
        bool changed = true;
        while (changed)
        {
            changed = false;
            foreach ((AxisExpression axis, NewChannels alternatives, Pin reason) in _uniform)
                changed |= SettleUniform(axis, alternatives, reason);
            foreach ((AxisExpression normalized, AxisExpression result, Pin reason) in _centred)
                changed |= SettleCentred(Resolve(normalized), Resolve(result), reason);
            changed |= SettlePairs();
        }

        SettleFillings();
    }

    private bool SettleUniform(AxisExpression axis, NewChannels alternatives, Pin reason)
    {
        bool changed = false;
        switch (Resolve(axis))
        {
            case SpaceAxis s when s.Space.Pins.Count == 0:
                changed = MakeUniform(s.Space, alternatives, reason);
                break;
            case ProductAxis p:
                foreach (AxisExpression part in p.Parts)
                    changed |= SettleUniform(part, alternatives, reason);
                break;
            case ConcatAxis c:
                changed |= SettleUniformConcat(c, reason);
                break;
        }

        return changed;
    }

    private static bool MakeUniform(Space space, NewChannels alternatives, Pin reason)
    {
        bool changed = false;
        if (space.Uniform is null)
        {
            space.Uniform = space;
            space.UniformReason = reason;
            space.Alternatives = NewChannels.Zero | NewChannels.Mean;
            changed = true;
        }

        if ((space.Alternatives & alternatives) != space.Alternatives)
        {
            space.Alternatives &= alternatives;
            changed = true;
        }

        return changed;
    }

    private static bool Join(Space left, Space right)
    {
        Space a = UniformRoot(left), b = UniformRoot(right);
        if (ReferenceEquals(a, b))
            return false;
        (a.Id < b.Id ? b : a).Uniform = a.Id < b.Id ? a : b;
        return true;
    }

    // What is pinned on one side of a normalisation is pinned on the other.
    private static bool SettleCentred(AxisExpression normalized, AxisExpression result, Pin reason)
    {
        if (normalized is not SpaceAxis from || result is not SpaceAxis to || ReferenceEquals(from.Space, to.Space))
            return false;
        bool changed = false;
        foreach ((Space one, Space other) in ((Space, Space)[])[(from.Space, to.Space), (to.Space, from.Space)])
            if (one.Pins.Count > 0 && other.Pins.Count == 0)
                changed |= other.AddPin(one.Pins[0]);
        if (from.Space.Pins.Count > 0)
            return changed;
        const NewChannels Any = NewChannels.Zero | NewChannels.Mean;
        changed |= MakeUniform(from.Space, Any, reason) | MakeUniform(to.Space, Any, reason) | Join(from.Space, to.Space);
        from.Space.Role |= NewChannels.Mean;
        to.Space.Role |= NewChannels.Zero;
        return changed;
    }

    // A space that is in a product with itself, must be copied, or whose partner may not change, may not change either.
    private bool SettlePairs()
    {
        bool changed = false;
        foreach ((AxisExpression left, AxisExpression right, Pin reason) in _paired)
        {
            if (Resolve(left) is not SpaceAxis { Dual: false } l || Resolve(right) is not SpaceAxis { Dual: false } r || ReferenceEquals(l.Space, r.Space))
            {
                foreach (SpaceAxis leaf in FreeLeaves(left).Concat(FreeLeaves(right)).ToList())
                    changed |= leaf.Space.AddPin(reason);
                continue;
            }

            foreach ((Space one, Space other) in ((Space, Space)[])[(l.Space, r.Space), (r.Space, l.Space)])
            {
                if (one.Pins.Count == 0 && (one.Uniform is not null || one.CopiesOnly is not null || one.PicksOnly is not null))
                    changed |= one.AddPin(reason);
                if (one.Pins.Count > 0 && other.Pins.Count == 0)
                    changed |= other.AddPin(one.Pins.Contains(reason) ? reason : one.Pins[0]);
            }

            if (l.Space.Pins.Count > 0)
                continue;
            Space a = l.Space.Paired ??= l.Space, b = r.Space.Paired ??= r.Space;
            if (ReferenceEquals(a, b))
                continue;
            foreach (Space space in Spaces)
                if (ReferenceEquals(space.Paired, b))
                    space.Paired = a;
            changed = true;
        }

        // Zeros on one side, values of the child's own on the other: on whichever side zeros stay zeros.
        foreach (var family in Spaces.Where(s => s.Paired is not null && s.Pins.Count == 0).GroupBy(s => s.Paired!).ToList())
        {
            var pairs = _paired.Select(p => (Left: Resolve(p.Left), Right: Resolve(p.Right), p.Reason))
                .Where(p => p.Left is SpaceAxis s && ReferenceEquals(s.Space.Paired, family.Key))
                .Select(p => (Left: ((SpaceAxis)p.Left).Space, Right: ((SpaceAxis)p.Right).Space, p.Reason)).ToList();
            HashSet<Space> lefts = [.. pairs.Select(p => p.Left)], rights = [.. pairs.Select(p => p.Right)];
            HashSet<Space>? zeros = lefts.Overlaps(rights) ? null
                : lefts.All(s => s.NoZeros is null) ? lefts
                : rights.All(s => s.NoZeros is null) ? rights : null;
            foreach (Space space in family)
            {
                if (zeros is null)
                    changed |= space.AddPin(pairs[0].Reason);
                else
                    space.Filling = zeros.Contains(space) ? NewChannels.Zero : NewChannels.Own;
            }
        }

        return changed;
    }

    // A family grows by anything but whole copies only if each of its spaces has a way to; sizes that differ have no common one.
    private void SettleFillings()
    {
        foreach (var family in Spaces.Where(s => s.Uniform is not null && s.Pins.Count == 0).GroupBy(UniformRoot))
        {
            var fillings = family.Select(space => (Space: space, Filling: Filling(space, _ => true))).ToList();
            bool grows = fillings.All(f => f.Filling is not null) && family.Select(s => s.Size).Distinct().Count() == 1;
            foreach ((Space space, NewChannels? filling) in fillings)
                space.Filling = grows ? filling : null;
        }
    }

    /// <summary>What indices that copy nothing may hold in a space of a norm, by itself; null where nothing.</summary>
    /// <param name="space">The space.</param>
    /// <param name="counts">Whether a node stands in the way through which zeros or means do not go as they are.</param>
    internal static NewChannels? Filling(Space space, Func<Pin, bool> counts)
    {
        NewChannels possible = space.CopiesOnly is not null || space.PicksOnly is not null ? NewChannels.None : space.Alternatives;
        if (space.NoZeros is { } zeros && counts(zeros))
            possible &= ~NewChannels.Zero;
        if (space.NoMeans is { } means && counts(means))
            possible &= ~NewChannels.Mean;
        if (space.Role != NewChannels.None)
            return (space.Role & possible) == space.Role && space.Role is NewChannels.Zero or NewChannels.Mean ? space.Role : null;
        return possible.HasFlag(NewChannels.Zero) ? NewChannels.Zero : possible.HasFlag(NewChannels.Mean) ? NewChannels.Mean : null;
    }

    // A mean over a concatenation is kept only when all its parts are replicated equally often: by the one space that may
    // change in each part.
    private bool SettleUniformConcat(ConcatAxis concat, Pin reason)
    {
        bool changed = false;
        var perPart = concat.Parts.Select(part => FreeLeaves(part).Select(leaf => leaf.Space).Distinct().ToList()).ToList();
        if (perPart.Any(spaces => spaces.Count == 0))
        {
            foreach (Space space in perPart.SelectMany(spaces => spaces))
                changed |= space.AddPin(reason);
            return changed;
        }

        foreach (Space extra in perPart.SelectMany(spaces => spaces.Skip(1)).Except(perPart.Select(spaces => spaces[0])))
            changed |= extra.AddPin(reason);
        foreach (Space space in perPart.Select(spaces => spaces[0]))
        {
            changed |= MakeUniform(space, NewChannels.None, reason);
            changed |= Join(space, perPart[0][0]);
        }

        return changed;
    }

    /// <summary>The representative of the spaces that are replicated together with <paramref name="space"/>.</summary>
    public static Space UniformRoot(Space space)
    {
        while (space.Uniform is { } up && !ReferenceEquals(up, space))
            space = up;
        return space;
    }
}
