using OnnxMorph.Axes;
using Xunit;

namespace OnnxMorph.Tests.Axes;

public class AxisSolverTests
{
    private static readonly Pin s_why = new("test", "it does not fit");

    private readonly AxisSolver _solver = new();

    private AxisExpression New(long size) => _solver.Fresh(size, s_why);

    private static AxisExpression Fixed(long size) => new FixedAxis(size, s_why);

    private string Text(AxisExpression axis) => _solver.Resolve(axis).ToString()!;

    private bool IsPinned(AxisExpression axis) => _solver.Leaves(axis).Any() && !_solver.FreeLeaves(axis).Any();

    [Fact]
    public void EqualSpacesBecomeTheOlderOne()
    {
        AxisExpression a = New(6), b = New(6);
        _solver.Unify(b, a, s_why);
        Assert.Equal("s0[6]", Text(b));
        Assert.Equal("s0[6]*", Text(AxisSolver.Dualize(b)));
        Assert.Single(_solver.Spaces);
    }

    [Fact]
    public void AWeightsAxisBecomesTheDualOfTheValues()
    {
        AxisExpression weight = New(6), value = New(6);
        _solver.Unify(value, AxisSolver.Dualize(weight), s_why);
        Assert.Equal("s1[6]*", Text(weight));
        Assert.Equal("s1[6]", Text(value));
        // The same the other way round.
        AxisExpression weight2 = New(6);
        _solver.Unify(AxisSolver.Dualize(weight2), value, s_why);
        Assert.Equal("s1[6]*", Text(weight2));
    }

    [Fact]
    public void NothingIsItsOwnDual()
    {
        AxisExpression a = New(6);
        _solver.Unify(a, AxisSolver.Dualize(a), s_why);
        Assert.True(IsPinned(a));
    }

    [Fact]
    public void AFixedAxisFixesWithItsReason()
    {
        AxisExpression a = New(6);
        _solver.Unify(a, new FixedAxis(6, new Pin("elsewhere", "callers give it")), s_why);
        Assert.Equal("elsewhere: callers give it", Assert.Single(((SpaceAxis)a).Space.Pins).ToString());
    }

    [Fact]
    public void OtherSizesDoNotUnify()
    {
        AxisExpression a = New(6), b = New(4);
        _solver.Unify(a, b, s_why);
        Assert.True(IsPinned(a) && IsPinned(b));
    }

    [Fact]
    public void PinsFollowABinding()
    {
        AxisExpression whole = New(12);
        _solver.Pin(whole, s_why);
        (AxisExpression outer, AxisExpression inner) = _solver.Factor(whole, 3, s_why)!.Value;
        Assert.True(IsPinned(outer) && IsPinned(inner));
    }

    [Fact]
    public void FactorsOfASpace()
    {
        AxisExpression whole = New(12);
        (AxisExpression outer, AxisExpression inner) = _solver.Factor(whole, 3, s_why)!.Value;
        Assert.Equal("(s1[3]×s2[4])", Text(whole));
        // Factored again elsewhere, it is the same parts; finer, they are broken up.
        Assert.Equal((outer, inner), _solver.Factor(whole, 3, s_why)!.Value);
        (AxisExpression six, AxisExpression two) = _solver.Factor(whole, 6, s_why)!.Value;
        Assert.Equal("(s1[3]×s3[2]×s4[2])", Text(whole));
        Assert.Equal("(s1[3]×s3[2])", Text(six));
        Assert.Equal("s4[2]", Text(two));
        // Parts that do not divide so.
        Assert.Null(_solver.Factor(whole, 2, s_why));
        Assert.Null(_solver.Factor(whole, 5, s_why));
        Assert.Null(_solver.Factor(whole, 0, s_why));
        Assert.False(IsPinned(whole));
        // A dual has dual factors.
        Assert.Equal("s1[3]*", Text(_solver.Factor(AxisSolver.Dualize(whole), 3, s_why)!.Value.Outer));
        // All and nothing.
        Assert.Equal(12, _solver.Factor(whole, 12, s_why)!.Value.Outer.Size);
        Assert.Equal("1", Text(_solver.Factor(whole, 1, s_why)!.Value.Outer));
    }

    [Fact]
    public void AConcatenationFactorsWhereItRepeats()
    {
        AxisExpression a = New(4), b = New(4), c = New(4);
        (AxisExpression outer, AxisExpression inner) = _solver.Factor(AxisSolver.Concat([a, b, c]), 3, s_why)!.Value;
        Assert.Equal("3", Text(outer));
        Assert.Equal(Text(a), Text(inner));
        Assert.Equal(Text(a), Text(b));
        Assert.Equal(Text(a), Text(c));
    }

    [Fact]
    public void Splits()
    {
        AxisExpression whole = New(10);
        (AxisExpression head, AxisExpression tail) = _solver.SplitAt(whole, 4, s_why)!.Value;
        Assert.Equal("(s1[4]+s2[6])", Text(whole));
        Assert.Equal((head, tail), _solver.SplitAt(whole, 4, s_why)!.Value);
        (AxisExpression first, AxisExpression rest) = _solver.SplitAt(whole, 7, s_why)!.Value;
        Assert.Equal("(s1[4]+s3[3]+s4[3])", Text(whole));
        Assert.Equal("(s1[4]+s3[3])", Text(first));
        Assert.Equal("s4[3]", Text(rest));
        Assert.Null(_solver.SplitAt(whole, 11, s_why));
        Assert.Null(_solver.SplitAt(whole, -1, s_why));
        Assert.Equal(0, _solver.SplitAt(whole, 0, s_why)!.Value.Head.Size);
        Assert.Equal(0, _solver.SplitAt(whole, 10, s_why)!.Value.Tail.Size);
        // A product splits between its outermost indices only.
        AxisExpression heads = New(3), size = New(4), product = AxisSolver.Product([heads, size]);
        Assert.Null(_solver.SplitAt(product, 6, s_why));
        (AxisExpression two, AxisExpression one) = _solver.SplitAt(product, 8, s_why)!.Value;
        Assert.Equal(Text(AxisSolver.Product([_solver.SplitAt(heads, 2, s_why)!.Value.Head, size])), Text(two));
        Assert.Equal(Text(size), Text(one));
    }

    [Fact]
    public void ProductsUnifyFromEitherEnd()
    {
        // (a[2]×b[6]) = (c[4]×d[3]): b must be (2×3), c (2×2).
        AxisExpression a = New(2), b = New(6), c = New(4), d = New(3);
        AxisExpression left = AxisSolver.Product([a, b]), right = AxisSolver.Product([c, d]);
        _solver.Unify(left, right, s_why);
        Assert.Equal(Text(left), Text(right));
        Assert.Equal([2, 2, 3], _solver.Leaves(left).Select(l => l.Size));
        Assert.False(IsPinned(left));

        // (a[4]×3) = (3×b[4]): outermost first does not divide, nor does innermost.
        a = New(4);
        b = New(4);
        _solver.Unify(AxisSolver.Product([a, Fixed(3)]), AxisSolver.Product([Fixed(3), b]), s_why);
        Assert.True(IsPinned(a) && IsPinned(b));

        // (a[3]×b[4]) = (c[2]×d[3]×e[2]): 3 and 2 do not divide, but from the inside 4 is (2×2), and then 3 = …
        a = New(3);
        b = New(4);
        c = New(6);
        d = New(2);
        _solver.Unify(AxisSolver.Product([a, b]), AxisSolver.Product([c, d]), s_why);
        Assert.Equal(Text(AxisSolver.Product([a, b])), Text(AxisSolver.Product([c, d])));
        Assert.Equal([3, 2, 2], _solver.Leaves(AxisSolver.Product([a, b])).Select(l => l.Size));
    }

    [Fact]
    public void ConcatenationsUnifyPieceByPiece()
    {
        AxisExpression a = New(4), b = New(6), c = New(3), d = New(7);
        AxisExpression left = AxisSolver.Concat([a, b]), right = AxisSolver.Concat([c, d]);
        _solver.Unify(left, right, s_why);
        Assert.Equal(Text(left), Text(right));
        Assert.Equal([3, 1, 6], Sizes(left));

        // Three times the same: (3×h) = (a+b+c) makes all parts h.
        AxisExpression h = New(5), x = New(5), y = New(5), z = New(5);
        _solver.Unify(AxisSolver.Product([Fixed(3), h]), AxisSolver.Concat([x, y, z]), s_why);
        Assert.Equal([Text(h), Text(h), Text(h)], new[] { Text(x), Text(y), Text(z) });

        // A product cannot be cut inside.
        AxisExpression p = AxisSolver.Product([New(2), New(3)]);
        AxisExpression q = AxisSolver.Concat([New(4), New(2)]);
        _solver.Unify(p, q, s_why);
        Assert.True(IsPinned(p) && IsPinned(q));

        IEnumerable<long> Sizes(AxisExpression axis) => ((ConcatAxis)_solver.Resolve(axis)).Parts.Select(part => part.Size);
    }

    [Fact]
    public void NothingContainsItself()
    {
        AxisExpression a = New(6);
        (AxisExpression outer, _) = _solver.Factor(a, 3, s_why)!.Value;
        AxisExpression other = AxisSolver.Product([Fixed(2), outer]);
        _solver.Unify(a, other, s_why);
        // (s1×s2) = (2×s1) has no solution that grows.
        Assert.True(IsPinned(a));
    }

    [Fact]
    public void DemandsReachTheParts()
    {
        AxisExpression a = New(4), b = New(6), c = New(5), d = New(3), e = New(2);
        _solver.RequireUniform(AxisSolver.Concat([a, b]), s_why);
        _solver.RequireCopies(c, s_why);
        _solver.RequirePrimal(AxisSolver.Dualize(d), s_why);
        _solver.RequireUniform(AxisSolver.Concat([e, Fixed(3)]), s_why);
        _solver.Settle();
        Assert.Same(AxisSolver.UniformRoot(Space(a)), AxisSolver.UniformRoot(Space(b)));
        Assert.NotNull(Space(a).UniformReason);
        Assert.Null(Space(a).Filling);
        Assert.NotNull(Space(c).CopiesOnly);
        Assert.Null(Space(c).Uniform);
        Assert.True(IsPinned(d));
        Assert.True(IsPinned(e));
        Assert.False(IsPinned(a));
        // Pinned later, one part of a mean fixes the others.
        _solver.Pin(a, s_why);
        _solver.Settle();
        Assert.True(IsPinned(b));

        static Space Space(AxisExpression axis) => ((SpaceAxis)axis).Space;
    }

    /// <summary>
    /// Random equations between random expressions, solved; then every space that is left gets a random pick map, and both sides
    /// of every equation must have the same map, index by index: it is computed here by walking over indices.
    /// </summary>
    [Fact]
    public void SolutionsHoldForAnyMaps()
    {
        for (int seed = 0; seed < 3000; seed++)
        {
            var random = new Random(seed);
            var solver = new AxisSolver();
            var pool = new List<AxisExpression>();
            for (int i = 0; i < 5; i++)
                pool.Add(Random(solver, random, 24, 0));
            var equations = new List<(AxisExpression, AxisExpression)>();
            for (int i = 0; i < 4; i++)
            {
                AxisExpression left = pool[random.Next(pool.Count)], right = pool[random.Next(pool.Count)];
                switch (random.Next(3))
                {
                    case 0 when solver.Factor(left, Divisor(random, left.Size), s_why) is { } factors:
                        equations.Add((left, AxisSolver.Product([solver.Resolve(factors.Outer), solver.Resolve(factors.Inner)])));
                        break;
                    case 1 when solver.SplitAt(left, random.Next((int)left.Size + 1), s_why) is { } halves:
                        equations.Add((left, AxisSolver.Concat([solver.Resolve(halves.Head), solver.Resolve(halves.Tail)])));
                        break;
                    default:
                        solver.Unify(left, right, s_why);
                        equations.Add((left, right));
                        break;
                }
            }

            // A space and its dual get maps of their own: the solution may not depend on what these have to do with each other.
            var maps = solver.Spaces.Where(s => s.Pins.Count == 0).SelectMany(s => new[] { (s, false), (s, true) }).ToDictionary(s => s, s => Pick(random, s.s.Size));
            foreach ((AxisExpression left, AxisExpression right) in equations)
                Assert.True(Map(solver, maps, left).SequenceEqual(Map(solver, maps, right)), $"seed {seed}: {solver.Resolve(left)} = {solver.Resolve(right)}");
        }
    }

    private static long Divisor(Random random, long size)
    {
        long[] divisors = [.. Enumerable.Range(1, (int)size).Where(d => size % d == 0).Select(d => (long)d)];
        return divisors[random.Next(divisors.Length)];
    }

    private static AxisExpression Random(AxisSolver solver, Random random, long size, int depth)
    {
        int kind = depth > 2 ? 0 : random.Next(4);
        if (kind == 1 && size > 1)
        {
            long outer = Divisor(random, size);
            return AxisSolver.Product([Random(solver, random, outer, depth + 1), Random(solver, random, size / outer, depth + 1)]);
        }

        if (kind == 2 && size > 1)
        {
            long head = random.Next(1, (int)size);
            return AxisSolver.Concat([Random(solver, random, head, depth + 1), Random(solver, random, size - head, depth + 1)]);
        }

        AxisExpression axis = random.Next(8) == 0 ? new FixedAxis(size, s_why) : solver.Fresh(size, s_why);
        return random.Next(6) == 0 ? AxisSolver.Dualize(axis) : axis;
    }

    private static int[] Pick(Random random, int size) => [.. Enumerable.Range(0, random.Next(1, 2 * size)).Select(_ => random.Next(size))];

    private static int[] Map(AxisSolver solver, Dictionary<(Space, bool), int[]> maps, AxisExpression axis)
    {
        switch (solver.Resolve(axis))
        {
            case SpaceAxis s when maps.TryGetValue((s.Space, s.Dual), out int[]? picks):
                return picks;
            case ProductAxis p:
                int[] product = [0];
                foreach (AxisExpression part in p.Parts)
                    product = [.. product.SelectMany(o => Map(solver, maps, part).Select(i => o * (int)part.Size + i))];
                return product;
            case ConcatAxis c:
                var joined = new List<int>();
                int offset = 0;
                foreach (AxisExpression part in c.Parts)
                {
                    joined.AddRange(Map(solver, maps, part).Select(i => i + offset));
                    offset += (int)part.Size;
                }

                return [.. joined];
            default:
                return [.. Enumerable.Range(0, (int)axis.Size)];
        }
    }
}
