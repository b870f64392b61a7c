using OnnxMorph.Verification;

namespace OnnxMorph.Calibration;

/// <summary>Mean and variance of a channel, joined piece by piece (Chan, Golub, LeVeque 1979), so that large means lose nothing.</summary>
internal sealed class ChannelMoments
{
    private double _squares;

    /// <summary>How many values were seen.</summary>
    public double Count { get; private set; }

    /// <summary>Their mean; 0 where there were none.</summary>
    public double Mean { get; private set; }

    /// <summary>Their variance, the mean of squared distances; 0 where there were none.</summary>
    public double Variance => Count == 0 ? 0 : _squares / Count;

    /// <summary>Takes values.</summary>
    public void Add(ReadOnlySpan<double> values)
    {
        if (values.IsEmpty)
            return;
        double sum = 0, squares = 0;
        foreach (double value in values)
            sum += value;
        double mean = sum / values.Length;
        foreach (double value in values)
            squares += (value - mean) * (value - mean);
        Add(values.Length, mean, squares);
    }

    /// <summary>Takes what others have seen.</summary>
    public void Add(ChannelMoments other) => Add(other.Count, other.Mean, other._squares);

    private void Add(double number, double mean, double squares)
    {
        if (number == 0)
            return;
        double count = Count + number, shift = mean - Mean;
        Mean += shift * number / count;
        _squares += squares + shift * shift * Count * number / count;
        Count = count;
    }

    /// <summary>Takes a tensor, channel by channel.</summary>
    /// <param name="channels">One for each channel; made where there are none yet.</param>
    /// <param name="data">The tensor.</param>
    /// <param name="axis">Its axis of channels.</param>
    public static void Add(List<ChannelMoments> channels, TensorData data, int axis)
    {
        int count = (int)data.Shape[axis], positions = (int)data.Shape[(axis + 1)..].Aggregate(1L, (a, b) => a * b);
        while (channels.Count < count)
            channels.Add(new ChannelMoments());
        var values = new double[Math.Max(positions, 1)];
        if (positions > 1)
        {
            for (int row = 0; row * positions < data.Count; row++)
            {
                data.ReadDoubles(row * positions, values);
                channels[row % count].Add(values);
            }
        }
        else
        {
            // Channels last: a channel's values lie apart.
            double[] all = data.ToDoubles();
            var column = new double[all.Length / Math.Max(count, 1)];
            for (int c = 0; c < count; c++)
            {
                for (int row = 0; row < column.Length; row++)
                    column[row] = all[row * count + c];
                channels[c].Add(column);
            }
        }
    }
}
