namespace OnnxMorph.Ranking;

/// <summary>A model that could not be read.</summary>
/// <param name="Path">Its file, as it was named.</param>
/// <param name="Reason">Why.</param>
public sealed record UnreadModel(string Path, string Reason);

/// <summary>Reading many models, of which one may be bad.</summary>
internal static class ModelReading
{
    /// <summary>Reads a model; gives the reason where that fails, which must not stop the others.</summary>
    public static UnreadModel? Try(string path, Action read)
    {
        try
        {
            read();
            return null;
        }
        catch (OnnxMorphException e)
        {
            return new UnreadModel(path, e.Message);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new UnreadModel(path, $"'{path}' cannot be read: {e.Message}");
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return new UnreadModel(path, $"This is a defect of onnxmorph; please report it with the model and this text: {e.GetType().Name}: {e.Message}");
        }
    }
}
