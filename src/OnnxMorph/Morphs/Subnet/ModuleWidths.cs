namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Channels of a module's values where nothing but the module says what they are: operands of sums have as many as each other, the parts
/// of a concatenation as many as the whole together, layers as many as they name. Parts that share a known sum share it evenly, and what
/// stays open has the larger of the module's two ends.
/// </summary>
internal static class ModuleWidths
{
    /// <summary>The channels of each value, all groups together.</summary>
    /// <param name="module">The module.</param>
    /// <param name="inputs">Channels of its input.</param>
    /// <param name="outputs">Channels of its result.</param>
    /// <param name="groups">What the channels of layers are multiples of.</param>
    /// <exception cref="SubnetRefusedException">The numbers do not fit together.</exception>
    public static long[] Of(Module module, long inputs, long outputs, int groups)
    {
        int count = module.Result + 1;
        // Values of equal width have one representative.
        int[] like = [.. Enumerable.Range(0, count)];
        for (int value = 1; value < count; value++)
            if (module.Producer(value) is ModuleActivation or ModuleSum)
                foreach (int input in module.Producer(value).Inputs)
                    Join(input, value);
        var widths = new long?[count];
        Set(0, inputs);
        Set(module.Result, outputs);
        foreach (int value in module.Layers)
            if (((ModuleLayer)module.Producer(value)).Channels is { } width)
                Set(value, (width + groups - 1) / groups * groups);
        do
        {
            while (Concats().Any(Settle))
            {
            }
        }
        while (SetOpen());

        if (module.Layers.FirstOrDefault(value => widths[Root(value)] % groups != 0, -1) is var uneven and >= 0)
            throw new SubnetRefusedException($"a layer of the module would have {widths[Root(uneven)]} channels in {groups} groups");
        return [.. Enumerable.Range(0, count).Select(value => widths[Root(value)]!.Value)];

        IEnumerable<int> Concats() => Enumerable.Range(1, module.Result).Where(value => module.Producer(value) is ModuleConcat);

        bool Settle(int value)
        {
            var parts = module.Producer(value).Inputs;
            long known = parts.Sum(p => widths[Root(p)] ?? 0);
            int open = parts.Count(p => widths[Root(p)] is null);
            if (open == 0)
                return Set(value, known);
            if (widths[Root(value)] is not { } whole)
                return false;
            int next = parts.First(p => widths[Root(p)] is null);
            return Set(next, Math.Max(1, (whole - known) / open));
        }

        bool SetOpen()
        {
            int open = module.Layers.FirstOrDefault(value => widths[Root(value)] is null, -1);
            return open >= 0 && Set(open, Math.Max(inputs, outputs));
        }

        bool Set(int value, long width)
        {
            if (widths[Root(value)] is { } known && known != width)
                throw new SubnetRefusedException($"a value of the module would have both {known} and {width} channels");
            bool news = widths[Root(value)] is null;
            widths[Root(value)] = width;
            return news;
        }

        int Root(int value)
        {
            while (like[value] != value)
                value = like[value];
            return value;
        }

        void Join(int a, int b) => like[Root(a)] = Root(b);
    }
}
