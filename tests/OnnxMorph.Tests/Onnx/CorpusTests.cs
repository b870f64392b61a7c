using System.ComponentModel;
using System.Diagnostics;
using OnnxMorph.Onnx;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

/// <summary>
/// The models of ONNX's own test suite, which Debian packages as libonnx-testdata. ONNX_TEST_DATA may name another folder.
/// </summary>
public class CorpusTests
{
    [Fact]
    public void EveryModelOfTheOnnxTestSuiteIsWrittenAsItWasRead()
    {
        string[] files = [.. ModelFiles()];
        if (files.Length == 0)
            Assert.Skip("SKIPPED: no ONNX test suite here; install the Debian package libonnx-testdata or set ONNX_TEST_DATA to a folder with models.");
        using var folder = new TemporaryFolder();
        for (int i = 0; i < files.Length; i++)
        {
            OnnxModel model = OnnxReader.Read(files[i]);
            string output = model.Write(folder[$"{i}.onnx"]).Path;
            byte[] before = File.ReadAllBytes(files[i]), after = File.ReadAllBytes(output);
            if (!before.AsSpan().SequenceEqual(after))
                Assert.True(ModelProto.Parser.ParseFrom(before).Equals(ModelProto.Parser.ParseFrom(after)), files[i]);
            File.Delete(output);
        }

        TestContext.Current.SendDiagnosticMessage("{0} models of the ONNX test suite written as they were read.", files.Length);
    }

    private static IEnumerable<string> ModelFiles()
    {
        if (Environment.GetEnvironmentVariable("ONNX_TEST_DATA") is { Length: > 0 } folder)
            return Directory.EnumerateFiles(folder, "*.onnx", SearchOption.AllDirectories);
        try
        {
            using Process dpkg = Process.Start(new ProcessStartInfo("dpkg", ["-L", "libonnx-testdata"]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            string listing = dpkg.StandardOutput.ReadToEnd();
            return listing.Split('\n').Where(line => line.EndsWith(".onnx", StringComparison.Ordinal));
        }
        catch (Win32Exception)
        {
            return [];
        }
    }
}
