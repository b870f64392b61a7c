using System.Diagnostics;
using System.Reflection;

namespace OnnxMorph.Build.Tests;

/// <summary>Projects whose build morphs a model.</summary>
public sealed class BuildTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("onnxmorph-test-");

    public BuildTests() => File.Copy(Path("Models") + "digits_resnet.onnx", In("parent.onnx"));

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task A_project_morphs_once_and_again_only_when_something_has_changed()
    {
        string project = Write("""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup><TargetFramework>net10.0</TargetFramework></PropertyGroup>
              <ItemGroup>
                <OnnxMorph Include="parent.onnx" Child="$(IntermediateOutputPath)child.onnx" Widen="$(Widen)" Seed="7" Inputs="$(Samples)" />
                <None Include="$(IntermediateOutputPath)child.onnx" Link="child.onnx" CopyToOutputDirectory="PreserveNewest" />
              </ItemGroup>
              {0}
            </Project>
            """);
        string samples = $"-p:Samples={Path("Models")}digits_samples.npz";
        await Succeed("build", project, "-p:Widen=*=x1.5", samples);
        string child = Directory.GetFiles(In("bin"), "child.onnx", SearchOption.AllDirectories).Single();
        string made = Directory.GetFiles(In("obj"), "child.onnx", SearchOption.AllDirectories).Single();
        Assert.Equal(await Expected("--widen", "*=x1.5", "--seed", "7"), File.ReadAllBytes(child));

        DateTime first = File.GetLastWriteTimeUtc(made);
        await Succeed("build", project, "-p:Widen=*=x1.5", samples);
        Assert.Equal(first, File.GetLastWriteTimeUtc(made));

        await Succeed("build", project, "-p:Widen=*=x2", samples);
        Assert.Equal(await Expected("--widen", "*=x2", "--seed", "7"), File.ReadAllBytes(child));

        DateTime second = File.GetLastWriteTimeUtc(made);
        File.SetLastWriteTimeUtc(In("parent.onnx"), DateTime.UtcNow.AddSeconds(2));
        await Succeed("build", project, "-p:Widen=*=x2", samples);
        Assert.True(File.GetLastWriteTimeUtc(made) > second);

        await Succeed("clean", project);
        Assert.False(File.Exists(made));
    }

    [Fact]
    public async Task Several_models_and_steps()
    {
        string project = Write("""
            <Project DefaultTargets="OnnxMorph">
              <ItemGroup>
                <OnnxMorph Include="parent.onnx" Child="a.onnx" Widen="/3/conv1/*=11;/4/conv1/*=12" Deepen="/8/*" Kernel="/0/Conv=5" Certificate="a.json" />
                <OnnxMorph Include="parent.onnx" Child="b file.onnx" Kernel="*=+2" />
              </ItemGroup>
              {0}
            </Project>
            """);
        await Succeed("msbuild", project);
        Assert.Equal(await Expected("--widen", "/3/conv1/*=11", "--widen", "/4/conv1/*=12", "--deepen", "/8/*", "--kernel", "/0/Conv=5"), File.ReadAllBytes(In("a.onnx")));
        Assert.Equal(await Expected("--kernel", "*=+2"), File.ReadAllBytes(In("b file.onnx")));
        Assert.True(File.Exists(In("a.json")));
    }

    [Theory]
    [InlineData("""<OnnxMorph Include="parent.onnx" Child="child.onnx" Widen="/11/Gemm=x2" />""", "ONNXMORPH004", "logits")]
    [InlineData("""<OnnxMorph Include="parent.onnx" Child="child.onnx" Widen="*=wide" />""", "ONNXMORPH002", "'wide'")]
    [InlineData("""<OnnxMorph Include="model.proj" Child="child.onnx" Widen="*=x2" />""", "ONNXMORPH003", "not an ONNX model")]
    [InlineData("""<OnnxMorph Include="missing.onnx" Child="child.onnx" Widen="*=x2" />""", "ONNXMORPH005", "does not exist")]
    [InlineData("""<OnnxMorph Include="parent.onnx" Widen="*=x2" />""", "ONNXMORPH002", "names no Child")]
    public async Task A_failure_is_an_error_with_its_code_and_reason(string item, string code, string reason)
    {
        string project = Write($"<Project DefaultTargets=\"OnnxMorph\"><ItemGroup>{item}</ItemGroup>{{0}}</Project>");
        (int exit, string output) = await Run("msbuild", project);
        Assert.NotEqual(0, exit);
        string error = Assert.Single(output.Split('\n'), line => line.Contains(": error "));
        Assert.Contains($"error {code}: ", error);
        Assert.Contains(reason, error);
        Assert.False(File.Exists(In("child.onnx")));
    }

    // What the command writes when it is called directly.
    private async Task<byte[]> Expected(params string[] steps)
    {
        string file = In("expected.onnx");
        await Succeed([Path("Command"), "morph", In("parent.onnx"), "-o", file, "--force", "--no-verify", .. steps]);
        return File.ReadAllBytes(file);
    }

    private string Write(string project)
    {
        string import = $"""
            <PropertyGroup><OnnxMorphCommand>{Path("Command")}</OnnxMorphCommand><OnnxMorphTaskAssembly>{Path("Task")}</OnnxMorphTaskAssembly></PropertyGroup>
            <Import Project="{Path("Targets")}" />
            """;
        string file = In(project.Contains("Sdk=") ? "model.csproj" : "model.proj");
        File.WriteAllText(file, project.Replace("{0}", import));
        return file;
    }

    private async Task Succeed(params string[] args)
    {
        (int exit, string output) = await Run(args);
        Assert.True(exit == 0, output);
    }

    private async Task<(int Exit, string Output)> Run(params string[] args)
    {
        bool build = args[0] is "build" or "clean" or "msbuild";
        // Servers that outlive the build would hold the task's assembly and this process's output.
        string[] quiet = build ? ["-nologo", "-v:minimal", "-nodeReuse:false", "-p:UseSharedCompilation=false"] : [];
        using Process process = Process.Start(new ProcessStartInfo("dotnet", [.. args, .. quiet])
        {
            WorkingDirectory = _folder.FullName,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["DOTNET_CLI_UI_LANGUAGE"] = "en" },
        })!;
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, output + await error);
    }

    private string In(string file) => System.IO.Path.Combine(_folder.FullName, file);

    private static string Path(string name) =>
        typeof(BuildTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == name).Value!;
}
