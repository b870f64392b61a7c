using System.Reflection;
using System.Text.RegularExpressions;
using CsCheck;
using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
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
    public void TheSimulatorIsNeverADefault()
    {
        Assert.DoesNotContain(KernelDevices.List(), d => d.Name.Contains("CPUAccelerator", StringComparison.OrdinalIgnoreCase));
        Assert.Contains(KernelDevices.List(), d => d.Choice == DeviceChoice.Cpu);
        Assert.Same(KernelDevice.Simd, KernelDevices.Open(DeviceChoice.Cpu));
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
