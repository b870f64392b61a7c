using BenchmarkDotNet.Running;
using OnnxMorph.Benchmarks;

BenchmarkSwitcher.FromAssembly(typeof(MapBenchmarks).Assembly).Run(args);
