using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>
/// Moves floating-point values by one rounding unit. Every operation downstream then rounds afresh, so that the outputs
/// of a perturbed run differ from the others as two independent roundings of the same computation do (Vignes' CESTAC
/// method applies the same idea to every operation).
/// </summary>
internal static class Perturbation
{
    private const long PerturbedBytes = 16L << 20;

    /// <summary>Every finite nonzero element replaced by its next representable neighbour above or below, at random.</summary>
    public static TensorData ByOneUnit(TensorData data, Random random)
    {
        if (!data.IsFloat)
            return data;
        var result = new TensorData(data.Type, data.Shape, (byte[])data.Bytes.Clone());
        switch (data.Type)
        {
            case ElementType.Float32:
                foreach (ref uint bits in result.Values<uint>())
                    bits = Step(bits, 0x7F800000, random);
                break;
            case ElementType.Float64:
                foreach (ref ulong bits in result.Values<ulong>())
                    bits = Step(bits, 0x7FF0000000000000, random);
                break;
            default:
                ushort infinity = data.Type == ElementType.Float16 ? (ushort)0x7C00 : (ushort)0x7F80;
                foreach (ref ushort bits in result.Values<ushort>())
                    bits = (ushort)Step(bits, infinity, random, 0x8000);
                break;
        }

        return result;
    }

    /// <summary>All inputs perturbed.</summary>
    public static IReadOnlyDictionary<string, TensorData> ByOneUnit(IReadOnlyDictionary<string, TensorData> inputs, Random random) =>
        inputs.ToDictionary(input => input.Key, input => ByOneUnit(input.Value, random));

    /// <summary>The first weights of a model, perturbed: for models whose inputs have no rounding unit to move by.</summary>
    public static IEnumerable<(string Name, TensorData Data)> OfWeights(IModelProbe probe, string modelPath, Random random) =>
        probe.FloatInitializers(modelPath, PerturbedBytes)
            .Select(weight => (weight.Name, ByOneUnit(new TensorData(weight.Type, [.. weight.Shape], weight.Bytes), random)));

    private static ulong Step(ulong bits, ulong infinity, Random random, ulong sign = 1UL << 63)
    {
        ulong magnitude = bits & (sign - 1);
        if (magnitude == 0 || magnitude >= infinity)
            return bits;
        ulong stepped = (random.Next() & 1) == 0 ? magnitude - 1 : magnitude + 1;
        return (bits & sign) | (stepped >= infinity ? magnitude - 1 : stepped);
    }

    private static uint Step(uint bits, uint infinity, Random random) => (uint)Step(bits, infinity, random, 1U << 31);
}
