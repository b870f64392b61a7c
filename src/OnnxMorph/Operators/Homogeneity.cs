namespace OnnxMorph.Operators;

/// <summary>
/// How a positively homogeneous operator answers to positive factors on its inputs, f(c₁x₁, c₂x₂, …) = Π cᵢ^dᵢ · f(x₁, x₂, …): every result
/// carries the product of the factors of <paramref name="Factors"/>, each to its degree; what is added must carry that factor itself; and
/// whatever floating-point input is in neither list must carry 1.
/// </summary>
/// <param name="Factors">Inputs whose factors are multiplied, with their degrees.</param>
/// <param name="Added">Inputs that are added to the result or stand in it: they carry the result's own factor.</param>
public sealed record Homogeneity(IReadOnlyList<(int Input, double Degree)> Factors, IReadOnlyList<int> Added)
{
    /// <summary>f(c·x) = cᵈ·f(x) in the first input.</summary>
    public static Homogeneity Of(double degree = 1) => new([(0, degree)], []);

    /// <summary>All inputs side by side: sums, maxima, concatenations.</summary>
    public static Homogeneity Sum(int inputs) => new([], [.. Enumerable.Range(0, inputs)]);

    /// <summary>A product of the first two inputs, with further ones added to it.</summary>
    public static Homogeneity Product(params int[] added) => new([(0, 1), (1, 1)], added);
}
