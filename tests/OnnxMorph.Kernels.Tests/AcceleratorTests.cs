using System.Reflection;
using System.Text.RegularExpressions;
using CsCheck;
using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using Xunit;

namespace OnnxMorph.Kernels.Tests;

public class AcceleratorTests
{
    private static readonly ElementFormat[] s_floats = [ElementFormat.Float16, ElementFormat.BFloat16, ElementFormat.Float32, ElementFormat.Float64];

    [Fact]
    public void TheSimulatorGivesTheBitsOfTheProcessor()
    {
        using KernelDevice simulator = KernelDevices.OpenSimulator();
        Gen<MapCase> cases = Gen.OneOf(
            MapCase.Any(Enum.GetValues<ElementFormat>(), pick: true), MapCase.Any(s_floats, pick: false));
        cases.Where(c => c.OutputShape.Aggregate(1L, (a, b) => a * b) < 300).Sample(
            c => Assert.Equal(
                c.Evaluate(KernelDevice.Simd, int.MaxValue, int.MaxValue), c.Evaluate(simulator, 7, int.MaxValue)),
            iter: 600, threads: 1);
    }

    [Fact]
    public void WindowsOfSeveralThreadsAndMapsKeepTheirBits()
    {
        // More threads than lanes, which take windows of maps with as many columns but others, and of all formats, in turns: what a lane keeps must never be another window's.
        using AcceleratorDevice simulator = KernelDevices.OpenSimulator();
        var random = new Random(5);
        (MapWindow Window, byte[] Source, byte[] Expected)[] windows = [.. Enumerable.Range(0, 40).Select(i =>
        {
            int size = random.Next(1, 9), rows = random.Next(1, 5);
            ElementFormat format = (ElementFormat)random.Next((int)ElementFormat.Float64 + 1);
            int[] sources = [.. Enumerable.Range(0, 20).Select(_ => random.Next(size + 2))];
            var columns = new AxisTerms(size, 2, [.. Enumerable.Range(0, sources.Length + 1)], sources, [.. sources.Select(_ => format.IsFloat() && i % 2 == 0 ? 0.75 : 1)]);
            var map = new TensorMap(format, [rows, size], [null, columns], format.IsFloat() ? new KernelFill(Distribution.Uniform, 1, (ulong)i, 0) : KernelFill.Constant(7));
            var window = new MapWindow(map, 0, rows, 0, map.RowLength);
            var source = new byte[window.SourceBytes];
            random.NextBytes(source);
            var expected = new byte[window.OutputBytes];
            KernelDevice.Simd.Map(window, source, expected);
            return (window, source, expected);
        })];
        Parallel.For(0, 5 * windows.Length, new ParallelOptions { MaxDegreeOfParallelism = 6 }, i =>
        {
            (MapWindow window, byte[] source, byte[] expected) = windows[i % windows.Length];
            var output = new byte[expected.Length];
            simulator.Map(window, source, output);
            Assert.Equal(expected, output);
        });
    }

    [Fact]
    public void AWindowThatIsTimedHasItsBits()
    {
        using AcceleratorDevice simulator = KernelDevices.OpenSimulator();
        var sums = new AxisTerms(3, 1, [0, 2, 3, 5], [0, 2, 1, 3, 0], [0.5, 0.5, 2, 1, 0.25]);
        var window = new MapWindow(new TensorMap(ElementFormat.Float32, [4, 3], [null, sums], new KernelFill(Distribution.Normal, 1, 2, 0)), 0, 4, 0, 3);
        byte[] source = new byte[window.SourceBytes], expected = new byte[window.OutputBytes], output = new byte[window.OutputBytes];
        new Random(1).NextBytes(source);
        KernelDevice.Simd.Map(window, source, expected);
        Assert.True(simulator.Time(window, source, output, times: 3) > TimeSpan.Zero);
        Assert.Equal(expected, output);
        Assert.True(simulator.TimeCopy(bytes: 5000, times: 2) > TimeSpan.Zero);
    }

    [Fact]
    public void PageLockedMemoryGrowsAndHoldsWhatTheDeviceSends()
    {
        using Context context = Context.Create(builder => builder.CPU());
        using Accelerator accelerator = context.CreateCPUAccelerator(0);
        using AcceleratorStream stream = accelerator.CreateStream();
        using var host = new PageLockedBuffer(accelerator);
        using var back = new PageLockedBuffer(accelerator);
        foreach (int bytes in new[] { 1, 4096, 100, 70_000 })
        {
            var content = new byte[bytes];
            Random.Shared.NextBytes(content);
            using MemoryBuffer1D<byte, Stride1D.Dense> there = accelerator.Allocate1D<byte>(80_000);
            host.Reserve(16 + bytes);
            content.CopyTo(host.Part(16, bytes));
            host.CopyTo(there, stream, 16, bytes);
            back.Reserve(bytes);
            back.CopyFrom(there, stream, bytes);
            stream.Synchronize();
            Assert.Equal(content, back.Part(0, bytes).ToArray());
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => host.Part(0, 1 << 20).Length);
    }

    [Fact]
    public void TheSimulatorIsNeverADefault()
    {
        Assert.DoesNotContain(KernelDevices.List(), d => d.Name.Contains("CPUAccelerator", StringComparison.OrdinalIgnoreCase));
        Assert.Contains(KernelDevices.List(), d => d.Choice == DeviceChoice.Cpu);
        Assert.Same(KernelDevice.Simd, KernelDevices.Open(DeviceChoice.Cpu));
        Assert.Equal(KernelDevice.Simd.Name, KernelDevices.Open(DeviceChoice.Auto).Name);
    }

    public static TheoryData<string, Type[]> Kernels => new()
    {
        { nameof(MapKernels.Pick), [typeof(byte), typeof(ConstantFresh<byte>)] },
        { nameof(MapKernels.Pick), [typeof(AcceleratorDevice.Bits128), typeof(ConstantFresh<AcceleratorDevice.Bits128>)] },
        { nameof(MapKernels.Pick), [typeof(float), typeof(RandomFresh<float, Float32Format>)] },
        { nameof(MapKernels.Scale), [typeof(float), typeof(Float32Format), typeof(RandomFresh<float, Float32Format>)] },
        { nameof(MapKernels.Scale), [typeof(double), typeof(Float64Format), typeof(ConstantFresh<double>)] },
        { nameof(MapKernels.Scale), [typeof(ushort), typeof(Float16Format), typeof(RandomFresh<ushort, Float16Format>)] },
        { nameof(MapKernels.Scale), [typeof(ushort), typeof(BFloat16Format), typeof(ConstantFresh<ushort>)] },
    };

    // What the driver could fuse is a product in a register that an addition reads; every product must be blinded first.
    [Theory]
    [MemberData(nameof(Kernels))]
    public void NothingInThePtxCanBeFusedOrIsUndefined(string name, Type[] types)
    {
        string ptx = Compile(typeof(MapKernels).GetMethod(name, BindingFlags.Static | BindingFlags.Public)!.MakeGenericMethod(types));
        Assert.DoesNotMatch(@"\bfma\.|\bmad\.[a-z.]*f(32|64)|approx|\.ftz", ptx);

        var defined = Regex.Matches(ptx, @"\.(?:func|entry)\s+(?:\([^)]*\)\s*)?([\w$]+)\s*\((?:[^)]*)\)\s*\{").Select(m => m.Groups[1].Value).ToHashSet();
        Assert.Contains(".entry", ptx);
        Assert.All(Regex.Matches(ptx, @"\bcall(?:\.uni)?\s+(?:\([^)]*\),\s*)?([\w$]+)").Select(m => m.Groups[1].Value), f => Assert.Contains(f, defined));

        HashSet<string> products = [];
        foreach (Match line in Regex.Matches(ptx, @"^\s*(?:@\S+\s+)?([a-z][\w.]*)\s+([^;]*);", RegexOptions.Multiline))
        {
            string operation = line.Groups[1].Value;
            string[] operands = [.. line.Groups[2].Value.Split(',').Select(o => o.Trim())];
            if (Regex.IsMatch(operation, @"^(add|sub)\.[a-z.]*f(32|64)$"))
                Assert.All(operands[1..], o => Assert.DoesNotContain(o, products));
            if (Regex.IsMatch(operation, @"^mul\.[a-z.]*f(32|64)$"))
                products.Add(operands[0]);
            else if (Regex.IsMatch(operation, @"^mov\.\w*$") && operands.Length == 2 && products.Contains(operands[1]))
                products.Add(operands[0]);
            else
                products.Remove(operands[0]);
        }
    }

    private static string Compile(MethodInfo kernel)
    {
        using Context context = Context.Create(builder => builder.CPU());
        using var backend = new PTXBackend(
            context, new CudaCapabilityContext(CudaArchitecture.SM_80), CudaArchitecture.SM_80, CudaInstructionSet.ISA_70, null);
        EntryPointDescription entry = EntryPointDescription.FromImplicitlyGroupedKernel(kernel);
        return ((PTXCompiledKernel)backend.Compile(entry, default)).PTXAssembly;
    }
}
