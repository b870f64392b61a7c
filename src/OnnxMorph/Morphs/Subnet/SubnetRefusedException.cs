namespace OnnxMorph.Morphs.Subnet;

/// <summary>A layer that a kind of subnet does not fit; the pass reports it and goes on.</summary>
/// <param name="why">The reason, as <see cref="Axes.Pin.Why"/> takes it.</param>
internal sealed class SubnetRefusedException(string why) : Exception(why);
