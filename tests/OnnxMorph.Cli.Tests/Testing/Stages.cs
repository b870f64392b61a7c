namespace OnnxMorph.Cli.Tests.Testing;

/// <summary>Acts when a job says what it is at, before it goes on.</summary>
internal sealed class Stages(Action<string> report) : IProgress<string>
{
    public void Report(string value) => report(value);
}
