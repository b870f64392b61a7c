namespace OnnxMorph.Verification;

/// <summary>How much is run, decided by the size of the larger model alone, so that the same files get the same report.</summary>
/// <param name="Draws">Draws of random inputs that are compared.</param>
/// <param name="Perturbations">Runs of the parent with perturbed inputs for each draw; half as many sessions with perturbed weights.</param>
/// <param name="EveryLevel">Whether the parent also runs at basic optimisation, and with several threads apart from that.</param>
internal sealed record Effort(int Draws, int Perturbations, bool EveryLevel)
{
    private const long Large = 256L << 20;

    public static Effort For(string parentPath, string childPath) =>
        Math.Max(Size(parentPath), Size(childPath)) < Large ? new Effort(8, 8, true) : new Effort(3, 3, false);

    /// <summary>Bytes of the model file and of external data beside it, whose names begin with the model's.</summary>
    private static long Size(string path)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        return Directory.Exists(folder)
            ? Directory.EnumerateFiles(folder, Path.GetFileName(path) + "*").Sum(file => new FileInfo(file).Length)
            : 0;
    }
}
