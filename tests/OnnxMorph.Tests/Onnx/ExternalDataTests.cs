using OnnxMorph.Onnx;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

public sealed class ExternalDataTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public ExternalDataTests()
    {
        _folder.Write("secret", new byte[8]);
        _folder.Write("models/w.data", [1, 2, 3, 4, 5, 6, 7, 8]);
        _folder.Write("models/sub/w.data", [8, 7, 6, 5, 4, 3, 2, 1]);
    }

    public void Dispose() => _folder.Dispose();

    private OnnxModel Read(TensorProto tensor) => OnnxReader.Read(_folder.Write("models/m.onnx", Models.With(tensor)));

    private void Refuses(TensorProto tensor, string words)
    {
        var e = Assert.Throws<UnreadableModelException>(() => Read(tensor));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.Contains("initializer 'w'", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("w.data", 1)]
    [InlineData("./w.data", 1)]
    [InlineData("sub/w.data", 8)]
    public void FilesInTheFolderAreFoundWhateverTheWorkingDirectory(string location, byte first)
    {
        OnnxModel model = Read(Models.External("w", [2], location));
        TensorProto tensor = model.Proto.Graph.Initializer[0];
        Assert.Equal(first, StoredWeights.Bytes(model.Data(tensor))[0]);
        Assert.False(tensor.HasDataLocation);
        Assert.Empty(tensor.ExternalData);
    }

    [Theory]
    [InlineData("../secret")]
    [InlineData("sub/../../secret")]
    [InlineData("..\\secret")]
    [InlineData("sub\\..\\..\\secret")]
    [InlineData("/etc/hostname")]
    [InlineData("\\\\server\\share\\secret")]
    [InlineData("C:\\secret")]
    [InlineData("C:secret")]
    [InlineData("w.data\0")]
    [InlineData("")]
    public void PathsOutOfTheFolderAreRefused(string location) =>
        Refuses(Models.External("w", [2], location), "not a path inside the model's folder");

    [Theory]
    [InlineData("../secret")]
    [InlineData("{root}/secret")]
    [InlineData("sub/loop/../../../secret")]
    public void LinksOutOfTheFolderAreRefused(string target)
    {
        File.CreateSymbolicLink(_folder["models/link"], target.Replace("{root}", _folder.Root, StringComparison.Ordinal));
        Directory.CreateSymbolicLink(_folder["models/sub/loop"], ".");
        Refuses(Models.External("w", [2], "link"), "a link that leaves the model's folder");
    }

    [Fact]
    public void LinkedFoldersOutOfTheFolderAreRefused()
    {
        Directory.CreateSymbolicLink(_folder["models/up"], "..");
        Refuses(Models.External("w", [2], "up/secret"), "a link that leaves the model's folder");
    }

    [Fact]
    public void LinksWithoutEndAreRefused()
    {
        File.CreateSymbolicLink(_folder["models/a"], "b");
        File.CreateSymbolicLink(_folder["models/b"], "a");
        Assert.Throws<UnreadableModelException>(() => Read(Models.External("w", [2], "a")));
    }

    [Fact]
    public void LinksInsideTheFolderAreFollowed()
    {
        File.CreateSymbolicLink(_folder["models/link"], "sub/w.data");
        OnnxModel model = Read(Models.External("w", [2], "link"));
        Assert.Equal(8, StoredWeights.Bytes(model.Data(model.Proto.Graph.Initializer[0]))[0]);
    }

    /// <summary>The cache of a model hub: names in one folder, all of them links to files in another.</summary>
    [Fact]
    public void AModelThatIsALinkMayHaveItsDataWhereItReallyIs()
    {
        _folder.Write("blobs/abc", Models.With(Models.External("w", [2], "w.data")));
        _folder.Write("blobs/def", [9, 0, 0, 0, 0, 0, 0, 0]);
        Directory.CreateDirectory(_folder["snapshot"]);
        File.CreateSymbolicLink(_folder["snapshot/m.onnx"], "../blobs/abc");
        File.CreateSymbolicLink(_folder["snapshot/w.data"], "../blobs/def");
        OnnxModel model = OnnxReader.Read(_folder["snapshot/m.onnx"]);
        Assert.Equal(9, StoredWeights.Bytes(model.Data(model.Proto.Graph.Initializer[0]))[0]);
    }

    [Fact]
    public void WhatIsNotThereIsRefused()
    {
        Refuses(Models.External("w", [2], "other.data"), "not in the model's folder");
        Refuses(Models.External("w", [2], "sub"), "not in the model's folder");
        Refuses(Models.External("w", [2], "w.data", 4, 8), "which has only 8");
        Refuses(Models.External("w", [2], "w.data", 9), "which has only 8");
        Refuses(Models.External("w", [2], "w.data", long.MaxValue), "which has only 8");
        Refuses(Models.External("w", [2], "w.data", 0, 4), "need 8");
        Refuses(Models.External("w", [3], "w.data"), "which has only 8");
        Refuses(Models.External("w", [2], "w.data", -4), "the offset '-4', which is not a number");
        TensorProto without = Models.External("w", [2], "w.data");
        without.ExternalData.Clear();
        Refuses(without, "does not say where");
        TensorProto text = Models.External("w", [2], "w.data");
        text.DataType = (int)ElementType.String;
        Refuses(text, "holds text outside the model");
        TensorProto twice = Models.External("w", [2], "w.data");
        twice.FloatData.AddRange([1, 2]);
        Refuses(twice, "twice");
    }

    [Fact]
    public void AStreamHasNoFolder()
    {
        var e = Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(
            Google.Protobuf.MessageExtensions.ToByteArray(Models.With(Models.External("w", [2], "w.data"))))));
        Assert.Contains("did not come from a file", e.Message, StringComparison.Ordinal);
    }
}
