using OnnxMorph.Alignment;

namespace OnnxMorph.Benchmarks;

/// <summary>Outlines of convolutional networks as they come out of exporters, made without models.</summary>
internal static class SyntheticNetworks
{
    /// <summary>EfficientNet with its norms folded (Tan and Le 2019, table 1), its width and depth scaled.</summary>
    public static NetworkOutline EfficientNet(double width, double depth) => Inverted(width, depth, [
        (1, 3, 16, 1), (6, 3, 24, 2), (6, 5, 40, 2), (6, 3, 80, 3), (6, 5, 112, 3), (6, 5, 192, 4), (6, 3, 320, 1)], 32, 1280, true, false);

    /// <summary>A network of random kind, depth and width.</summary>
    public static NetworkOutline Draw(Random random) => random.Next(3) switch
    {
        0 => ResNet(random),
        1 => Inverted(0.5 + random.NextDouble() * 1.5, 0.7 + random.NextDouble() * 1.5,
            [.. Enumerable.Range(0, random.Next(5, 8)).Select(i => (i == 0 ? 1 : random.Next(3, 7), 3 + 2 * random.Next(2), 16 + 8 * random.Next(i * i + 1) + 16 * i, random.Next(1, 4)))],
            32, random.Next(2) == 0 ? 1280 : 1536, random.Next(2) == 0, random.Next(2) == 0),
        _ => EfficientNet(0.5 + random.NextDouble() * 1.5, 0.8 + random.NextDouble() * 1.4),
    };

    private static NetworkOutline ResNet(Random random)
    {
        bool bottleneck = random.Next(2) == 0, norms = random.Next(2) == 0;
        long width = 8 * random.Next(4, 17), channels = width;
        var network = new Builder(norms);
        network.Stem(channels, 3, 7);
        for (int stage = 0; stage < 4; stage++, width *= 2)
        {
            int blocks = random.Next(2, stage == 2 ? 16 : 6);
            long inner = 8 * Math.Max(1, width * random.Next(6, 11) / 80), outer = bottleneck ? 4 * width : width;
            for (int block = 0; block < blocks; block++)
            {
                network.Block(stage, bottleneck
                    ? [(inner, channels, 1), (inner, inner, 3), (outer, inner, 1), .. Shortcut(block == 0)]
                    : [(inner, channels, 3), (outer, inner, 3), .. Shortcut(block == 0 && stage > 0)]);
                channels = outer;

                (long, long, int)[] Shortcut(bool there) => there ? [(outer, channels, 1)] : [];
            }
        }

        return network.Head(channels, 0, random.Next(4) == 0 ? random.Next(2, 1000) : 1000);
    }

    private static NetworkOutline Inverted(double width, double depth, (int Expand, int Kernel, int Channels, int Blocks)[] stages, int stem, int head, bool squeeze, bool norms)
    {
        long Round(double channels) => Math.Max(8, (long)(channels + 4) / 8 * 8) is var rounded && rounded < 0.9 * channels ? rounded + 8 : rounded;
        var network = new Builder(norms);
        long channels = Round(stem * width);
        network.Stem(channels, 3, 3);
        for (int stage = 0; stage < stages.Length; stage++)
        {
            (int expand, int kernel, int size, int blocks) = stages[stage];
            long outer = Round(size * width);
            for (int block = 0; block < Math.Ceiling(blocks * depth); block++)
            {
                long inner = channels * expand, reduced = Math.Max(1, channels / 4);
                network.Block(stage, [
                    .. expand == 1 ? (ReadOnlySpan<(long, long, int)>)[] : [(inner, channels, 1)], (inner, 1, kernel),
                    .. squeeze ? (ReadOnlySpan<(long, long, int)>)[(reduced, inner, -1), (inner, reduced, -1)] : [], (outer, inner, 1)]);
                channels = outer;
            }
        }

        return network.Head(channels, Round(head * width), 1000);
    }

    private sealed class Builder(bool norms)
    {
        private readonly List<NetworkItem> _items = [];
        private readonly List<int> _blocks = [];

        public void Stem(long outputs, long inputs, int kernel) => Layers("stem", [(outputs, inputs, kernel)]);

        // A negative kernel: a convolution that no norm follows.
        public void Block(int stage, ReadOnlySpan<(long Outputs, long Inputs, int Kernel)> layers)
        {
            while (_blocks.Count <= stage)
                _blocks.Add(0);
            _items.Add(new NetworkItem($"stage{stage + 1}/block{++_blocks[stage]}", true, [.. Describe(layers)]));
        }

        public NetworkOutline Head(long channels, long hidden, long classes)
        {
            if (hidden > 0)
                Layers("head", [(hidden, channels, 1)]);
            _items.Add(new NetworkItem("head", false, [new AlignedLayer($"{_items.Count}", AlignedKind.Linear, [classes, hidden > 0 ? hidden : channels])]));
            return new NetworkOutline([.. _items]);
        }

        private void Layers(string section, ReadOnlySpan<(long, long, int)> layers) => _items.AddRange(Describe(layers).Select(layer => new NetworkItem(section, false, [layer])));

        private List<AlignedLayer> Describe(ReadOnlySpan<(long Outputs, long Inputs, int Kernel)> layers)
        {
            var described = new List<AlignedLayer>();
            foreach ((long outputs, long inputs, int kernel) in layers)
            {
                string name = $"{_items.Count}.{described.Count}";
                described.Add(new AlignedLayer(name, AlignedKind.Convolution, [outputs, inputs, Math.Abs(kernel), Math.Abs(kernel)]));
                if (norms && kernel > 0)
                    described.Add(new AlignedLayer($"{name}.norm", AlignedKind.Norm, [outputs]));
            }

            return described;
        }
    }
}
